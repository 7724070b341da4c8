"""Rules for writes: the item contains exactly what was sent, and is written only once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import strategies as st

from pegboard.schema.loading import STANDARD
from pegboard.testing.client import Response
from pegboard.testing.subject import Body, Draw, Subject

_STALE = {"If-Match": '"0123456789abcdef"'}


def creates_an_item(subject: Subject, draw: Draw) -> None:
    """Check that a new item has the fields of its body, a `Location` and a tag, and GET returns it unchanged."""
    body = draw(subject.bodies)
    response = subject.create(body)
    item = response.json
    try:
        subject.check_item(item, body)
        _expect_shown(subject, item, subject.expected_item(body))
        subject.expect(
            response.headers.get("Location") == subject.path_of(item), "Location is the path of the new item"
        )
        _expect_stored(subject, item, response)
    finally:
        subject.remove(item)


def creates_all_or_none(subject: Subject, draw: Draw) -> None:
    """Check that an array creates all of its items, or none if one is invalid, with a pointer to the invalid one."""
    if not hasattr(subject.resource, "create_all"):
        pytest.skip(f"{subject.name} accepts no arrays")
    bodies = draw(st.lists(subject.bodies, min_size=2, max_size=3))
    before = _count(subject)
    refused = subject.send("POST", subject.path, [*bodies, {**bodies[0], "no such field": 1}])
    subject.expect_status(refused, 422)
    pointer = f"/{len(bodies)}/no such field"
    subject.expect(pointer in [location for _, location in refused.errors], f"an error points to {pointer}")
    subject.expect(_count(subject) == before, "an array with one refused item creates none")
    response = subject.send("POST", subject.path, bodies)
    if response.status == 409:
        subject.expect(_count(subject) == before, "an array with one conflicting item creates none")
        return
    subject.expect_status(response, 201)
    made = response.json["items"]
    try:
        subject.expect(len(made) == len(bodies), "an array creates an item for each of its bodies", len(made))
        for item, body in zip(made, bodies, strict=True):
            _expect_shown(subject, item, subject.expected_item(body))
            _expect_stored(subject, item)
    finally:
        for item in made:
            subject.remove(item)


def replays_a_retried_post(subject: Subject, draw: Draw) -> None:
    """Check that a POST repeated with the same Idempotency-Key returns the first response and creates nothing."""
    body, key = draw(subject.bodies), {"Idempotency-Key": str(uuid4())}
    first = subject.create(body, headers=key)
    try:
        before = _count(subject)
        again = subject.send("POST", subject.path, body, headers=key)
        same = (again.status, again.body, again.headers.get("Location"))
        subject.expect(same == (201, first.body, first.headers.get("Location")), "a retry returns the first response")
        subject.expect(again.headers.get("Idempotency-Replayed") == "true", "a retry is marked as replayed")
        subject.expect(_count(subject) == before, "a retry creates no other item")
        other = subject.send("POST", subject.path, {**body, "no such field": 1}, headers=key)
        subject.expect_status(other, 422)
    finally:
        subject.remove(first.json)


def replaces_all_fields(subject: Subject, draw: Draw) -> None:
    """Check that PUT replaces all of an item but its id and `created_at`; absent fields get their defaults."""
    with subject.item(draw) as item:
        body = draw(subject.bodies)
        response = subject.send("PUT", subject.path_of(item), body, headers=subject.match_headers(item))
        if response.status == 409:
            return
        subject.expect_status(response, 200)
        subject.check_item(response.json, body)
        _expect_shown(subject, response.json, subject.expected_item(body))
        _expect_unchanged_identity(subject, item, response.json)
        _expect_stored(subject, response.json, response)


def patches_only_the_fields_sent(subject: Subject, draw: Draw) -> None:
    """Check that PATCH changes only the fields of its body, and repeating it changes nothing, not even the tag."""
    with subject.item(draw) as item:
        wanted = draw(subject.bodies)
        names = draw(st.sets(st.sampled_from(sorted(wanted)), max_size=3)) if wanted else set()
        changes = {name: wanted[name] for name in names}
        response = subject.send("PATCH", subject.path_of(item), changes, headers=subject.match_headers(item))
        if response.status == 409 or (response.status == 422 and subject.has_schema_validators):
            # Another item has a unique value, or the validity of a field depends on other fields.
            return
        subject.expect_status(response, 200)
        subject.check_item(response.json, wanted)
        shown = subject.expected_item(wanted)
        # An object is merged into the previous one (RFC 7396).
        merged = {name for name in changes if isinstance(changes[name], dict)}
        replaced = changes.keys() - merged
        _expect_shown(subject, response.json, {name: value for name, value in shown.items() if name in replaced})
        rest = {name: value for name, value in item.items() if name in subject.writable and name not in changes}
        _expect_shown(subject, response.json, {name: value for name, value in rest.items() if name not in merged})
        _expect_unchanged_identity(subject, item, response.json)
        _expect_stored(subject, response.json, response)
        hidden = any(subject.fields[name].load_only for name in changes)
        again = subject.send("PATCH", subject.path_of(item), changes, headers=subject.match_headers(item))
        subject.expect_status(again, 200)
        unchanged = again.headers.get("ETag") == response.headers.get("ETag") and again.json == response.json
        subject.expect(hidden or unchanged, "a patch that changes nothing leaves the item and its tag unchanged")


def accepts_an_item_as_it_was_read(subject: Subject, draw: Draw) -> None:
    """Check that PUT and PATCH accept an item as it was read, ignore its read-only fields and change nothing."""
    with subject.item(draw) as item:
        for verb in ("PUT", "PATCH"):
            if verb in subject.item_verbs:
                retrieved = _retrieve(subject, item).json
                response = subject.send(verb, subject.path_of(item), retrieved, headers=subject.match_headers(item))
                subject.expect_status(response, 200)
                # Within an object, a patch removes the keys that are null (RFC 7396).
                others = {"updated_at"} | {
                    name for name in retrieved if verb == "PATCH" and _contains_null(retrieved[name])
                }
                after = {name: value for name, value in response.json.items() if name not in others}
                before = {name: value for name, value in retrieved.items() if name not in others}
                subject.expect(after == before, f"an item that is sent back by {verb} as it was read does not change")


def _contains_null(value: Any) -> bool:
    """Return whether a value is an object that contains a null at any depth."""
    return isinstance(value, dict) and any(part is None or _contains_null(part) for part in value.values())


def refuses_ids_in_bodies(subject: Subject, draw: Draw) -> None:
    """Check that an id in a POST and an id that differs from the URL are refused."""
    if "POST" in subject.verbs:
        refused = subject.send("POST", subject.path, {**draw(subject.bodies), "id": str(uuid4())})
        _expect_pointer(subject, refused, "/id")
    with subject.item(draw) as item:
        for verb in {"PUT", "PATCH"}.intersection(subject.item_verbs):
            body = {**_retrieve(subject, item).json, "id": str(uuid4())}
            response = subject.send(verb, subject.path_of(item), body, headers=subject.match_headers(item))
            _expect_pointer(subject, response, "/id")


def deletes_an_item(subject: Subject, draw: Draw) -> None:
    """Check that a deleted item is a 404 for GET and DELETE, and no longer in the collection."""
    if "POST" not in subject.verbs:
        pytest.skip(f"{subject.name} does not let a client create an item that could be deleted")
    item = subject.create(draw(subject.bodies)).json
    response = subject.send("DELETE", subject.path_of(item), headers=subject.match_headers(item))
    subject.expect_status(response, 204)
    subject.expect(response.body == b"", "204 has no body")
    for verb in {"GET", "DELETE"}.intersection(subject.item_verbs):
        again = subject.send(
            verb, subject.path_of(item), headers=subject.match_headers(item) if verb == "DELETE" else {}
        )
        subject.expect_status(again, 404)
    if "GET" in subject.collection_verbs:
        ids = [other["id"] for other in subject.walk(limit=subject.rules.max_limit)]
        subject.expect(item["id"] not in ids, "a deleted item is on no page")


def refuses_a_stale_etag(subject: Subject, draw: Draw) -> None:
    """Check that a write with a stale tag is a 412 that changes nothing, and one with the current tag succeeds."""
    with subject.item(draw) as item:
        before = _retrieve(subject, item)
        writable = {name: value for name, value in before.json.items() if name in subject.writable}
        bodies: dict[str, Any] = {"PATCH": writable, "DELETE": None}
        if "PUT" in subject.item_verbs:
            bodies = {"PUT": draw(subject.bodies)} | bodies
        verbs = [verb for verb in bodies if verb in subject.item_verbs]
        for verb in verbs:
            refused = subject.send(verb, subject.path_of(item), bodies[verb], headers=_STALE)
            subject.expect(refused.status == 412, f"{verb} with If-Match and a tag that the item does not have is 412")
            subject.expect(_retrieve(subject, item).json == before.json, "a refused write changes nothing")
            if subject.resource.needs_match:
                subject.expect_status(subject.send(verb, subject.path_of(item), bodies[verb]), 428)
        for verb in verbs:
            tag = {"If-Match": _retrieve(subject, item).headers["ETag"]}
            done = subject.send(verb, subject.path_of(item), bodies[verb], headers=tag)
            if done.status != 409:
                subject.expect_status(done, 204 if verb == "DELETE" else 200)
    if "DELETE" in verbs and "POST" in subject.verbs and "GET" in subject.item_verbs:
        subject.expect_status(subject.send("GET", subject.path_of(item)), 404)


def honors_prefer_minimal(subject: Subject, draw: Draw) -> None:
    """Check that `Prefer: return=minimal` returns no body, with `Preference-Applied`."""
    minimal = {"Prefer": "return=minimal"}
    if "POST" in subject.verbs:
        response = subject.create(draw(subject.bodies), headers=minimal)
        _expect_minimal(subject, response)
        id = response.headers["Location"].rpartition("/")[2]
        subject.remove({"id": id})
    with subject.item(draw) as item:
        for verb in {"PUT", "PATCH"}.intersection(subject.item_verbs):
            retrieved = _retrieve(subject, item).json
            response = subject.send(
                verb, subject.path_of(item), retrieved, headers={**minimal, **subject.match_headers(item)}
            )
            subject.expect_status(response, 200, 204)
            _expect_minimal(subject, response)


def creates_by_put(subject: Subject, draw: Draw) -> None:
    """Check that a PUT that may create items uses the id in the URL, and `If-None-Match: *` prevents replacing."""
    if not subject.resource.creates_by_put:
        pytest.skip(f"PUT does not create items of {subject.name}")
    id = str(uuid4())
    body = draw(subject.bodies)
    response = subject.send("PUT", f"{subject.path}/{id}", body, headers={"If-None-Match": "*"})
    if response.status == 409:
        return
    subject.expect_status(response, 201)
    subject.expect(response.json["id"] == id, "an item created by PUT has the id in the URL")
    _expect_shown(subject, response.json, subject.expected_item(body))
    again = subject.send("PUT", f"{subject.path}/{id}", body, headers={"If-None-Match": "*"})
    subject.expect_status(again, 412)
    subject.remove(response.json)


def _retrieve(subject: Subject, item: Mapping[str, Any]) -> Response:
    if "GET" not in subject.item_verbs:
        pytest.skip(f"{subject.name} shows no single item")
    response = subject.send("GET", subject.path_of(item))
    subject.expect_status(response, 200)
    return response


def _expect_stored(subject: Subject, item: Body, response: Response | None = None) -> None:
    """Raise `ContractViolation` unless GET returns the item, with the entity tag of the response."""
    if "GET" not in subject.item_verbs:
        return
    retrieved = subject.send("GET", subject.path_of(item))
    subject.expect(retrieved.status == 200 and retrieved.json == item, "GET returns what was written", item)
    if response is not None:
        subject.expect(retrieved.headers.get("ETag") == response.headers.get("ETag"), "the tag is that of the write")


def _expect_shown(subject: Subject, item: Body, wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if name not in STANDARD and name not in subject.normalized:
            subject.expect(name in item, f"an item shows the field {name}", item)
            subject.expect(_is_same(item[name], value), f"{name} is what was sent", value, item[name])


def _is_same(shown: Any, sent: Any) -> bool:
    """Return whether two JSON values are equal; a large float may be shown as an integer."""
    if isinstance(shown, dict) and isinstance(sent, dict):
        return shown.keys() == sent.keys() and all(_is_same(shown[key], sent[key]) for key in sent)
    if isinstance(shown, list) and isinstance(sent, list):
        return len(shown) == len(sent) and all(map(_is_same, shown, sent))
    if isinstance(shown, bool) or isinstance(sent, bool):
        return shown is sent
    if isinstance(shown, float) or isinstance(sent, float):
        return isinstance(shown, int | float) and isinstance(sent, int | float) and float(shown) == float(sent)
    return bool(shown == sent)


def _expect_unchanged_identity(subject: Subject, before: Body, after: Body) -> None:
    for name in ("id", "created_at"):
        subject.expect(before.get(name) == after.get(name), f"a write does not change {name}")


def _expect_pointer(subject: Subject, response: Response, pointer: str) -> None:
    subject.expect_status(response, 422)
    subject.expect(pointer in [location for _, location in response.errors], f"an error points to {pointer}")


def _expect_minimal(subject: Subject, response: Response) -> None:
    subject.expect(response.body == b"", "return=minimal leaves out the body")
    subject.expect(
        response.headers.get("Preference-Applied") == "return=minimal", "return=minimal is in Preference-Applied"
    )


def _count(subject: Subject) -> int:
    if "GET" not in subject.collection_verbs:
        return 0
    return int(subject.send("GET", f"{subject.path}?limit=1&count=exact").json["total"])
