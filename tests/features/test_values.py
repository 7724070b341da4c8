"""Every kind of field, and every way by which a value comes in: it is stored, shown and found as the same value."""

from __future__ import annotations

import csv
import enum
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import ROUND_HALF_UP
from decimal import Decimal as Number
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest

from pegboard import Context, Schema, TableResource, fields, operation, validate
from tests.conftest import ADMIN, PASSWORD, Api, Serve, basic, new_database, plugin


class Colour(enum.Enum):
    RED = "red, dark"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2**40


class Status(enum.Enum):
    open = 1
    closed = 2


class Line(Schema):
    price = fields.Decimal(places=2)
    at = fields.DateTime()
    colour = fields.Enum(Colour)
    note = fields.String(load_default="none")


LONGEST = "ß" * 40
CUSTOM = {"column_type": "crm.status"}


class Kinds(Schema):
    text = fields.String(allow_none=True, validate=validate.Length(max=40))
    long = fields.String(allow_none=True)
    short = fields.String(allow_none=True, metadata={"column_type": "varchar(5)"})
    email = fields.Email(allow_none=True)
    integer = fields.Integer(allow_none=True)
    int4 = fields.Integer(allow_none=True, metadata={"column_type": "int"})
    small = fields.Integer(allow_none=True, metadata={"column_type": "smallint"})
    double = fields.Float(allow_none=True)
    real = fields.Float(allow_none=True, metadata={"column_type": "real"})
    decimal = fields.Decimal(allow_none=True)
    money = fields.Decimal(allow_none=True, places=2)
    rounded = fields.Decimal(allow_none=True, places=2, rounding=ROUND_HALF_UP)
    scaled = fields.Decimal(allow_none=True, metadata={"column_type": "numeric(12,3)"})
    boolean = fields.Boolean(allow_none=True)
    day = fields.Date(allow_none=True)
    clock = fields.Time(allow_none=True)
    moment = fields.DateTime(allow_none=True)
    local = fields.DateTime(allow_none=True, metadata={"column_type": "timestamp"})
    key = fields.UUID(allow_none=True)
    colour = fields.Enum(Colour, allow_none=True)
    shade = fields.Enum(Colour, by_value=True, allow_none=True)
    level = fields.Enum(Level, by_value=True, allow_none=True)
    status = fields.Enum(Status, allow_none=True, metadata=CUSTOM)
    word = fields.String(allow_none=True, metadata=CUSTOM)
    address = fields.IP(allow_none=True)
    any = fields.JSON(allow_none=True)
    object = fields.Dict(allow_none=True)
    line = fields.Nested(Line, allow_none=True)
    lines = fields.List(fields.Nested(Line), allow_none=True)
    texts = fields.List(fields.String(), allow_none=True)
    moments = fields.List(fields.DateTime(), allow_none=True)
    days = fields.List(fields.Date(), allow_none=True)
    prices = fields.List(fields.Decimal(places=2), allow_none=True)
    keys = fields.List(fields.UUID(), allow_none=True)
    colours = fields.List(fields.Enum(Colour), allow_none=True)
    reals = fields.List(fields.Float(), allow_none=True, metadata={"column_type": "real[]"})


CURRENT: dict[str, Any] = {}
"""What authors' code adds to the next item."""


class Plain(TableResource):
    """Items written by the service alone."""

    schema = Kinds


