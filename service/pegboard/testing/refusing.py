"""Rules for invalid and unauthorized requests: precise errors, and never a 500."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import strategies as st

from pegboard.http.request import VERBS
from pegboard.testing.client import Response
from pegboard.testing.strategies import ANYTHING
from pegboard.testing.subject import Body, Draw, Subject

_PATCHES = "application/json, application/merge-patch+json, application/json-patch+json"


def refuses_invalid_values(subject: Subject, draw: Draw) -> None:
    """Check that any value of a field is accepted or a 422 that points to it, as the document describes."""
    if not subject.writable:
        pytest.skip(f"{subject.name} has no field that clients write")
    name = draw(st.sampled_from(subject.writable))
    value = draw(ANYTHING | subject.outside(name))
    verb = "POST" if "POST" in subject.verbs else "PUT"
    body = {**draw(subject.bodies), name: value}
    if verb == "POST":
        _expect_valid_or_refused(subject, subject.send("POST", subject.path, body), name, value, remove=True)
        return
    with subject.item(draw) as item:
        response = subject.send("PUT", subject.path_of(item), body, headers=subject.match_headers(item))
        _expect_valid_or_refused(subject, response, name, value, remove=False)


def refuses_incomplete_bodies(subject: Subject, draw: Draw) -> None:
    """Check that a missing required field and an unknown field are a 422 that points to the field."""
    body = draw(subject.bodies)
    required = [name for name, field in subject.fields.items() if field.required and not field.dump_only]
    if "POST" in subject.verbs:
        for name in required:
            incomplete = {key: value for key, value in body.items() if key != name}
            subject.expect_error_at(subject.send("POST", subject.path, incomplete), f"/{_escaped(name)}")
        subject.expect_error_at(subject.send("POST", subject.path, {**body, "no such field": 1}), "/no such field")
    for verb in {"PUT", "PATCH"}.intersection(subject.item_verbs):
        with subject.item(draw) as item:
            response = subject.send(
                verb, subject.path_of(item), {**body, "no such field": 1}, headers=subject.match_headers(item)
            )
            subject.expect_error_at(response, "/no such field")


def refuses_malformed_bodies(subject: Subject, draw: Draw) -> None:
    """Check that a malformed body is a 400, and an unsupported media type a 415 that lists the supported ones."""
    with subject.item(draw) as item:
        for verb, path in _write_paths(subject, item):
            for malformed in (b"{", b'{"a": NaN}', b"\xff", b"[[]]" if verb == "PUT" else b"5", b""):
                headers = {"Content-Type": "application/json", **subject.match_headers(item)}
                response = subject.send(verb, path, data=malformed, headers=headers)
                subject.expect_status(response, 400, request=f"{verb} with {malformed!r}")
            for media_type in ("text/plain", "application/json; charset=latin-1"):
                headers = {"Content-Type": media_type, **subject.match_headers(item)}
                response = subject.send(verb, path, data=b"{}", headers=headers)
                subject.expect_status(response, 415, request=f"{verb} with {media_type}")
                header = "Accept-Patch" if verb == "PATCH" else "Accept"
                listed = response.headers.get(header)
                subject.expect(listed, f"{verb} with {media_type}: expected the media types in {header}, got none")


def refuses_unsupported_accept(subject: Subject, draw: Draw) -> None:
    """Check that GET with an unsupported `Accept` is a 406."""
    with subject.item(draw) as item:
        for path, verbs in ((subject.path, subject.collection_verbs), (subject.path_of(item), subject.item_verbs)):
            if "GET" in verbs:
                response = subject.send("GET", path, headers={"Accept": "image/png, text/plain;q=0.5"})
                subject.expect_status(response, 406)
                for accepted in ("*/*", "application/*;q=0.1", "application/json"):
                    subject.expect_status(subject.send("GET", path, headers={"Accept": accepted}), 200)


def returns_404_for_an_unknown_id(subject: Subject, draw: Draw) -> None:
    """Check that an unknown id and an invalid id are a 404 for every verb."""
    bodies: dict[str, Any] = {"PUT": draw(subject.bodies) if "PUT" in subject.verbs else None, "PATCH": {}}
    ids = (str(uuid4()), str(2**63 - 1), "00000000-0000-0000-0000-000000000000", "no-such-item", "%00", "x" * 300)
    for id in ids:
        for verb in subject.item_verbs:
            body = bodies.get(verb)
            if verb == "PUT":
                body = subject.with_key(body or {}, id)
                if subject.resource.creates_by_put or not subject.can_replace(body, id):
                    continue
            response = subject.send(verb, f"{subject.path}/{id}", body, headers=subject.match_headers({}))
            subject.expect_status(response, 404, 412, request=f"{verb} on a missing item")


def allows_only_the_declared_verbs(subject: Subject, draw: Draw) -> None:
    """Check that an undeclared verb is a 405, and `Allow` lists the declared ones, as for OPTIONS."""
    with subject.item(draw) as item:
        for path, verbs in ((subject.path, subject.collection_verbs), (subject.path_of(item), subject.item_verbs)):
            if not verbs:
                continue
            options = subject.send("OPTIONS", path)
            subject.expect_status(options, 204)
            subject.expect_equal(allowed(options), {*verbs, "OPTIONS"}, "Allow in the response to OPTIONS")
            if "PATCH" in verbs:
                accepted = options.headers.get("Accept-Patch")
                subject.expect_equal(accepted, _PATCHES, "Accept-Patch in the response to OPTIONS")
            for verb in set(VERBS) - set(verbs):
                response = subject.send(verb, path, {} if verb in ("POST", "PUT", "PATCH") else None)
                subject.expect_status(response, 405, request=verb)
                subject.expect_equal(allowed(response), {*verbs, "OPTIONS"}, f"Allow in the 405 for {verb}")


def requires_credentials(subject: Subject, draw: Draw) -> None:
    """Check that missing and wrong credentials are a 401 with a challenge, unless the verb is public."""
    anonymous = subject.running.client.as_client("", "")
    unknown = subject.running.client.as_client(str(uuid4()), "x" * 20)
    with subject.item(draw) as item:
        for verb, path, public in _all_verbs(subject, item):
            if public:
                continue
            for client in (anonymous, unknown) if verb == "GET" else (anonymous,):
                response = subject.send(verb, path, _harmless_body(verb), client)
                subject.expect_status(response, 401, request=f"{verb} by an unknown client")
                challenge = response.headers.get("WWW-Authenticate", "")
                rule = f"WWW-Authenticate of a 401: expected a challenge for Basic authentication, got {challenge!r}"
                subject.expect(challenge.startswith("Basic "), rule)


def requires_a_grant(subject: Subject, draw: Draw) -> None:
    """Check that a verb is a 403 without its grant, and allowed with that grant alone."""
    without_grants = subject.running.client_with()
    with subject.item(draw) as item:
        for verb, path, public in _all_verbs(subject, item):
            if public:
                continue
            response = subject.send(verb, path, _harmless_body(verb), without_grants)
            subject.expect_status(response, 403, request=f"{verb} without its grant")
        for verb in sorted({verb for verb, _, public in _all_verbs(subject, item) if not public} - {"HEAD", "DELETE"}):
            with_grant = subject.running.client_with(f"{subject.name}:{verb}")
            for other, path, public in _all_verbs(subject, item):
                if not public:
                    _expect_granted(subject, verb, other, subject.send(other, path, _harmless_body(other), with_grant))


def refuses_invalid_parameters(subject: Subject, draw: Draw) -> None:
    """Check that an unknown parameter and an invalid value are a 400 that names the parameter."""
    collection = (
        *("no_such_field=1", "limit=0", "limit=x", f"limit={subject.rules.max_limit + 1}", "limit=1&limit=1"),
        *("after=AAAA", "before=%00", "sort=no_such_field", "sort=", "fields=no_such_field", "fields=", "count=some"),
        *("id__near=1", "expand=no_such_field", "%FF=1", "sort=id,id"),
    )
    if "GET" in subject.collection_verbs:
        for text in collection:
            _expect_parameter_error(subject, f"{subject.path}?{text}", text)
    with subject.item(draw) as item:
        if "GET" in subject.item_verbs:
            for text in ("limit=1", "no_such_field=1", "fields=no_such_field"):
                _expect_parameter_error(subject, f"{subject.path_of(item)}?{text}", text)


def _expect_valid_or_refused(subject: Subject, response: Response, name: str, value: Any, *, remove: bool) -> None:
    if response.status in (200, 201):
        if remove:
            subject.remove(response.json)
        rule = f"{name}: expected a 422 for a value that the document excludes, got {response.status}: {value!r}"
        subject.expect(subject.accepts(name, value), rule)
    elif response.status == 422:
        locations = [location for _, location in response.errors]
        outside = [location for location in locations if location is None or not _points_into_body(location, subject)]
        subject.expect(not outside, f"expected errors that point to fields of the body, got errors at {locations}")
    else:
        # Also refused is a body without regard to this value, or an item that others conflict with.
        subject.expect_status(response, 201, 422, 400, 403, 409, request=f"{name} with the value {value!r}")


def _points_into_body(pointer: str, subject: Subject) -> bool:
    first = pointer.split("/")[1].replace("~1", "/").replace("~0", "~") if "/" in pointer else ""
    return pointer == "" or first in subject.fields


def _expect_parameter_error(subject: Subject, path: str, text: str) -> None:
    response = subject.send("GET", path)
    subject.expect_status(response, 400, request=f"?{text}")
    unnamed = [error for error in response.json["errors"] if "parameter" not in error]
    subject.expect(not unnamed, f"?{text}: expected errors that name the parameter, got {unnamed}")


def _expect_granted(subject: Subject, granted: str, verb: str, response: Response) -> None:
    request = f"{verb} with the grant {subject.name}:{granted}"
    if ("GET" if verb == "HEAD" else verb) == granted:
        is_allowed = response.status not in (401, 403)
        subject.expect(is_allowed, f"{request}: expected it to be allowed, got the status {response.status}")
    else:
        subject.expect_status(response, 403, request=request)


def _write_paths(subject: Subject, item: Body) -> list[tuple[str, str]]:
    collection = [("POST", subject.path)] if "POST" in subject.collection_verbs else []
    return collection + [(verb, subject.path_of(item)) for verb in subject.item_verbs if verb in ("PUT", "PATCH")]


def _all_verbs(subject: Subject, item: Body) -> list[tuple[str, str, bool]]:
    collection = [(verb, subject.path, subject.is_public(verb)) for verb in subject.collection_verbs]
    return collection + [
        (verb, subject.path_of(item), subject.is_public(verb, item=True)) for verb in subject.item_verbs
    ]


def _harmless_body(verb: str) -> Any:
    """Return a body that changes nothing even if the verb is allowed."""
    return {"no such field": 1} if verb in ("POST", "PUT", "PATCH") else None


def allowed(response: Response) -> set[str]:
    """Return the methods in `Allow`."""
    return {verb.strip() for verb in response.headers.get("Allow", "").split(",")}


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
