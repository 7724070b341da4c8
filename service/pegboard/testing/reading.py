"""Rules for reads: consistent pages, sorts, filters and exports."""

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

_ITEM_COUNT = 5
_LONGEST = 200
_VOLATILE = frozenset(("date", "x-request-id"))


def head_matches_get(subject: Subject, draw: Draw) -> None:
    """Check that HEAD has the headers of GET, including `Content-Length`, and no body."""
    with subject.item(draw) as item:
        for path, verbs in ((subject.path, subject.collection_verbs), (subject.path_of(item), subject.item_verbs)):
            if {"GET", "HEAD"} <= set(verbs):
                get, head = subject.send("GET", path), subject.send("HEAD", path)
                subject.expect((head.status, head.body) == (get.status, b""), "HEAD has the status of GET and no body")
                subject.expect(
                    _stable_headers(head) == _stable_headers(get),
                    "HEAD has the headers of GET",
                    _stable_headers(get),
                    _stable_headers(head),
                )


def returns_304_for_a_current_etag(subject: Subject, draw: Draw) -> None:
    """Check that GET with the current tag in `If-None-Match` is a 304 without a body, and with another tag a 200."""
    with subject.item(draw) as item:
        for path, verbs in ((subject.path, subject.collection_verbs), (subject.path_of(item), subject.item_verbs)):
            if "GET" not in verbs:
                continue
            tag = subject.send("GET", path).headers.get("ETag")
            subject.expect(tag, "every item and every page has an ETag")
            for tag_list in (tag, f'"other", {tag}'):
                same = subject.send("GET", path, headers={"If-None-Match": str(tag_list)})
                subject.expect((same.status, same.body) == (304, b""), "304 for the current tag")
            subject.expect_status(subject.send("GET", path, headers={"If-None-Match": '"other"'}), 200)


