"""What a resource owes those who write to it: what was sent is there, all of it and nothing else, and only once."""

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


def creates_what_is_sent(subject: Subject, draw: Draw) -> None:
    """Check that a new item shows what it was made of, has a place and a tag, and is read as it was answered."""
    body = draw(subject.bodies)
    response = subject.create(body)
    item = response.json
    try:
        subject.check_item(item, body)
        _expect_shown(subject, item, subject.written(body))
        subject.expect(response.headers.get("Location") == subject.at(item), "Location is the path of the new item")
        _expect_stored(subject, item, response)
    finally:
        subject.remove(item)


def creates_all_or_none(subject: Subject, draw: Draw) -> None:
    """Check that an array makes all of its items, or none where one of them is not taken; the pointer says which."""
    if not hasattr(subject.resource, "create_all"):
        pytest.skip(f"{subject.name} takes no arrays")
    bodies = draw(st.lists(subject.bodies, min_size=2, max_size=3))
    before = _count(subject)
    refused = subject.send("POST", subject.path, [*bodies, {**bodies[0], "no such field": 1}])
    subject.expect_status(refused, 422)
    place = f"/{len(bodies)}/no such field"
    subject.expect(place in [where for _, where in refused.errors], f"an error points at {place}")
    subject.expect(_count(subject) == before, "an array of which one item is refused makes none")
    response = subject.send("POST", subject.path, bodies)
    if response.status == 409:
        subject.expect(_count(subject) == before, "an array of which one item is in conflict makes none")
        return
    subject.expect_status(response, 201)
    made = response.json["items"]
    try:
        subject.expect(len(made) == len(bodies), "an array makes an item of each of its bodies", len(made))
        for item, body in zip(made, bodies, strict=True):
            _expect_shown(subject, item, subject.written(body))
            _expect_stored(subject, item)
    finally:
        for item in made:
            subject.remove(item)


def replays_a_retried_post(subject: Subject, draw: Draw) -> None:
    """Check that a POST with the Idempotency-Key of another is answered as that was, and makes nothing more."""
    body, key = draw(subject.bodies), {"Idempotency-Key": str(uuid4())}
    first = subject.create(body, headers=key)
    try:
        before = _count(subject)
        again = subject.send("POST", subject.path, body, headers=key)
        same = (again.status, again.body, again.headers.get("Location"))
        subject.expect(same == (201, first.body, first.headers.get("Location")), "a retry gets the first response")
        subject.expect(again.headers.get("Idempotency-Replayed") == "true", "a retry is marked as one")
        subject.expect(_count(subject) == before, "a retry makes no other item")
        other = subject.send("POST", subject.path, {**body, "no such field": 1}, headers=key)
        subject.expect_status(other, 422)
    finally:
        subject.remove(first.json)


def replaces_the_whole_item(subject: Subject, draw: Draw) -> None:
    """Check that PUT leaves nothing of the item but its id and `created_at`; absent fields get their defaults."""
    with subject.item(draw) as item:
        body = draw(subject.bodies)
        response = subject.send("PUT", subject.at(item), body, headers=subject.match(item))
        if response.status == 409:
            return
        subject.expect_status(response, 200)
        subject.check_item(response.json, body)
        _expect_shown(subject, response.json, subject.written(body))
        _expect_kept(subject, item, response.json)
        _expect_stored(subject, response.json, response)


def patches_only_what_is_given(subject: Subject, draw: Draw) -> None:
    """Check that PATCH changes the fields it gives and no others; a second time nothing, not even the tag."""
    with subject.item(draw) as item:
        wanted = draw(subject.bodies)
        names = draw(st.sets(st.sampled_from(sorted(wanted)), max_size=3)) if wanted else set()
        changes = {name: wanted[name] for name in names}
        response = subject.send("PATCH", subject.at(item), changes, headers=subject.match(item))
        if response.status == 409 or (response.status == 422 and subject.judges_whole):
            # Another item has this, or what is taken depends on what the item has besides.
            return
        subject.expect_status(response, 200)
        subject.check_item(response.json, wanted)
        shown = subject.written(wanted)
        # An object is merged into the one that was there (RFC 7396).
        merged = {name for name in changes if isinstance(changes[name], dict)}
        given = changes.keys() - merged
        _expect_shown(subject, response.json, {name: value for name, value in shown.items() if name in given})
        rest = {name: value for name, value in item.items() if name in subject.writable and name not in changes}
        _expect_shown(subject, response.json, {name: value for name, value in rest.items() if name not in merged})
        _expect_kept(subject, item, response.json)
        _expect_stored(subject, response.json, response)
        hidden = any(subject.fields[name].load_only for name in changes)
        again = subject.send("PATCH", subject.at(item), changes, headers=subject.match(item))
        subject.expect_status(again, 200)
        unchanged = again.headers.get("ETag") == response.headers.get("ETag") and again.json == response.json
        subject.expect(hidden or unchanged, "a patch that changes nothing leaves the item and its tag as they were")