class Copying(TableResource):
    """Items that an author's code writes."""

    schema = Kinds

    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        """Add what a client could have sent, or what the schema loads."""
        return await super().create(context, {**data, **CURRENT})

    async def update(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        """Update what was sent, and more."""
        return await super().update(context, id, {**data, **CURRENT})

    @operation(response="item")
    async def copy(self, context: Context, id: str, data: Any) -> Any:
        """Create an item from another one."""
        item = await self.retrieve(context, id)
        return await super().create(context, {name: item[name] for name in KINDS})


KINDS = tuple(Kinds().fields)


def _defaulted(name: str) -> Any:
    original = Kinds._declared_fields[name]
    arguments = {"load_default": lambda: CURRENT.get(name), "allow_none": True, "metadata": original.metadata}
    for argument in ("places", "rounding"):
        if getattr(original, "fixed", False):
            arguments[argument] = getattr(original, argument)
    return arguments


class Defaults(Kinds):
    """The scalar fields with defaults that change."""

    long = fields.String(**_defaulted("long"))
    integer = fields.Integer(**_defaulted("integer"))
    double = fields.Float(**_defaulted("double"))
    decimal = fields.Decimal(**_defaulted("decimal"))
    money = fields.Decimal(**_defaulted("money"))
    day = fields.Date(**_defaulted("day"))
    clock = fields.Time(**_defaulted("clock"))
    moment = fields.DateTime(**_defaulted("moment"))
    local = fields.DateTime(**_defaulted("local"))
    key = fields.UUID(**_defaulted("key"))
    colour = fields.Enum(Colour, **_defaulted("colour"))
    address = fields.IP(**_defaulted("address"))
    moments = fields.List(fields.DateTime(), **_defaulted("moments"))


class Defaulting(TableResource):
    """Items whose values are defaults."""

    schema = Defaults


class Need(Schema):
    needed = fields.Integer(required=True)


class Needing(TableResource):
    """Items with a required field."""

    schema = Need


DEFAULTED = frozenset(name for name in KINDS if Defaults._declared_fields[name] is not Kinds._declared_fields[name])

FIRST, LAST = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"
TEXTS = ("", "a", LONGEST, "\U0001d4b3😀", "\u0001\u007f", "é e\u0301", "'\"\\%_,", " both ", "ﬀ\u2028", "=1+1")
NESTED = {"price": "1.5", "at": "2015-02-15T05:21:07.5+01:00", "colour": "RED"}
SHOWN = {"price": "1.50", "at": "2015-02-15T04:21:07Z", "colour": "RED", "note": "none"}


@dataclass(frozen=True)
class Raw:
    """JSON that Python would write differently."""

    text: str


def same(*values: Any) -> tuple[tuple[Any, Any], ...]:
    return tuple((value, value) for value in values)


# What is sent and what is shown.
VALUES: Mapping[str, tuple[tuple[Any, Any], ...]] = {
    "text": same(*TEXTS),
    "long": same(*TEXTS, "x" * 5_000, "x" * 5_001),
    "short": same("", "abcde", "\U0001d4b3😀ßéa", "a "),
    "email": same("a@example.com", "A@EXAMPLE.COM"),
    "integer": (*same(0, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)), (1.0, 1), (-0.0, 0)),
    "int4": same(0, 2**31 - 1, -(2**31)),
    "small": same(0, 2**15 - 1, -(2**15)),
    "double": (*same(0.1, 1.5, 1e22, 1e-7, 1.7976931348623157e308, 5e-324, -0.0, 123456789.123456789), (2**53 + 1, float(2**53))),
    "real": (*same(0.1, 1.5, 3.4028235e38, 1e-45, -0.0), (16777217, 16777216.0)),
    "decimal": (
        *same("0.1", "123456789012345678901234567890.12345678901234567890", "1" * 100, "-1.00", "100"),
        *(("-0", "0"), ("1E+2", "100"), (0.1, "0.1"), (7, "7"), (Raw("12345678901234567.89"), "12345678901234567.89")),
        *((Raw("123456789012345678901234567890"), "123456789012345678901234567890"), (Raw("0.10"), "0.1")),
    ),
    "money": (("1.5", "1.50"), ("1", "1.00"), ("-0", "0.00"), (0.1, "0.10"), (Raw("12345678901234567.89"), "12345678901234567.89")),
    "rounded": (("1.005", "1.01"), ("-1.005", "-1.01"), ("2", "2.00"), ("0.001", "0.00"), ("-0.001", "0.00")),
    "scaled": (("1.5", "1.500"), ("999999999.999", "999999999.999"), ("-0.0", "0.000")),
    "boolean": same(True, False),
    "day": same("0001-01-01", "2015-02-15", "9999-12-31"),
    "clock": (*same("00:00:00", "05:21:07", "23:59:59"), ("05:21:08.999", "05:21:08")),
    "moment": (
        *same(FIRST, "2015-02-15T00:00:00Z", LAST),
        *(("2015-02-15T05:21:07.999999+02:00", "2015-02-15T03:21:07Z"), ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z")),
        ("2015-02-15t05:21:07", "2015-02-15T05:21:07Z"),
    ),
    "local": (*same(FIRST, LAST), ("2015-02-15T05:21:07.9+02:00", "2015-02-15T03:21:07Z")),
    "key": (("0190D1F8-0000-7000-8000-00000000000A", "0190d1f8-0000-7000-8000-00000000000a"),),
    "colour": same("RED", "BLUE"),
    "shade": same("red, dark", "blue"),
    "level": (*same(1, 2**40), (1.0, 1)),
    "status": same("open", "closed"),
    "word": same("open", "closed"),
    "address": (
        *same("10.0.0.1", "255.255.255.255", "::1", "2001:db8::1"),
        *(("2001:DB8:0::2", "2001:db8::2"), ("::ffff:102:304", "::ffff:1.2.3.4"), ("::102:304", "::1.2.3.4")),
    ),
    "any": (*same("", 0, False, [], {}, 2**53 + 1, 2**64 - 1, 1.5, [[None, {"a": "\u0001😀"}]]), (Raw("1e2"), 100.0)),
    "object": same({}, {"": "", "b": [None, 1, 2.5, "x"], "é": {"items": 1}}),
    "line": ((NESTED, SHOWN), ({}, {"note": "none"})),
    "lines": (([], []), ([NESTED, {"note": ""}], [SHOWN, {"note": ""}])),
    "texts": same([], ["", "a", "NULL", 'b"c', "d,{}\\"], ["😀"]),
    "moments": (([], []), ([FIRST, LAST, "2015-02-15T05:21:07.5Z"], [FIRST, LAST, "2015-02-15T05:21:07Z"])),
    "days": same(["0001-01-01", "9999-12-31"]),
    "prices": ((["1", "2.5", "-0"], ["1.00", "2.50", "0.00"]),),
    "keys": same(["0190d1f8-0000-7000-8000-00000000000a"]),
    "colours": same(["RED", "BLUE", "RED"]),
    "reals": same([0.1, 1.5]),
}  # fmt: skip
CASES = [(name, *pair) for name, pairs in VALUES.items() for pair in pairs]

# What authors' code may have instead of the JSON that clients send.
LOADED: tuple[tuple[str, Any, Any], ...] = (
    ("moment", datetime(2015, 2, 15, 5, 21, 7, 999_999, tzinfo=UTC), "2015-02-15T05:21:07Z"),
    ("moment", datetime(2015, 2, 15, 5, 21, 7), "2015-02-15T05:21:07Z"),
    ("moment", datetime(1, 1, 1, tzinfo=UTC), FIRST),
    ("moment", datetime(2015, 2, 15, 5, tzinfo=timezone(timedelta(hours=9))), "2015-02-14T20:00:00Z"),
    ("local", datetime(2015, 2, 15, 5, tzinfo=timezone(timedelta(hours=9))), "2015-02-14T20:00:00Z"),
    ("day", date(9999, 12, 31), "9999-12-31"),
    ("clock", time(5, 21, 7, 5), "05:21:07"),
    ("decimal", 0.1, "0.1"),
    ("decimal", 7, "7"),
    ("money", 0.1, "0.10"),
    ("money", Number("1"), "1.00"),
    ("double", Number("1.5"), 1.5),
    ("double", 1, 1.0),
    ("integer", Level.LOW, 1),
    ("colour", Colour.RED, "RED"),
    ("address", ip_address("::1"), "::1"),
    ("moments", [datetime(2015, 2, 15, 5, 21, 7, 5, tzinfo=UTC), LAST], ["2015-02-15T05:21:07Z", LAST]),
)


@pytest.fixture(scope="module")
async def api(pegboard_postgres: str, serve: Serve) -> Api:
    url = await new_database(pegboard_postgres)
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE SCHEMA crm; CREATE TYPE crm.status AS ENUM ('open', 'closed')")
    await connection.close()
    plugins = [
        plugin("plain", Plain),
        plugin("copying", Copying),
        plugin("defaulting", Defaulting),
        plugin("needing", Needing),
    ]
    return await serve(plugins, database_url=url)


def body_of(name: str, value: Any) -> bytes:
    text = value.text if isinstance(value, Raw) else json.dumps(value)
    return f'{{"{name}": {text}}}'.encode()


JSON = {"Content-Type": "application/json"}


async def write_every_way(api: Api, path: str, name: str, value: Any) -> list[str]:
    """Store a value by each method; return the ids of the items."""
    body = body_of(name, value)
    one = await api.request("POST", path, data=body, headers=JSON)
    many = await api.request("POST", path, data=b"[" + body + b"," + body + b"]", headers=JSON)
    assert (one.status, many.status) == (201, 201), (one.body, many.body)
    ids = [one.json["id"], *(item["id"] for item in many.json["items"])]
    patch = b'[{"op": "add", "path": "/' + name.encode() + b'", "value": ' + body.partition(b": ")[2][:-1] + b"}]"
    for method, content, kind in (
        ("PUT", body, "application/json"),
        ("PATCH", body, "application/json"),
        ("PATCH", body, "application/merge-patch+json"),
        ("PATCH", patch, "application/json-patch+json"),
    ):
        empty = (await api.post(path, {})).json
        response = await api.request(method, f"{path}/{empty['id']}", data=content, headers={"Content-Type": kind})
        assert response.status == 200, response.body
        again = await api.request(method, f"{path}/{empty['id']}", data=content, headers={"Content-Type": kind})
        assert again.headers["ETag"] == response.headers["ETag"]
        ids.append(empty["id"])
    return ids


async def stored(api: Api, table: str, name: str, ids: list[str]) -> set[str]:
    rows = await api.service.database.read.fetch(
        f'SELECT "{name}"::text AS text FROM {table}.{table} WHERE id = ANY ($1::text[]::uuid[])', ids
    )
    assert len(rows) == len(ids)
    return {row["text"] for row in rows}


async def shown(api: Api, path: str, name: str, ids: list[str]) -> list[Any]:
    """Return the value as items, pages and exports show it."""
    among = f"{path}?id__in={','.join(ids)}"
    values = [(await api.get(f"{path}/{id}")).json[name] for id in ids]
    values += [item[name] for item in (await api.get(among)).json["items"]]
    lines = (await api.get(among, headers={"Accept": "application/x-ndjson"})).body.splitlines()
    values += [json.loads(line)[name] for line in lines]
    assert len(values) == 3 * len(ids)
    return values


async def csv_cells(api: Api, path: str, name: str, ids: list[str]) -> set[str]:
    exported = (await api.get(f"{path}?id__in={','.join(ids)}", headers={"Accept": "text/csv"})).body.decode()
    return {row[name] for row in csv.DictReader(io.StringIO(exported, newline=""))}


def exact(value: Any) -> str:
    """Return JSON that distinguishes 1 from 1.0 only where JSON readers do."""
    return json.dumps(float(value) if type(value) is int else value)


@pytest.mark.parametrize(("name", "value", "expected"), CASES, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(CASES)])
async def test_a_value_is_the_same_whichever_way_it_came(api: Api, name: str, value: Any, expected: Any) -> None:
    ids = await write_every_way(api, "/plain", name, value)
    texts = await stored(api, "plain", name, ids)
    assert len(texts) == 1
    assert {exact(found) for found in await shown(api, "/plain", name, ids)} == {exact(expected)}
    cells = await csv_cells(api, "/plain", name, ids)
    assert len(cells) == 1
    if not isinstance(value, Raw):
        # Authors' code passes on complete objects.
        CURRENT[name] = expected if name.startswith("line") else value
        try:
            ids = [(await api.post("/copying", {})).json["id"]]
            ids.append((await api.post(f"/copying/{ids[0]}/copy")).json["id"])
            changed = await api.post("/copying", {})
            await api.patch(f"/copying/{changed.json['id']}", {"email": None})
            ids.append(changed.json["id"])
            assert await stored(api, "copying", name, ids) == texts
            assert {exact(found) for found in await shown(api, "/copying", name, ids)} == {exact(expected)}
            if name in DEFAULTED:
                ids = [(await api.post("/defaulting", {})).json["id"]]
                ids += [item["id"] for item in (await api.post("/defaulting", [{}, {}])).json["items"]]
                replaced = (await api.post("/defaulting", {name: None})).json["id"]
                assert (await api.put(f"/defaulting/{replaced}", {})).status == 200
                assert await stored(api, "defaulting", name, [*ids, replaced]) == texts
        finally:
            CURRENT.clear()