def pages_show_each_item_once(subject: Subject, draw: Draw) -> None:
    """Check that paging forwards and backwards returns every item once, and as many items as `count`."""
    with subject.items(draw, _ITEM_COUNT) as items:
        total = int(subject.send("GET", f"{subject.path}?count=exact&limit=1").json["total"])
        limit = max(2, total // _ITEM_COUNT)
        subject.expect(limit <= subject.rules.max_limit or total < 10_000, "a collection under test is small", total)
        limit = min(limit, subject.rules.max_limit)
        forward, last = _walk(subject, f"{subject.path}?limit={limit}", "next", limit)
        ids = [item["id"] for item in forward]
        subject.expect(len(ids) == len(set(ids)), "no item is on two pages", ids)
        subject.expect({item["id"] for item in items} <= set(ids), "every item is on a page", ids)
        subject.expect(len(ids) == total, f"the count of {total} is that of the items on the pages", len(ids))
        backward, _ = _walk(subject, last, "prev", limit)
        # The order of pages is reversed, but not that of the items on each.
        subject.expect({item["id"] for item in backward} == set(ids), "paging backwards returns the same items", ids)
        if "GET" in subject.item_verbs:
            for item in items:
                shown = next(other for other in forward if other["id"] == item["id"])
                subject.check_item(shown)
                subject.expect(
                    shown == subject.send("GET", subject.path_of(item)).json, "a page shows an item as GET does"
                )


def sorts_by_every_field(subject: Subject, draw: Draw) -> None:
    """Check that `sort` puts nulls last, sorts text by code point and ties by id, and `-` reverses the order."""
    with subject.items(draw, _ITEM_COUNT):
        found = subject.walk(limit=subject.rules.max_limit)
        for name, column in subject.rules.sorts.items():
            # An item of a resource without a table may have fewer fields.
            values = {item["id"]: _key(column, item.get(name)) for item in found}
            expected = sorted(values, key=lambda key: (values[key] is None, values[key], str(key)))
            for sign, wanted in (("", expected), ("-", expected[::-1])):
                received = [item["id"] for item in subject.walk(sort=f"{sign}{name}", limit=max(2, len(found) // 2))]
                shown, right = [values.get(key) for key in received], [values[key] for key in wanted]
                subject.expect(received == wanted, f"sort={sign}{name} sorts", shown, right)


def filters_by_every_field(subject: Subject, draw: Draw) -> None:
    """Check that every filter returns exactly the items that match it."""
    with subject.items(draw, _ITEM_COUNT):
        found = subject.walk(limit=subject.rules.max_limit)
        for parameter, (column, operator) in subject.rules.filters.items():
            values = _operands(column, operator, [item.get(column.field) for item in found])
            if not values:
                continue
            value = draw(st.sampled_from(values))
            shown = subject.walk(limit=subject.rules.max_limit, **{parameter: _text(operator, value)})
            holds = _OPERATORS[operator]
            wanted = [
                item["id"]
                for item in found
                if holds(_comparable(column, item.get(column.field)), _comparable(column, value))
            ]
            received = [item["id"] for item in shown]
            subject.expect(sorted(received) == sorted(wanted), f"{parameter}={value!r} filters", received, wanted)


def returns_only_the_fields_requested(subject: Subject, draw: Draw) -> None:
    """Check that `fields` returns only these and the id, in pages and items, and the entity tag stays the same."""
    with subject.item(draw) as item:
        names = sorted(subject.rules.readable - {"id"})
        chosen = draw(st.sets(st.sampled_from(names), min_size=1, max_size=2)) if names else {"id"}
        asked = f"fields={','.join(quote(name, safe='') for name in sorted(chosen))}"
        if "GET" in subject.item_verbs:
            full = subject.send("GET", subject.path_of(item))
            part = subject.send("GET", f"{subject.path_of(item)}?{asked}")
            wanted = {name: value for name, value in full.json.items() if name in {"id", *chosen}}
            subject.expect(part.json == wanted, f"{asked} shows these and the id", wanted)
            subject.expect(part.headers.get("ETag") == full.headers.get("ETag"), "fields does not change the tag")
        if "GET" in subject.collection_verbs:
            page = subject.send("GET", f"{subject.path}?{asked}&limit=3").json["items"]
            subject.expect(all(set(item) <= {"id", *chosen} for item in page), f"{asked} applies to pages, too", page)


def exports_match_the_pages(subject: Subject, draw: Draw) -> None:
    """Check that NDJSON and CSV have the items of the pages in the same order."""
    with subject.items(draw, _ITEM_COUNT):
        pages = subject.walk(limit=subject.rules.max_limit)
        lines = subject.send("GET", subject.path, headers={"Accept": "application/x-ndjson"})
        subject.expect_status(lines, 200)
        subject.expect(
            [orjson.loads(line) for line in lines.body.splitlines()] == pages, "NDJSON has the items of the pages"
        )
        table = subject.send("GET", subject.path, headers={"Accept": "text/csv"})
        subject.expect_status(table, 200)
        rows = list(csv.DictReader(io.StringIO(table.body.decode(), newline="")))
        ids = [str(item["id"]) for item in pages]
        subject.expect([row["id"] for row in rows] == ids, "CSV has the items of the pages", ids)


def expands_references(subject: Subject, draw: Draw) -> None:
    """Check that `expand` embeds an item in place of its id, as the other resource shows it."""
    names = [name for name in subject.rules.expandable if getattr(subject.fields.get(name), "resource", None)]
    if not names:
        pytest.skip(f"{subject.name} has no references")
    with subject.item(draw) as item:
        for name in names:
            shown = subject.send("GET", f"{subject.path_of(item)}?expand={quote(name)}").json[name]
            if item.get(name) is None:
                subject.expect(shown is None, "null stays null in expand", shown)
                continue
            target = getattr(subject.fields[name], "resource", "")
            retrieved = subject.send("GET", f"/{target}/{quote(str(item[name]), safe='')}")
            subject.expect(shown == retrieved.json, f"expand={name} embeds the item", shown)


def _walk(subject: Subject, path: str, direction: str, limit: int) -> tuple[list[Body], str]:
    """Return the items of the pages from `path` on, and the path of the last page."""
    found: list[Body] = []
    while True:
        response = subject.send("GET", path)
        subject.expect_status(response, 200)
        page = response.json
        subject.expect(len(page["items"]) <= limit, f"a page has no more than {limit} items", len(page["items"]))
        found += page["items"]
        subject.expect(len(found) < 100_000, "the pages have an end")
        has_link = f'rel="{direction}"' in response.headers.get("Link", "")
        subject.expect(has_link == (page[direction] is not None), f"Link agrees with {direction}")
        if page[direction] is None:
            return found, path
        path = page[direction]


def _stable_headers(response: Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items() if name.lower() not in _VOLATILE}


def _comparable(column: Column, value: Any) -> Any:
    """Return a value, or the values of a list, in comparable form."""
    return [_key(column, element) for element in value] if isinstance(value, list) else _key(column, value)


def _key(column: Column, value: Any) -> Any:
    if column.base_type.removesuffix("[]") == "numeric" and value is not None:
        return Decimal(value)
    return value


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
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
    """Return the possible operands of a filter among existing values."""
    if operator == "isnull":
        return [True, False]
    present = [value for value in values if value is not None]
    if operator == "has":
        present = [element for value in present for element in value if element is not None]
    present = [value for value in present if _is_operand(column, value)]
    if operator in ("prefix", "contains"):
        # Case folding of other than ASCII characters depends on the database.
        present = [value[:3] for value in present if value.isascii()]
        present = present if all(str(value).isascii() for value in values) or operator == "prefix" else []
    return [[value] for value in present] if operator == "in" else present


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
        return ",".join(_text("", element).replace("\\", "\\\\").replace(",", "\\,") for element in value)
    return str(value)
