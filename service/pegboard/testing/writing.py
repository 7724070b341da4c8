"""Rules for writes: the item contains exactly what was sent, and is written only once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pytest
from hypothesis import strategies as st

from pegboard.api.table import TableResource
from pegboard.schema.column import INTEGER_KEY
from pegboard.schema.loading import STANDARD
from pegboard.testing.client import Response
from pegboard.testing.comparing import is_same
from pegboard.testing.subject import Body, Draw, Subject, differing

_STALE = {"If-Match": '"0123456789abcdef"'}


def creates_an_item(subject: Subject, draw: Draw) -> None:
    """Check that a new item has the fields of its body, a `Location` and a tag, and GET returns it unchanged."""
    body = draw(subject.bodies)
    response = subject.create(body)
    item = response.json
    try:
        subject.check_item(item, body)
        _expect_shown(subject, item, subject.expected_item(body))
        location = response.headers.get("Location")
        rule = differing("Location is the path of the new item", location, subject.path_of(item))
        subject.expect(_steps(location or "") == _steps(subject.path_of(item)), rule)
        _expect_stored(subject, item, response)
    finally:
        subject.remove(item)


def creates_all_or_none(subject: Subject, draw: Draw) -> None:
    """Check that an array creates all of its items, or none if one is invalid, with a pointer to the invalid one."""
    if not issubclass(subject.resource, TableResource):
        pytest.skip(f"{subject.name} accepts no arrays")
    bodies = draw(st.lists(subject.bodies, min_size=2, max_size=3))
    before = _count(subject)
    refused = subject.send("POST", subject.path, [*bodies, {**bodies[0], "no such field": 1}])
    subject.expect_error_at(refused, f"/{len(bodies)}/no such field")
    subject.expect_equal(_count(subject), before, "the number of items after an array with a refused one")
    response = subject.send("POST", subject.path, bodies)
    if response.status == 409:
        subject.expect_equal(_count(subject), before, "the number of items after an array with a conflicting one")
        return
    subject.expect_status(response, 201)
    made = response.json["items"]
    try:
        subject.expect_equal(len(made), len(bodies), "the number of items that an array creates")
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
        subject.expect_equal(
            (again.status, again.body, again.headers.get("Location")),
            (201, first.body, first.headers.get("Location")),
            "a retry returns the first response, as (status, body, Location)",
        )
        subject.expect_equal(again.headers.get("Idempotency-Replayed"), "true", "Idempotency-Replayed of a retry")
        subject.expect_equal(_count(subject), before, "the number of items after a retry")
        other = subject.send("POST", subject.path, {**body, "no such field": 1}, headers=key)
        subject.expect_status(other, 422)
    finally:
        subject.remove(first.json)


def replaces_all_fields(subject: Subject, draw: Draw) -> None:
    """Check that PUT replaces all of an item but its id and `created_at`; absent fields get their defaults."""
    with subject.item(draw) as item:
        body = subject.with_key(draw(subject.bodies), item["id"])
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
        body = subject.with_key(draw(subject.bodies), item["id"])
        names = draw(st.sets(st.sampled_from(sorted(body)), max_size=3)) if body else set()
        changes = {name: body[name] for name in names}
        response = subject.send("PATCH", subject.path_of(item), changes, headers=subject.match_headers(item))
        if response.status == 409 or (response.status == 422 and subject.has_schema_validators):
            # Another item has a unique value, or the validity of a field depends on other fields.
            return
        subject.expect_status(response, 200)
        subject.check_item(response.json, body)
        shown = subject.expected_item(body)
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
        if not hidden:
            subject.expect_equal(again.json, response.json, "a repeated patch does not change the item")
            before, after = response.headers.get("ETag"), again.headers.get("ETag")
            subject.expect_equal(after, before, "a repeated patch does not change the entity tag")


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
                subject.expect_equal(after, before, f"{verb} with an item as it was read does not change it")


def _contains_null(value: Any) -> bool:
    """Return whether a value is an object that contains a null at any depth."""
    return isinstance(value, dict) and any(part is None or _contains_null(part) for part in value.values())


def refuses_ids_in_bodies(subject: Subject, draw: Draw) -> None:
    """Check that an id in a POST and an id that differs from the URL are refused."""
    if "POST" in subject.verbs:
        refused = subject.send("POST", subject.path, {**draw(subject.bodies), "id": str(uuid4())})
        subject.expect_error_at(refused, "/id")
    with subject.item(draw) as item:
        for verb in {"PUT", "PATCH"}.intersection(subject.item_verbs):
            body = {**_retrieve(subject, item).json, "id": str(uuid4())}
            response = subject.send(verb, subject.path_of(item), body, headers=subject.match_headers(item))
            subject.expect_error_at(response, "/id")


def deletes_an_item(subject: Subject, draw: Draw) -> None:
    """Check that a deleted item is a 404 for GET and DELETE, and no longer in the collection."""
    if "POST" not in subject.verbs:
        pytest.skip(f"{subject.name} does not let a client create an item that could be deleted")
    item = subject.create(draw(subject.bodies)).json
    response = subject.send("DELETE", subject.path_of(item), headers=subject.match_headers(item))
    subject.expect_status(response, 204)
    subject.expect_equal(response.body, b"", "the body of a 204")
    for verb in {"GET", "DELETE"}.intersection(subject.item_verbs):
        again = subject.send(
            verb, subject.path_of(item), headers=subject.match_headers(item) if verb == "DELETE" else {}
        )
        subject.expect_status(again, 404)
    if "GET" in subject.collection_verbs:
        ids = [other["id"] for other in subject.walk(limit=subject.rules.max_limit)]
        subject.expect(item["id"] not in ids, f"expected a deleted item on no page, got {item['id']} on one")


def refuses_a_stale_etag(subject: Subject, draw: Draw) -> None:
    """Check that a write with a stale tag is a 412 that changes nothing, and one with the current tag succeeds."""
    with subject.item(draw) as item:
        before = _retrieve(subject, item)
        writable = {name: value for name, value in before.json.items() if name in subject.writable}
        bodies: dict[str, Any] = {"PATCH": writable, "DELETE": None}
        if "PUT" in subject.item_verbs:
            bodies = {"PUT": subject.with_key(draw(subject.bodies), item["id"])} | bodies
        verbs = [verb for verb in bodies if verb in subject.item_verbs]
        for verb in verbs:
            refused = subject.send(verb, subject.path_of(item), bodies[verb], headers=_STALE)
            subject.expect_status(refused, 412, request=f"{verb} with If-Match and a tag that the item does not have")
            after = _retrieve(subject, item)
            subject.expect_equal(after.json, before.json, f"a refused {verb} does not change the item")
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
    body = draw(subject.bodies)
    id = _new_id(subject, draw, body)
    path = subject.path_of({"id": id})
    response = subject.send("PUT", path, body, headers={"If-None-Match": "*"})
    if response.status == 409:
        return
    subject.expect_status(response, 201)
    subject.expect_equal(response.json["id"], id, "the id of an item created by PUT")
    _expect_shown(subject, response.json, subject.expected_item(body))
    again = subject.send("PUT", path, body, headers={"If-None-Match": "*"})
    subject.expect_status(again, 412)
    subject.remove(response.json)


def _new_id(subject: Subject, draw: Draw, body: Body) -> str:
    """Return an id for a new item, that of its body if the key of the table is one of its fields."""
    if subject.key_field is not None:
        return str(body[subject.key_field])
    is_number = subject.columns["id"].type == INTEGER_KEY
    return str(draw(st.integers(1, 2**63 - 1))) if is_number else str(uuid4())


def _steps(path: str) -> list[str]:
    """Return the steps of a path, decoded: more characters may be encoded than need to be."""
    return [unquote(step) for step in path.split("/")]


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
    subject.expect_status(retrieved, 200)
    subject.expect_equal(retrieved.json, item, "GET returns what the write returned")
    if response is not None:
        before, after = response.headers.get("ETag"), retrieved.headers.get("ETag")
        subject.expect_equal(after, before, "GET returns the entity tag that the write returned")


def _expect_shown(subject: Subject, item: Body, expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        if name not in STANDARD and name not in subject.normalized:
            subject.expect(name in item, f"expected an item with the field {name}, got the fields {sorted(item)}")
            is_shown = is_same(item[name], value, subject.columns.get(name))
            subject.expect(is_shown, differing(f"{name} of the item that was written", item[name], value))


def _expect_unchanged_identity(subject: Subject, before: Body, after: Body) -> None:
    for name in ("id", "created_at"):
        subject.expect_equal(after.get(name), before.get(name), f"a write does not change {name}")


def _expect_minimal(subject: Subject, response: Response) -> None:
    subject.expect_equal(response.body, b"", "the body with Prefer: return=minimal")
    applied = response.headers.get("Preference-Applied")
    subject.expect_equal(applied, "return=minimal", "Preference-Applied with Prefer: return=minimal")


def _count(subject: Subject) -> int:
    if "GET" not in subject.collection_verbs:
        return 0
    return int(subject.send("GET", f"{subject.path}?limit=1&count=exact").json["total"])