@pytest.mark.parametrize(("name", "value", "expected"), LOADED)
async def test_what_authors_code_has_is_stored_like_what_clients_send(
    api: Api, name: str, value: Any, expected: Any
) -> None:
    CURRENT[name] = value
    try:
        acted = [(await api.post("/copying", {})).json["id"]]
        defaulted = [(await api.post("/defaulting", {})).json["id"]]
        defaulted += [item["id"] for item in (await api.post("/defaulting", [{}])).json["items"]]
    finally:
        CURRENT.clear()
    sent = [(await api.post("/plain", {name: expected})).json["id"]]
    texts = await stored(api, "plain", name, sent)
    assert await stored(api, "copying", name, acted) == texts
    assert await stored(api, "defaulting", name, defaulted) == texts
    assert {exact(found) for found in await shown(api, "/defaulting", name, defaulted)} == {exact(expected)}


FILTERED = [name for name in VALUES if not isinstance(VALUES[name][0][1], list | dict) and name != "any"]


@pytest.mark.parametrize("name", FILTERED)
async def test_a_filter_by_what_is_shown_finds_the_item(api: Api, name: str) -> None:
    await api.service.database.write.execute("TRUNCATE plain.plain")
    for value, _ in VALUES[name]:
        await api.request("POST", "/plain", data=body_of(name, value), headers=JSON)
    items = (await api.get("/plain?limit=500")).json["items"]
    assert len(items) == len(VALUES[name])
    for item in items:
        text = text_of(item[name])
        alike = {other["id"] for other in items if other[name] == item[name]}
        for parameter in (name, f"{name}__in"):
            wanted = text.replace(",", "\\,") if parameter.endswith("in") else text
            if wanted or parameter == name:
                found = (await api.get(f"/plain?{parameter}={quote(wanted, safe='')}")).json["items"]
                assert {other["id"] for other in found} == alike, (parameter, text)
        others = (await api.get(f"/plain?{name}__ne={quote(text, safe='')}")).json["items"]
        assert {other["id"] for other in others} == {other["id"] for other in items} - alike


