"""What a resource owes those who read it: pages, sorts, filters and exports that agree with each other."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import strategies as st

from pegboard.schema.column import Column
from pegboard.testing.client import Response
from pegboard.testing.subject import Body, Draw, Subject

_SEVERAL = 5
_LONGEST = 200
_VOLATILE = frozenset(("date", "x-request-id"))


def heads_are_those_of_get(subject: Subject, draw: Draw) -> None:
    """Check that HEAD has the headers of GET, `Content-Length` among them, and no body."""
    with subject.item(draw) as item:
        for path, verbs in ((subject.path, subject.on_collection), (subject.at(item), subject.on_items)):
            if {"GET", "HEAD"} <= set(verbs):
                get, head = subject.send("GET", path), subject.send("HEAD", path)
                subject.expect((head.status, head.body) == (get.status, b""), "HEAD has the status of GET and no body")
                subject.expect(_told(head) == _told(get), "HEAD has the headers of GET", _told(get), _told(head))


def knows_what_the_client_has(subject: Subject, draw: Draw) -> None:
    """Check that GET with the tag that the client has is 304 without a body, with another one 200."""
    with subject.item(draw) as item:
        for path, verbs in ((subject.path, subject.on_collection), (subject.at(item), subject.on_items)):
            if "GET" not in verbs:
                continue
            tag = subject.send("GET", path).headers.get("ETag")
            subject.expect(tag, "every item and every page has an ETag")
            for known in (tag, f'"other", {tag}'):
                same = subject.send("GET", path, headers={"If-None-Match": str(known)})
                subject.expect((same.status, same.body) == (304, b""), "304 for a tag that the client has")
            subject.expect_status(subject.send("GET", path, headers={"If-None-Match": '"other"'}), 200)


def pages_show_each_item_once(subject: Subject, draw: Draw) -> None:
    """Check that a walk over the pages sees every item once, forth and back, and as many as the count says."""
    with subject.items(draw, _SEVERAL) as items:
        total = int(subject.send("GET", f"{subject.path}?count=exact&limit=1").json["total"])
        limit = max(2, total // _SEVERAL)
        subject.expect(limit <= subject.rules.max_limit or total < 10_000, "a collection under test is small", total)
        limit = min(limit, subject.rules.max_limit)
        forth, last = _walk(subject, f"{subject.path}?limit={limit}", "next", limit)
        ids = [item["id"] for item in forth]
        subject.expect(len(ids) == len(set(ids)), "no item is on two pages", ids)
        subject.expect({item["id"] for item in items} <= set(ids), "every item is on a page", ids)
        subject.expect(len(ids) == total, f"the count of {total} is that of the items on the pages", len(ids))
        back, _ = _walk(subject, last, "prev", limit)
        # It goes from page to page backwards, and within each forwards.
        subject.expect({item["id"] for item in back} == set(ids), "the way back sees the same items", ids)
        if "GET" in subject.on_items:
            for item in items:
                shown = next(one for one in forth if one["id"] == item["id"])
                subject.check_item(shown)
                subject.expect(shown == subject.send("GET", subject.at(item)).json, "a page shows an item as it is")


def sorts_by_every_field(subject: Subject, draw: Draw) -> None:
    """Check that `sort` puts nulls last, sorts text by code point, ties by id, and that `-` is the very reverse."""
    with subject.items(draw, _SEVERAL):
        found = subject.walk(limit=subject.rules.max_limit)
        for name, column in subject.rules.sorts.items():
            # An item of a resource that is no table need not have every field.
            values = {item["id"]: _key(column, item.get(name)) for item in found}
            expected = sorted(values, key=lambda one: (values[one] is None, values[one], str(one)))
            for sign, wanted in (("", expected), ("-", expected[::-1])):
                got = [item["id"] for item in subject.walk(sort=f"{sign}{name}", limit=max(2, len(found) // 2))]
                shown, right = [values.get(one) for one in got], [values[one] for one in wanted]
                subject.expect(got == wanted, f"sort={sign}{name} sorts", shown, right)


def filters_by_every_field(subject: Subject, draw: Draw) -> None:
    """Check that every filter shows the items for which it holds, and no others."""
    with subject.items(draw, _SEVERAL):
        found = subject.walk(limit=subject.rules.max_limit)
        for parameter, (column, operator) in subject.rules.filters.items():
            values = _operands(column, operator, [item.get(column.field) for item in found])
            if not values:
                continue
            value = draw(st.sampled_from(values))
            shown = subject.walk(limit=subject.rules.max_limit, **{parameter: _text(operator, value)})
            holds = _HOLD[operator]
            wanted = [
                item["id"] for item in found if holds(_known(column, item.get(column.field)), _known(column, value))
            ]
            got = [item["id"] for item in shown]
            subject.expect(sorted(got) == sorted(wanted), f"{parameter}={value!r} filters", got, wanted)


def shows_only_the_fields_asked_for(subject: Subject, draw: Draw) -> None:
    """Check that `fields` leaves out all others but the id, in pages and in items; the tag for `If-Match` stays."""
    with subject.item(draw) as item:
        names = sorted(subject.rules.readable - {"id"})
        chosen = draw(st.sets(st.sampled_from(names), min_size=1, max_size=2)) if names else {"id"}
        asked = f"fields={','.join(quote(name, safe='') for name in sorted(chosen))}"
        if "GET" in subject.on_items:
            whole, part = subject.send("GET", subject.at(item)), subject.send("GET", f"{subject.at(item)}?{asked}")
            wanted = {name: value for name, value in whole.json.items() if name in {"id", *chosen}}
            subject.expect(part.json == wanted, f"{asked} shows these and the id", wanted)
            subject.expect(part.headers.get("ETag") == whole.headers.get("ETag"), "fields leaves the tag as it is")
        if "GET" in subject.on_collection:
            page = subject.send("GET", f"{subject.path}?{asked}&limit=3").json["items"]
            subject.expect(all(set(one) <= {"id", *chosen} for one in page), f"{asked} holds for pages, too", page)


def exports_what_the_pages_show(subject: Subject, draw: Draw) -> None:
    """Check that NDJSON and CSV have the items of the pages, in their order."""
    with subject.items(draw, _SEVERAL):
        pages = subject.walk(limit=subject.rules.max_limit)
        lines = subject.send("GET", subject.path, headers={"Accept": "application/x-ndjson"})
        subject.expect_status(lines, 200)
        subject.expect(
            [orjson.loads(line) for line in lines.body.splitlines()] == pages, "NDJSON is what the pages show"
        )
        table = subject.send("GET", subject.path, headers={"Accept": "text/csv"})
        subject.expect_status(table, 200)
        rows = list(csv.DictReader(io.StringIO(table.body.decode(), newline="")))
        ids = [str(item["id"]) for item in pages]
        subject.expect([row["id"] for row in rows] == ids, "CSV has the items of the pages", ids)


def embeds_what_is_referred_to(subject: Subject, draw: Draw) -> None:
    """Check that `expand` shows an item in place of the id that refers to it, as its own resource would."""
    names = [name for name in subject.rules.expandable if getattr(subject.fields.get(name), "resource", None)]
    if not names:
        pytest.skip(f"{subject.name} refers to nothing")
    with subject.item(draw) as item:
        for name in names:
            shown = subject.send("GET", f"{subject.at(item)}?expand={quote(name)}").json[name]
            if item.get(name) is None:
                subject.expect(shown is None, "null stays null in expand", shown)
                continue
            target = getattr(subject.fields[name], "resource", "")
            there = subject.send("GET", f"/{target}/{quote(str(item[name]), safe='')}")
            subject.expect(shown == there.json, f"expand={name} shows the item that is referred to", shown)


def _walk(subject: Subject, path: str, direction: str, limit: int) -> tuple[list[Body], str]:
    """Return what is on the pages from `path` on, and the path of the last one."""
    found: list[Body] = []
    while True:
        response = subject.send("GET", path)
        subject.expect_status(response, 200)
        page = response.json
        subject.expect(len(page["items"]) <= limit, f"a page has no more than {limit} items", len(page["items"]))
        found += page["items"]
        subject.expect(len(found) < 100_000, "the pages have an end")
        told = f'rel="{direction}"' in response.headers.get("Link", "")
        subject.expect(told == (page[direction] is not None), f"Link says the same as {direction}")
        if page[direction] is None:
            return found, path
        path = page[direction]


def _told(response: Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items() if name.lower() not in _VOLATILE}


def _known(column: Column, value: Any) -> Any:
    """Return a value, or each of several, as it is compared."""
    return [_key(column, one) for one in value] if isinstance(value, list) else _key(column, value)


def _key(column: Column, value: Any) -> Any:
    if column.base_type.removesuffix("[]") == "numeric" and value is not None:
        return Decimal(value)
    return value


_HOLD: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, wanted: value == wanted,
    "ne": lambda value, wanted: value != wanted,
    "lt": lambda value, wanted: value is not None and value < wanted,
    "lte": lambda value, wanted: value is not None and value <= wanted,
    "gt": lambda value, wanted: value is not None and value > wanted,
    "gte": lambda value, wanted: value is not None and value >= wanted,
    "in": lambda value, wanted: value in wanted,
    "prefix": lambda value, wanted: value is not None and value.startswith(wanted),
    "contains": lambda value, wanted: value is not None and wanted.lower() in value.lower(),
    "isnull": lambda value, wanted: (value is None) == wanted,
    "has": lambda value, wanted: value is not None and wanted in value,
}


def _operands(column: Column, operator: str, values: list[Any]) -> list[Any]:
    """Return what may stand in a filter, out of the values that there are."""
    if operator == "isnull":
        return [True, False]
    there = [value for value in values if value is not None]
    if operator == "has":
        there = [one for value in there for one in value if one is not None]
    there = [value for value in there if _is_operand(column, value)]
    if operator in ("prefix", "contains"):
        # Beyond ASCII, what is upper and what lower case is for the database to know.
        there = [value[:3] for value in there if value.isascii()]
        there = there if all(str(value).isascii() for value in values) or operator == "prefix" else []
    return [[value] for value in there] if operator == "in" else there


def _is_operand(column: Column, value: Any) -> bool:
    if column.field == "id":
        return True
    text = _text("", value)
    if not 0 < len(text) <= _LONGEST:
        return False
    try:
        column.parse(text)
    except ValueError:
        return False
    return True


def _text(operator: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if operator == "in":
        return ",".join(_text("", one).replace("\\", "\\\\").replace(",", "\\,") for one in value)
    return str(value)