def takes_back_what_was_read(subject: Subject, draw: Draw) -> None:
    """Check that an item can be sent back as it was read: read-only fields are ignored, and nothing changes."""
    with subject.item(draw) as item:
        for verb in ("PUT", "PATCH"):
            if verb in subject.on_items:
                read = _read(subject, item).json
                response = subject.send(verb, subject.at(item), read, headers=subject.match(item))
                subject.expect_status(response, 200)
                # What a patch says is null within an object is taken out of it (RFC 7396).
                others = {"updated_at"} | {name for name in read if verb == "PATCH" and _lacks(read[name])}
                after = {name: value for name, value in response.json.items() if name not in others}
                before = {name: value for name, value in read.items() if name not in others}
                subject.expect(after == before, f"an item that is sent back by {verb} as it was read is the same")


def _lacks(value: Any) -> bool:
    """Tell whether a value is an object that holds a null, however deep in objects."""
    return isinstance(value, dict) and any(part is None or _lacks(part) for part in value.values())


def keeps_ids_to_itself(subject: Subject, draw: Draw) -> None:
    """Check that an id in a POST, and one that contradicts the URL, is refused."""
    if "POST" in subject.verbs:
        refused = subject.send("POST", subject.path, {**draw(subject.bodies), "id": str(uuid4())})
        _expect_pointer(subject, refused, "/id")
    with subject.item(draw) as item:
        for verb in {"PUT", "PATCH"}.intersection(subject.on_items):
            body = {**_read(subject, item).json, "id": str(uuid4())}
            response = subject.send(verb, subject.at(item), body, headers=subject.match(item))
            _expect_pointer(subject, response, "/id")


def deletes_for_good(subject: Subject, draw: Draw) -> None:
    """Check that what was deleted is gone: by its id, from the collection, and for another DELETE."""
    if "POST" not in subject.verbs:
        pytest.skip(f"{subject.name} does not let a client create an item that could be deleted")
    item = subject.create(draw(subject.bodies)).json
    response = subject.send("DELETE", subject.at(item), headers=subject.match(item))
    subject.expect_status(response, 204)
    subject.expect(response.body == b"", "204 has no body")
    for verb in {"GET", "DELETE"}.intersection(subject.on_items):
        again = subject.send(verb, subject.at(item), headers=subject.match(item) if verb == "DELETE" else {})
        subject.expect_status(again, 404)
    if "GET" in subject.on_collection:
        there = [one["id"] for one in subject.walk(limit=subject.rules.max_limit)]
        subject.expect(item["id"] not in there, "what was deleted is in no page")


def refuses_a_stale_tag(subject: Subject, draw: Draw) -> None:
    """Check that a change under a stale tag is 412 and changes nothing, and one under the current tag is made."""
    with subject.item(draw) as item:
        before = _read(subject, item)
        whole = {name: value for name, value in before.json.items() if name in subject.writable}
        bodies: dict[str, Any] = {"PATCH": whole, "DELETE": None}
        if "PUT" in subject.on_items:
            bodies = {"PUT": draw(subject.bodies)} | bodies
        there = [verb for verb in bodies if verb in subject.on_items]
        for verb in there:
            refused = subject.send(verb, subject.at(item), bodies[verb], headers=_STALE)
            subject.expect(refused.status == 412, f"{verb} with If-Match and a tag that the item does not have is 412")
            subject.expect(_read(subject, item).json == before.json, "what is refused changes nothing")
            if subject.resource.needs_match:
                subject.expect_status(subject.send(verb, subject.at(item), bodies[verb]), 428)
        for verb in there:
            tag = {"If-Match": _read(subject, item).headers["ETag"]}
            done = subject.send(verb, subject.at(item), bodies[verb], headers=tag)
            if done.status != 409:
                subject.expect_status(done, 204 if verb == "DELETE" else 200)
    if "DELETE" in there and "POST" in subject.verbs and "GET" in subject.on_items:
        subject.expect_status(subject.send("GET", subject.at(item)), 404)