def text_of(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)


@pytest.mark.parametrize("name", FILTERED)
async def test_a_walk_sorted_by_a_value_is_complete_in_both_directions(api: Api, name: str) -> None:
    await api.service.database.write.execute("TRUNCATE plain.plain")
    for value, _ in (*VALUES[name], *VALUES[name], (None, None)):
        await api.request("POST", "/plain", data=body_of(name, value), headers=JSON)
    for sort in (name, f"-{name}"):
        complete = [item["id"] for item in (await api.get(f"/plain?sort={sort}&limit=500")).json["items"]]
        assert len(complete) == 2 * len(VALUES[name]) + 1
        assert await walk(api, f"/plain?sort={sort}&limit=2", "next") == complete
        last = await last_page(api, f"/plain?sort={sort}&limit=2")
        assert await walk(api, last, "prev") == complete


async def walk(api: Api, path: str, direction: str) -> list[str]:
    """Return the ids of all items, page by page."""
    ids: list[str] = []
    for _ in range(200):
        page = (await api.get(path)).json
        own = [item["id"] for item in page["items"]]
        ids = [*ids, *own] if direction == "next" else [*own, *ids]
        following: str | None = page[direction]
        if following is None:
            return ids
        path = following
    raise AssertionError("the pages do not end")


async def last_page(api: Api, path: str) -> str:
    for _ in range(200):
        following = (await api.get(path)).json["next"]
        if following is None:
            return path
        path = following
    raise AssertionError("the pages do not end")


