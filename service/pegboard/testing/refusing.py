"""What a resource owes those who err, and those who may not: a refusal that says what and where, and never a 500."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import strategies as st

from pegboard.api.resource import VERBS
from pegboard.testing.client import Response
from pegboard.testing.strategies import ANYTHING
from pegboard.testing.subject import Body, Draw, Subject

_PATCHES = "application/json, application/merge-patch+json, application/json-patch+json"


def refuses_wrong_values(subject: Subject, draw: Draw) -> None:
    """Check that whatever stands in a field is taken or pointed at, and what the document excludes is a 422."""
    if not subject.writable:
        pytest.skip(f"{subject.name} has no field that clients write")
    name = draw(st.sampled_from(subject.writable))
    value = draw(ANYTHING | subject.outside(name))
    verb = "POST" if "POST" in subject.verbs else "PUT"
    body = {**draw(subject.bodies), name: value}
    if verb == "POST":
        _expect_judged(subject, subject.send("POST", subject.path, body), name, value, remove=True)
        return
    with subject.item(draw) as item:
        response = subject.send("PUT", subject.at(item), body, headers=subject.match(item))
        _expect_judged(subject, response, name, value, remove=False)


def refuses_incomplete_bodies(subject: Subject, draw: Draw) -> None:
    """Check that a required field that is absent, and a field that is not known, is a 422 that points at it."""
    body = draw(subject.bodies)
    required = [name for name, field in subject.fields.items() if field.required and not field.dump_only]
    if "POST" in subject.verbs:
        for name in required:
            lacking = {key: value for key, value in body.items() if key != name}
            _expect_fault(subject, subject.send("POST", subject.path, lacking), f"/{_escaped(name)}")
        _expect_fault(subject, subject.send("POST", subject.path, {**body, "no such field": 1}), "/no such field")
    for verb in {"PUT", "PATCH"}.intersection(subject.on_items):
        with subject.item(draw) as item:
            response = subject.send(verb, subject.at(item), {**body, "no such field": 1}, headers=subject.match(item))
            _expect_fault(subject, response, "/no such field")


def refuses_bodies_of_another_form(subject: Subject, draw: Draw) -> None:
    """Check that a body that is no JSON or no object is a 400, and another media type a 415 that names those taken."""
    with subject.item(draw) as item:
        for verb, path in _writing(subject, item):
            for broken in (b"{", b'{"a": NaN}', b"\xff", b"[[]]" if verb == "PUT" else b"5", b""):
                headers = {"Content-Type": "application/json", **subject.match(item)}
                response = subject.send(verb, path, data=broken, headers=headers)
                subject.expect(response.status == 400, f"{verb} with {broken!r} is a 400, not {response.status}")
            for kind in ("text/plain", "application/json; charset=latin-1"):
                headers = {"Content-Type": kind, **subject.match(item)}
                response = subject.send(verb, path, data=b"{}", headers=headers)
                subject.expect_status(response, 415)
                named = "Accept-Patch" if verb == "PATCH" else "Accept"
                subject.expect(response.headers.get(named), f"a 415 to {verb} names what is taken in {named}")


def offers_nothing_but_json(subject: Subject, draw: Draw) -> None:
    """Check that GET with an `Accept` that nothing meets is a 406."""
    with subject.item(draw) as item:
        for path, verbs in ((subject.path, subject.on_collection), (subject.at(item), subject.on_items)):
            if "GET" in verbs:
                response = subject.send("GET", path, headers={"Accept": "image/png, text/plain;q=0.5"})
                subject.expect_status(response, 406)
                for taken in ("*/*", "application/*;q=0.1", "application/json"):
                    subject.expect_status(subject.send("GET", path, headers={"Accept": taken}), 200)


def knows_no_other_items(subject: Subject, draw: Draw) -> None:
    """Check that an id that no item has, and what can be no id, is a 404 for every verb."""
    bodies: dict[str, Any] = {"PUT": draw(subject.bodies) if "PUT" in subject.verbs else None, "PATCH": {}}
    for identity in (str(uuid4()), "00000000-0000-0000-0000-000000000000", "no-such-item", "%00", "x" * 300):
        for verb in subject.on_items:
            if verb == "PUT" and subject.resource.creates_by_put:
                continue
            response = subject.send(verb, f"{subject.path}/{identity}", bodies.get(verb), headers=subject.match({}))
            subject.expect(
                response.status in (404, 412), f"{verb} on an item that is not there is a 404, not {response.status}"
            )


def allows_only_its_verbs(subject: Subject, draw: Draw) -> None:
    """Check that a verb that is not declared is a 405; `Allow` names those that are, as OPTIONS does."""
    with subject.item(draw) as item:
        for path, there in ((subject.path, subject.on_collection), (subject.at(item), subject.on_items)):
            if not there:
                continue
            options = subject.send("OPTIONS", path)
            subject.expect_status(options, 204)
            subject.expect(allowed(options) == {*there, "OPTIONS"}, "OPTIONS names the verbs in Allow", sorted(there))
            if "PATCH" in there:
                subject.expect(options.headers.get("Accept-Patch") == _PATCHES, "OPTIONS names the kinds of patches")
            for verb in set(VERBS) - set(there):
                response = subject.send(verb, path, {} if verb in ("POST", "PUT", "PATCH") else None)
                subject.expect_status(response, 405)
                subject.expect(allowed(response) == {*there, "OPTIONS"}, "a 405 names the verbs in Allow")


def asks_who_one_is(subject: Subject, draw: Draw) -> None:
    """Check that no credentials, and wrong ones, are a 401 with the challenge, unless the verb is public."""
    nobody, liar = subject.running.client.as_client("", ""), subject.running.client.as_client(str(uuid4()), "x" * 20)
    with subject.item(draw) as item:
        for verb, path, public in _all_verbs(subject, item):
            if public:
                continue
            for client in (nobody, liar) if verb == "GET" else (nobody,):
                response = subject.send(verb, path, _harmless(verb), client)
                subject.expect(response.status == 401, f"{verb} by an unknown client is a 401, not {response.status}")
                challenge = response.headers.get("WWW-Authenticate", "")
                subject.expect(challenge.startswith("Basic "), "a 401 says how to authenticate", challenge)


def asks_for_a_grant(subject: Subject, draw: Draw) -> None:
    """Check that a verb is a 403 for a client that does not hold its grant, and open to one that holds no other."""
    none = subject.running.client_with()
    with subject.item(draw) as item:
        for verb, path, public in _all_verbs(subject, item):
            if public:
                continue
            response = subject.send(verb, path, _harmless(verb), none)
            subject.expect(response.status == 403, f"{verb} without its grant is a 403, not {response.status}")
        for verb in sorted({verb for verb, _, public in _all_verbs(subject, item) if not public} - {"HEAD", "DELETE"}):
            one = subject.running.client_with(f"{subject.name}:{verb}")
            for other, path, public in _all_verbs(subject, item):
                if not public:
                    _expect_granted(subject, verb, other, subject.send(other, path, _harmless(other), one))


def knows_its_parameters(subject: Subject, draw: Draw) -> None:
    """Check that a parameter that is not known, or has a value that cannot be used, is a 400 that names it."""
    collection = (
        *("no_such_field=1", "limit=0", "limit=x", f"limit={subject.rules.max_limit + 1}", "limit=1&limit=1"),
        *("after=AAAA", "before=%00", "sort=no_such_field", "sort=", "fields=no_such_field", "fields=", "count=some"),
        *("id__near=1", "expand=no_such_field", "%FF=1", "sort=id,id"),
    )
    if "GET" in subject.on_collection:
        for text in collection:
            _expect_named(subject, f"{subject.path}?{text}", text)
    with subject.item(draw) as item:
        if "GET" in subject.on_items:
            for text in ("limit=1", "no_such_field=1", "fields=no_such_field"):
                _expect_named(subject, f"{subject.at(item)}?{text}", text)


def _expect_judged(subject: Subject, response: Response, name: str, value: Any, *, remove: bool) -> None:
    if response.status in (200, 201):
        if remove:
            subject.remove(response.json)
        subject.expect(subject.takes(name, value), f"{name} takes only what the document says", value)
    elif response.status == 422:
        own = [place for _, place in response.errors if place is not None and _leads(place, subject)]
        subject.expect(own == [place for _, place in response.errors], "every error points into the body", own)
    else:
        subject.expect(response.status in (400, 403, 409), f"a wrong {name} is a 422, not {response.status}", value)


def _leads(place: str, subject: Subject) -> bool:
    first = place.split("/")[1].replace("~1", "/").replace("~0", "~") if "/" in place else ""
    return place == "" or first in subject.fields


def _expect_fault(subject: Subject, response: Response, pointer: str) -> None:
    subject.expect_status(response, 422)
    subject.expect(pointer in [place for _, place in response.errors], f"an error points at {pointer}")


def _expect_named(subject: Subject, path: str, text: str) -> None:
    response = subject.send("GET", path)
    subject.expect(response.status == 400, f"?{text} is a 400, not {response.status}")
    subject.expect(all("parameter" in error for error in response.json["errors"]), "a 400 names the parameter")


def _expect_granted(subject: Subject, held: str, verb: str, response: Response) -> None:
    wanted = "GET" if verb == "HEAD" else verb
    if wanted == held:
        subject.expect(response.status not in (401, 403), f"{subject.name}:{held} is enough for {verb}")
    else:
        subject.expect(response.status == 403, f"{subject.name}:{held} is not enough for {verb}")


def _writing(subject: Subject, item: Body) -> list[tuple[str, str]]:
    collection = [("POST", subject.path)] if "POST" in subject.on_collection else []
    return collection + [(verb, subject.at(item)) for verb in subject.on_items if verb in ("PUT", "PATCH")]


def _all_verbs(subject: Subject, item: Body) -> list[tuple[str, str, bool]]:
    collection = [(verb, subject.path, subject.is_public(verb)) for verb in subject.on_collection]
    return collection + [(verb, subject.at(item), subject.is_public(verb, item=True)) for verb in subject.on_items]


def _harmless(verb: str) -> Any:
    """Return a body that does no harm where the verb should be allowed after all."""
    return {"no such field": 1} if verb in ("POST", "PUT", "PATCH") else None


def allowed(response: Response) -> set[str]:
    """Return what `Allow` names."""
    return {verb.strip() for verb in response.headers.get("Allow", "").split(",")}


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