def answers_briefly(subject: Subject, draw: Draw) -> None:
    """Check that `Prefer: return=minimal` answers a write without a body, and says that it did."""
    brief = {"Prefer": "return=minimal"}
    if "POST" in subject.verbs:
        response = subject.create(draw(subject.bodies), headers=brief)
        _expect_brief(subject, response)
        identity = response.headers["Location"].rpartition("/")[2]
        subject.remove({"id": identity})
    with subject.item(draw) as item:
        for verb in {"PUT", "PATCH"}.intersection(subject.on_items):
            read = _read(subject, item).json
            response = subject.send(verb, subject.at(item), read, headers={**brief, **subject.match(item)})
            subject.expect_status(response, 200, 204)
            _expect_brief(subject, response)


def creates_by_put(subject: Subject, draw: Draw) -> None:
    """Check that, where PUT makes items, it makes one under the id in the URL; `If-None-Match: *` makes none twice."""
    if not subject.resource.creates_by_put:
        pytest.skip(f"PUT makes no items of {subject.name}")
    identity = str(uuid4())
    body = draw(subject.bodies)
    response = subject.send("PUT", f"{subject.path}/{identity}", body, headers={"If-None-Match": "*"})
    if response.status == 409:
        return
    subject.expect_status(response, 201)
    subject.expect(response.json["id"] == identity, "an item that PUT makes has the id in the URL")
    _expect_shown(subject, response.json, subject.written(body))
    again = subject.send("PUT", f"{subject.path}/{identity}", body, headers={"If-None-Match": "*"})
    subject.expect_status(again, 412)
    subject.remove(response.json)


def _read(subject: Subject, item: Mapping[str, Any]) -> Response:
    if "GET" not in subject.on_items:
        pytest.skip(f"{subject.name} shows no single item")
    response = subject.send("GET", subject.at(item))
    subject.expect_status(response, 200)
    return response


def _expect_stored(subject: Subject, item: Body, response: Response | None = None) -> None:
    """Raise `Broken` unless GET shows the item, under the tag it was answered with."""
    if "GET" not in subject.on_items:
        return
    read = subject.send("GET", subject.at(item))
    subject.expect(read.status == 200 and read.json == item, "what was written is what is read", item)
    if response is not None:
        subject.expect(read.headers.get("ETag") == response.headers.get("ETag"), "the tag is that of the write")


def _expect_shown(subject: Subject, item: Body, wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if name not in STANDARD and name not in subject.changed:
            subject.expect(name in item, f"an item shows the field {name}", item)
            subject.expect(_is_same(item[name], value), f"{name} is what was sent", value, item[name])


def _is_same(shown: Any, sent: Any) -> bool:
    """Tell whether two JSON values are the same; a large float may be shown as a whole number."""
    if isinstance(shown, dict) and isinstance(sent, dict):
        return shown.keys() == sent.keys() and all(_is_same(shown[key], sent[key]) for key in sent)
    if isinstance(shown, list) and isinstance(sent, list):
        return len(shown) == len(sent) and all(map(_is_same, shown, sent))
    if isinstance(shown, bool) or isinstance(sent, bool):
        return shown is sent
    if isinstance(shown, float) or isinstance(sent, float):
        return isinstance(shown, int | float) and isinstance(sent, int | float) and float(shown) == float(sent)
    return bool(shown == sent)


def _expect_kept(subject: Subject, before: Body, after: Body) -> None:
    for name in ("id", "created_at"):
        subject.expect(before.get(name) == after.get(name), f"no change changes {name}")


def _expect_pointer(subject: Subject, response: Response, pointer: str) -> None:
    subject.expect_status(response, 422)
    subject.expect(pointer in [place for _, place in response.errors], f"an error points at {pointer}")


def _expect_brief(subject: Subject, response: Response) -> None:
    subject.expect(response.body == b"", "return=minimal leaves out the body")
    subject.expect(
        response.headers.get("Preference-Applied") == "return=minimal", "return=minimal is in Preference-Applied"
    )


def _count(subject: Subject) -> int:
    if "GET" not in subject.on_collection:
        return 0
    return int(subject.send("GET", f"{subject.path}?limit=1&count=exact").json["total"])