# What only SQL can store, by column: the values, and what is shown instead.
ODD: Mapping[str, tuple[tuple[str, Any], ...]] = {
    "moment": (
        *(("infinity", LAST), ("-infinity", FIRST), ("20015-01-01", LAST), ("0044-03-15 BC", FIRST)),
        *(("2015-02-15 05:21:07.9Z", "2015-02-15T05:21:07Z"), ("9999-12-31 23:59:59.9Z", LAST)),
    ),
    "local": (("infinity", LAST), ("-infinity", FIRST), ("20015-01-01", LAST), ("2015-02-15 05:21:07.9", "2015-02-15T05:21:07Z")),
    "day": (("infinity", "9999-12-31"), ("-infinity", "0001-01-01"), ("20015-01-01", "9999-12-31"), ("0044-03-15 BC", "0001-01-01")),
    "clock": (("24:00:00", "23:59:59"), ("05:21:07.9", "05:21:07")),
}  # fmt: skip
NEAREST = [(name, text, expected) for name, pairs in ODD.items() for text, expected in pairs]


@pytest.mark.parametrize(("name", "text", "expected"), NEAREST)
@pytest.mark.parametrize("resource", ["plain", "copying"])
async def test_a_stored_value_that_cannot_be_shown_is_shown_as_the_nearest(
    api: Api, resource: str, name: str, text: str, expected: Any
) -> None:
    await api.service.database.write.execute(f"TRUNCATE {resource}.{resource}")
    item = (await api.post(f"/{resource}", {name: expected})).json
    odd = (await api.post(f"/{resource}", {})).json
    await api.service.database.write.execute(
        f"UPDATE {resource}.{resource} SET {name} = '{text}' WHERE id = '{odd['id']}'"
    )
    ids = sorted([item["id"], odd["id"]])
    assert set(await shown(api, f"/{resource}", name, ids)) == {expected}
    for operator in ("", "__in", "__gte", "__lte"):
        found = (await api.get(f"/{resource}?{name}{operator}={expected}")).json["items"]
        assert [found_item["id"] for found_item in found] == ids, operator
    for operator in ("__ne", "__lt", "__gt"):
        assert (await api.get(f"/{resource}?{name}{operator}={expected}")).json["items"] == [], operator
    for sort in (name, f"-{name}"):
        complete = [found["id"] for found in (await api.get(f"/{resource}?sort={sort}")).json["items"]]
        assert await walk(api, f"/{resource}?sort={sort}&limit=1", "next") == complete
    patched = await api.patch(f"/{resource}/{odd['id']}", {"text": "x"})
    assert (patched.status, patched.json[name]) == (200, expected)
    assert await api.service.database.read.fetchval(
        f"SELECT {name} = '{text}' FROM {resource}.{resource} WHERE id = '{odd['id']}'"
    )


