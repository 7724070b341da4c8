"""Rules for reads: consistent pages, sorts, filters and exports."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import strategies as st

from pegboard.endpoints import export
from pegboard.schema.column import Column
from pegboard.schema.folding import fold, unaccent
from pegboard.testing.client import Response
from pegboard.testing.comparing import comparable, sort_key
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
                subject.expect_equal(
                    (head.status, head.body), (get.status, b""), "HEAD has the status of GET and no body"
                )
                subject.expect_equal(_stable_headers(head), _stable_headers(get), "HEAD has the headers of GET")


def returns_304_for_a_current_etag(subject: Subject, draw: Draw) -> None:
    """Check that GET with the current tag in `If-None-Match` is a 304 without a body, and with another tag a 200."""
    with subject.item(draw) as item:
        for path, verbs in ((subject.path, subject.collection_verbs), (subject.path_of(item), subject.item_verbs)):
            if "GET" not in verbs:
                continue
            tag = subject.send("GET", path).headers.get("ETag")
            subject.expect(tag, f"GET {path}: expected a header ETag, got none")
            for tag_list in (tag, f'"other", {tag}'):
                same = subject.send("GET", path, headers={"If-None-Match": str(tag_list)})
                subject.expect_equal(
                    (same.status, same.body), (304, b""), "GET with If-None-Match and the current tag is a 304"
                )
            subject.expect_status(subject.send("GET", path, headers={"If-None-Match": '"other"'}), 200)


def pages_show_each_item_once(subject: Subject, draw: Draw) -> None:
    """Check that paging forwards and backwards returns every item once, and as many items as `count`."""
    with subject.items(draw, _ITEM_COUNT) as items:
        total = int(subject.send("GET", f"{subject.path}?count=exact&limit=1").json["total"])
        limit = max(2, total // _ITEM_COUNT)
        is_small = limit <= subject.rules.max_limit or total < 10_000
        subject.expect(is_small, f"expected a collection of fewer than 10,000 items, got {total}")
        limit = min(limit, subject.rules.max_limit)
        forward, last = _walk(subject, f"{subject.path}?limit={limit}", "next", limit)
        ids = [item["id"] for item in forward]
        twice = sorted({id for id in ids if ids.count(id) > 1})
        subject.expect(not twice, f"expected no item twice on the pages, got twice {twice}")
        missing = sorted({item["id"] for item in items} - set(ids))
        subject.expect(not missing, f"expected every item on a page, got none of {missing}")
        subject.expect_equal(total, len(ids), "count=exact returns the number of items on the pages")
        backward, _ = _walk(subject, last, "prev", limit)
        # The order of pages is reversed, but not that of the items on each.
        subject.expect_equal({item["id"] for item in backward}, set(ids), "paging backwards returns the same items")
        if "GET" in subject.item_verbs:
            for item in items:
                shown = next(other for other in forward if other["id"] == item["id"])
                subject.check_item(shown)
                retrieved = subject.send("GET", subject.path_of(item)).json
                subject.expect_equal(shown, retrieved, "a page shows an item as GET does")


def sorts_by_every_field(subject: Subject, draw: Draw) -> None:
    """Check that `sort` puts nulls last, sorts text by code point and ties by id, and `-` reverses the order."""
    with subject.items(draw, _ITEM_COUNT):
        found = subject.walk(limit=subject.rules.max_limit)
        for name, column in subject.rules.sorts.items():
            # An item of a resource without a table may have fewer fields.
            values = {item["id"]: sort_key(column, item.get(name), in_table=subject.in_table) for item in found}
            ascending = sorted(
                values, key=lambda id: (values[id] is None, values[id], comparable(subject.columns["id"], id))
            )
            for sign, expected in (("", ascending), ("-", ascending[::-1])):
                received = [item["id"] for item in subject.walk(sort=f"{sign}{name}", limit=max(2, len(found) // 2))]
                # With the ids, as items with equal values are sorted by these.
                subject.expect_equal(
                    [(values.get(id), id) for id in received],
                    [(values[id], id) for id in expected],
                    f"sort={sign}{name} returns the items in this order, as ({name}, id)",
                )


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
            matching = [
                item["id"]
                for item in found
                if holds(_as_compared(operator, column, item.get(column.field)), _as_compared(operator, column, value))
            ]
            received = [item["id"] for item in shown]
            subject.expect_equal(
                sorted(received), sorted(matching), f"{parameter}={value!r} returns the items with these ids"
            )


def returns_only_the_fields_requested(subject: Subject, draw: Draw) -> None:
    """Check that `fields` returns only these and the id, in pages and items, and the entity tag stays the same."""
    with subject.item(draw) as item:
        names = sorted(subject.rules.readable - {"id"})
        chosen = draw(st.sets(st.sampled_from(names), min_size=1, max_size=2)) if names else {"id"}
        asked = f"fields={','.join(quote(name, safe='') for name in sorted(chosen))}"
        if "GET" in subject.item_verbs:
            full = subject.send("GET", subject.path_of(item))
            part = subject.send("GET", f"{subject.path_of(item)}?{asked}")
            expected = {name: value for name, value in full.json.items() if name in {"id", *chosen}}
            subject.expect_equal(part.json, expected, f"{asked} returns only these fields and the id")
            subject.expect_equal(part.headers.get("ETag"), full.headers.get("ETag"), f"{asked} does not change the tag")
        if "GET" in subject.collection_verbs:
            page = subject.send("GET", f"{subject.path}?{asked}&limit=3").json["items"]
            shown = {name for item in page for name in item}
            subject.expect(
                shown <= {"id", *chosen},
                f"{asked} on a page: expected only the fields {sorted({'id', *chosen})}, got {sorted(shown)}",
            )


def exports_match_the_pages(subject: Subject, draw: Draw) -> None:
    """Check that NDJSON and CSV have the items of the pages in the same order."""
    with subject.items(draw, _ITEM_COUNT):
        pages = subject.walk(limit=subject.rules.max_limit)
        lines = subject.send("GET", subject.path, headers={"Accept": "application/x-ndjson"})
        subject.expect_status(lines, 200)
        exported = [orjson.loads(line) for line in lines.body.splitlines()]
        subject.expect_equal(exported, pages, "NDJSON has the items of the pages")
        table = subject.send("GET", subject.path, headers={"Accept": "text/csv"})
        subject.expect_status(table, 200)
        rows = list(csv.DictReader(io.StringIO(table.body.decode(), newline="")))
        ids = [_in_csv(str(item["id"])) for item in pages]
        subject.expect_equal([row["id"] for row in rows], ids, "CSV has the items of the pages, by their ids")


def _in_csv(text: str) -> str:
    """Return a text as it is read from CSV: one that a spreadsheet would run as a formula is marked."""
    [[field]] = csv.reader(io.StringIO(export.cell(text), newline=""))
    return field


def expands_references(subject: Subject, draw: Draw) -> None:
    """Check that `expand` embeds an item in place of its id, as the other resource shows it."""
    names = [name for name in subject.rules.expandable if getattr(subject.fields.get(name), "resource", None)]
    if not names:
        pytest.skip(f"{subject.name} has no references")
    with subject.item(draw) as item:
        for name in names:
            shown = subject.send("GET", f"{subject.path_of(item)}?expand={quote(name)}").json[name]
            if item.get(name) is None:
                subject.expect_equal(shown, None, f"expand={name} leaves a null")
                continue
            target = getattr(subject.fields[name], "resource", "")
            retrieved = subject.send("GET", f"/{target}/{quote(str(item[name]), safe='')}")
            subject.expect_equal(shown, retrieved.json, f"expand={name} embeds the item")


def _walk(subject: Subject, path: str, direction: str, limit: int) -> tuple[list[Body], str]:
    """Return the items of the pages from `path` on, and the path of the last page."""
    found: list[Body] = []
    while True:
        response = subject.send("GET", path)
        subject.expect_status(response, 200)
        page = response.json
        count = len(page["items"])
        subject.expect(count <= limit, f"limit={limit}: expected no more items on a page, got {count}")
        found += page["items"]
        subject.expect(len(found) < 100_000, f"expected pages with an end, got {len(found)} items")
        has_link = f'rel="{direction}"' in response.headers.get("Link", "")
        subject.expect_equal(
            has_link, page[direction] is not None, f"Link has {direction} if the page has one ({page[direction]})"
        )
        if page[direction] is None:
            return found, path
        path = page[direction]


def _stable_headers(response: Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items() if name.lower() not in _VOLATILE}


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, wanted: value == wanted,
    "ne": lambda value, wanted: value != wanted,
    "lt": lambda value, wanted: value is not None and value < wanted,
    "lte": lambda value, wanted: value is not None and value <= wanted,
    "gt": lambda value, wanted: value is not None and value > wanted,
    "gte": lambda value, wanted: value is not None and value >= wanted,
    "in": lambda value, wanted: value in wanted,
    "prefix": lambda value, wanted: value is not None and value.startswith(wanted),
    "contains": lambda value, wanted: value is not None and wanted in value,
    "isnull": lambda value, wanted: (value is None) == wanted,
    "has": lambda value, wanted: value is not None and wanted in value,
}


def _as_compared(operator: str, column: Column, value: Any) -> Any:
    """Return a value, or each value of a list, in the form that an operator compares."""
    if isinstance(value, list):
        return [_as_compared(operator, column, element) for element in value]
    if not (column.is_text and isinstance(value, str)):
        return comparable(column, value)
    if operator in ("prefix", "contains") and column.ignores_accents:
        return unaccent(value)
    return fold(value) if operator == "contains" or (operator in ("eq", "ne", "in") and column.ignores_case) else value


def _operands(column: Column, operator: str, values: list[Any]) -> list[Any]:
    """Return the possible operands of a filter among existing values."""
    if operator == "isnull":
        return [True, False]
    present = [value for value in values if value is not None]
    if operator == "has":
        present = [element for value in present for element in value if element is not None]
    present = [value for value in present if _is_operand(column, value)]
    if operator in ("prefix", "contains"):
        present = [value[:3] for value in present]
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