@pytest.mark.parametrize(
    "text", ["1e999", "[" * 3_000 + "]" * 3_000, '{"a": [1e400, 2]}'], ids=["large", "deep", "within"]
)
async def test_odd_json_takes_nothing_with_it(api: Api, text: str) -> None:
    await api.service.database.write.execute("TRUNCATE plain.plain")
    other = (await api.post("/plain", {"any": [1]})).json
    odd = (await api.post("/plain", {})).json
    async with api.service.database.write.transaction() as connection:
        await connection.execute('UPDATE plain.plain SET "any" = $1::text::jsonb WHERE id::text = $2', text, odd["id"])
    items = (await api.get("/plain")).json["items"]
    assert [item["id"] for item in items] == [other["id"], odd["id"]]
    assert items[0] == other
    for accept in ("text/csv", "application/x-ndjson"):
        assert (await api.get("/plain?fields=text", headers={"Accept": accept})).status == 200
        assert (await api.get("/plain", headers={"Accept": accept})).status == 200
    patched = await api.patch(f"/plain/{odd['id']}", {"text": "x"})
    assert (patched.status, patched.json["text"]) == (200, "x")


@pytest.mark.parametrize("sort", ["needed", "-needed", "needed,id", "-needed,-created_at"])
async def test_a_walk_over_a_required_field_that_another_version_has_left_out_is_complete(api: Api, sort: str) -> None:
    await api.service.database.write.execute("ALTER TABLE needing.needing ALTER COLUMN needed DROP NOT NULL")
    await api.service.database.write.execute("TRUNCATE needing.needing")
    for number in (2, 1, 2):
        await api.post("/needing", {"needed": number})
    await api.service.database.write.execute("INSERT INTO needing.needing (needed) VALUES (NULL), (NULL)")
    # The reference does not describe null.
    complete = await raw_ids(api, f"/needing?sort={sort}&limit=10", "next")
    assert len(complete) == 5
    assert await raw_ids(api, f"/needing?sort={sort}&limit=1", "next") == complete


async def raw_ids(api: Api, path: str | None, direction: str) -> list[str]:
    ids: list[str] = []
    while path is not None:
        async with api.session.get(api.url + path, headers=basic(ADMIN, PASSWORD)) as response:
            assert response.status == 200
            page = await response.json()
        ids += [item["id"] for item in page["items"]]
        path = page[direction]
    return ids


async def test_filters_do_not_round(api: Api) -> None:
    await api.service.database.write.execute("TRUNCATE plain.plain")
    for number in ("2.67", "2.68"):
        await api.post("/plain", {"rounded": number})
    for query, expected in (
        ("__lte=2.675", ["2.67"]),
        ("__gt=2.675", ["2.68"]),
        ("=2.675", []),
        ("__ne=2.675", ["2.67", "2.68"]),
    ):
        found = (await api.get(f"/plain?sort=rounded&rounded{query}")).json["items"]
        assert [item["rounded"] for item in found] == expected, query


REFUSED: tuple[tuple[str, Any], ...] = (
    ("any", Raw("123456789012345678901234567890")),
    ("any", Raw("0.12345678901234567890123")),
    ("any", Raw("[{\"a\": 12345678901234567.89}]")),
    ("object", Raw('{"a": 1e-400}')),
    ("decimal", Raw("0." + "1" * 21)),
    ("decimal", "NaN"),
    ("money", "1.005"),
    ("money", Raw("1.0050000000000000000001")),
    ("scaled", "0.0001"),
    ("scaled", "1234567890"),
    ("short", "abcdef"),
    ("small", 2**15),
    ("int4", -(2**31) - 1),
    ("integer", Raw("9223372036854775808")),
    ("integer", Raw("1e300")),
    ("integer", True),
    ("integer", 1e18),
    ("real", 1e39),
    ("colour", "red, dark"),
    ("colour", 1),
    ("shade", "RED"),
    ("level", True),
    ("level", "1"),
    ("status", "ajar"),
    ("address", "fe80::1%eth0"),
    ("address", "10.0.0.1/8"),
    ("address", 1),
    ("text", "a\u0000"),
    ("any", ["\u0000"]),
    ("object", {"\u0000": 1}),
)  # fmt: skip


@pytest.mark.parametrize(("name", "value"), REFUSED)
async def test_a_value_that_cannot_be_kept_is_refused_at_its_pointer_by_every_method(
    api: Api, name: str, value: Any
) -> None:
    item = (await api.post("/plain", {})).json
    body = body_of(name, value)
    for method, path, content, pointer in (
        ("POST", "/plain", body, f"/{name}"),
        ("POST", "/plain", b"[{}," + body + b"]", f"/1/{name}"),
        ("PUT", f"/plain/{item['id']}", body, f"/{name}"),
        ("PATCH", f"/plain/{item['id']}", body, f"/{name}"),
    ):
        response = await api.request(method, path, data=content, headers=JSON)
        assert response.status == 422, response.body
        assert {error["pointer"] for error in response.json["errors"]} == {pointer}
    assert (await api.get(f"/plain/{item['id']}")).json == item


async def test_a_value_of_another_version_of_an_enum_is_shown_and_can_be_replaced(api: Api) -> None:
    item = (await api.post("/plain", {"colour": "RED"})).json
    await api.service.database.write.execute("ALTER TABLE plain.plain DROP CONSTRAINT plain_colour_choices")
    await api.service.database.write.execute("UPDATE plain.plain SET colour = 'GREEN'")
    path = f"/plain/{item['id']}"
    # The document has no such colour, which the client of the tests would report.
    async with api.session.get(api.url + path, headers=basic(ADMIN, PASSWORD)) as response:
        assert (await response.json())["colour"] == "GREEN"
    async with api.session.patch(api.url + path, json={"text": "x"}, headers=basic(ADMIN, PASSWORD)) as response:
        assert (await response.json())["colour"] == "GREEN"
    assert (await api.patch(path, {"colour": "BLUE"})).json["colour"] == "BLUE"
