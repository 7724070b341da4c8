"""Items that cannot be shown as declared: a page, an export and an expansion show them as nearly as possible."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from marshmallow import post_dump, pre_dump

from pegboard import Context, Resource, Schema, TableResource, fields
from tests.conftest import Api, Response, Serve, plugin


class Value(Schema):
    name = fields.String(load_default="")
    amount = fields.Decimal(allow_none=True)
    ratio = fields.Float(allow_none=True)
    day = fields.Date(allow_none=True)
    seen_at = fields.DateTime(allow_none=True)
    words = fields.List(fields.String(), allow_none=True)
    amounts = fields.List(fields.Decimal(), allow_none=True)
    days = fields.List(fields.Date(), allow_none=True)
    details = fields.Dict(allow_none=True)
    raw = fields.Raw(allow_none=True)


class Values(TableResource):
    """One value of each type, shown as the database returns it."""

    schema = Value


class Line(Schema):
    title = fields.String(required=True)
    pieces = fields.Integer(load_default=1)
    when = fields.DateTime()
    secret = fields.String(load_only=True)


class Masked(fields.String):
    """Show the end of a text."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        if value == "odd":
            raise LookupError(value)
        return value and f"*{value[-1]}"


class Prepared(Schema):
    title = fields.String()
    size = fields.Integer(attribute="count.real")

    @pre_dump
    def prepare(self, data: Any, **_: Any) -> Any:
        return data


class Order(Schema):
    name = fields.String(load_default="")
    line = fields.Nested(Line, allow_none=True)
    lines = fields.List(fields.Nested(Line), allow_none=True)
    many = fields.Nested(Line, many=True, allow_none=True)
    by_name = fields.Dict(values=fields.Nested(Line), allow_none=True)
    lists = fields.List(fields.List(fields.Dict()), allow_none=True)
    prepared = fields.Nested(Prepared, allow_none=True)
    masked = Masked(allow_none=True)
    length = fields.Method("measure")
    wait = fields.Method("measure_later")
    thing = fields.Function(lambda item: object() if item["name"] == "thing" else 1)

    def measure(self, item: Mapping[str, Any]) -> int:
        return len(item["name"]) if item["name"] != "odd" else 1 // 0

    def measure_later(self, item: Mapping[str, Any]) -> Any:
        async def later() -> None:
            """Do nothing."""

        return later() if item["name"] == "late" else 1

    @post_dump
    def count(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**data, "length": 1000 // (data["length"] - 1000)} if data["name"] == "hook" * 250 else data


class Address(Schema):
    ip = fields.IP()
    when = fields.DateTime()
    text = fields.String()


class Host(Schema):
    name = fields.String(load_default="")
    address = fields.Nested(Address, allow_none=True)
    ips = fields.List(fields.IP(), allow_none=True)
    prices = fields.List(fields.Decimal(places=2), allow_none=True)
    texts = fields.List(fields.List(fields.String()), allow_none=True)


class Hosts(TableResource):
    """Hosts with addresses, without write-only fields."""

    schema = Host


class Orders(TableResource):
    """Orders with lines and computed fields."""

    schema = Order


class Visit(Schema):
    order = fields.Reference("orders", allow_none=True)


class Visits(TableResource):
    """Visits that refer to orders."""

    schema = Visit


class Memories(Resource):
    """Items in memory, of which one has an odd value."""

    schema = Order
    verbs = "GET", "HEAD"
    items = [{"id": str(UUID(int=1)), "name": "fine"}, {"id": str(UUID(int=2)), "name": "odd", "line": "text"}]

    async def list(self, context: Context) -> Any:
        return self.items

    async def retrieve(self, context: Context, id: str) -> Any:
        return next(item for item in self.items if item["id"] == id)


class Unchecked(Api):
    """A client whose responses may differ from the document, as values that the schema does not have must."""

    async def _send(self, method: str, path: str, json: Any, options: dict[str, Any]) -> Response:
        headers = {"Accept-Encoding": "identity", **self.headers, **options.pop("headers", {})}
        async with self.session.request(method, self.url + path, json=json, headers=headers, **options) as raw:
            return Response(raw.status, raw.headers, await raw.read())


@pytest.fixture(scope="module")
async def api(serve: Serve) -> Api:
    kinds = {"values": Values, "orders": Orders, "visits": Visits, "hosts": Hosts, "memories": Memories}
    checked = await serve([plugin(name, kind) for name, kind in kinds.items()])
    return Unchecked(checked._target, checked.url)


@pytest.fixture
async def admin(api: Api, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    await connection.execute("TRUNCATE values.values, orders.orders, visits.visits, hosts.hosts")
    yield connection
    await connection.close()


async def shown_everywhere(api: Api, name: str, id: str) -> dict[str, Any]:
    """Return an item as the page has it, and compare that with all other ways to read it."""
    page = await api.get(f"/{name}")
    assert page.status == 200
    item = next(item for item in page.json["items"] if item["id"] == id)
    one = await api.get(f"/{name}/{id}")
    assert (one.status, one.json) == (200, item)
    lines = await api.get(f"/{name}", headers={"Accept": "application/x-ndjson"})
    assert item in [orjson.loads(line) for line in lines.body.splitlines()]
    table = await api.get(f"/{name}", headers={"Accept": "text/csv"})
    assert table.body.count(id.encode()) == 1
    assert table.body.endswith(b"\r\n")
    return dict(item)


async def add(api: Api, admin: asyncpg.Connection, name: str, column: str, sql: str) -> str:
    """Create an item, put a value into a column by SQL, and return the item's id."""
    id = str((await api.post(f"/{name}", {})).json["id"])
    await api.post(f"/{name}", {"name": "other"})
    await admin.execute(f"UPDATE {name}.{name} SET {column} = {sql} WHERE id = $1", id)
    return id


DEEP = "[" * 300 + "]" * 300
ODD = [
    ("amount", "'NaN'", "NaN"),
    ("amount", "'Infinity'", "Infinity"),
    ("amount", "'-Infinity'", "-Infinity"),
    ("amounts", "'{1,NaN,NULL}'", ["1", "NaN", None]),
    ("ratio", "'NaN'", None),
    ("ratio", "'-Infinity'", None),
    ("words", "'{a,NULL}'", ["a", None]),
    ("words", "'{{a,b},{c,d}}'", [["a", "b"], ["c", "d"]]),
    ("words", "'[3:4]={a,b}'", ["a", "b"]),
    ("words", "'{}'", []),
    ("days", "'{2015-02-15,NULL}'", ["2015-02-15", None]),
    ("details", "'[1, \"a\"]'", [1, "a"]),
    ("details", "'\"text\"'", "text"),
    ("raw", "'1.5'", 1.5),
    ("raw", f"'{DEEP}'", orjson.loads(DEEP)),
    ("details", f"'{{\"a\": {DEEP}}}'", {"a": orjson.loads(DEEP)}),
    ("raw", f"'{'[' * 900 + ']' * 900}'", orjson.loads("[" * 100 + "null" + "]" * 100)),
]


@pytest.mark.parametrize(("column", "sql", "shown"), ODD)
async def test_a_value_that_only_sql_can_store_is_shown_and_can_be_replaced(
    api: Api, admin: asyncpg.Connection, column: str, sql: str, shown: object
) -> None:
    id = await add(api, admin, "values", column, sql)
    assert (await shown_everywhere(api, "values", id))[column] == shown
    changed = await api.patch(f"/values/{id}", {"name": "changed"})
    assert (changed.status, changed.json[column], changed.json["name"]) == (200, shown, "changed")
    emptied = await api.patch(f"/values/{id}", {column: None})
    assert (emptied.status, emptied.json[column]) == (200, None)


SHAPES = [
    ("line", '"text"', "text"),
    ("line", '[{"title": "a", "secret": "s"}]', [{"title": "a"}]),
    ("line", '{"title": {"a": 1}, "secret": "s", "pieces": 2}', {"title": None, "pieces": 2}),
    ("line", '{"title": ["a", {"secret": "s"}], "pieces": {"secret": "s"}}', {"title": ["a", None], "pieces": None}),
    ("lines", '[{"when": {"secret": "s"}}, {"when": [[{"secret": "s"}]]}]', [{"when": None}, {"when": [[None]]}]),
    ("many", '[{"title": true}]', [{"title": True}]),
    ("line", "5", 5),
    ("lines", '"text"', "text"),
    ("lines", '{"title": "a", "secret": "s"}', {"title": "a"}),
    ("lines", '[{"title": "a", "secret": "s"}, 7, null, ["b"]]', [{"title": "a"}, 7, None, ["b"]]),
    ("many", '{"title": "a", "secret": "s"}', {"title": "a"}),
    ("many", '[1, {"title": "a", "secret": "s"}]', [1, {"title": "a"}]),
    ("by_name", '[{"title": "a", "secret": "s"}]', [{"title": "a"}]),
    ("by_name", '{"x": "text", "y": {"title": "a", "secret": "s"}}', {"x": "text", "y": {"title": "a"}}),
    ("lists", '[{"a": 1}, "b"]', [{"a": 1}, "b"]),
]


@pytest.mark.parametrize(("column", "stored", "shown"), SHAPES)
async def test_json_of_another_shape_is_shown_without_what_the_schema_hides(
    api: Api, admin: asyncpg.Connection, column: str, stored: str, shown: object, caplog: pytest.LogCaptureFixture
) -> None:
    id = await add(api, admin, "orders", column, f"'{stored}'")
    with caplog.at_level(logging.WARNING, "pegboard.plugins"):
        item = await shown_everywhere(api, "orders", id)
    assert item[column] == shown
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f"{column} of the item {id} of orders cannot be shown as declared"]
    replaced = await api.patch(f"/orders/{id}", {column: None})
    assert (replaced.status, replaced.json[column]) == (200, None)


@pytest.mark.parametrize(
    ("column", "stored", "shown"),
    [
        ("ips", "{{1.1.1.1},{::2}}", [["1.1.1.1"], ["::2"]]),
        ("ips", "{1.1.1.1,NULL}", ["1.1.1.1", None]),
        ("prices", "{{1.50},{2.00}}", [["1.50"], ["2.00"]]),
        ("address", '{"ip": {}}', {"ip": {}}),
        ("address", '{"ip": 5, "when": {"a": [1]}}', {"ip": 5, "when": {"a": [1]}}),
        ("address", '{"ip": "not one", "text": [["a"]]}', {"ip": "not one", "text": [["a"]]}),
        ("address", '{"text": false}', {"text": False}),
        ("address", f'{{"text": {"[" * 900 + "]" * 900}}}', {"text": None}),
        ("texts", '["a", ["b", ["c"]]]', ["a", ["b", ["c"]]]),
    ],
)
async def test_a_stored_value_of_another_shape_is_shown_as_json(
    api: Api, admin: asyncpg.Connection, column: str, stored: str, shown: object
) -> None:
    id = await add(api, admin, "hosts", column, f"'{stored}'")
    assert (await shown_everywhere(api, "hosts", id))[column] == shown


@pytest.mark.parametrize("stored", ['"text"', "5", "1.5", "true", "[1]", '{"count": 1, "other": 2}'])
async def test_no_attribute_of_a_scalar_or_a_list_is_shown(api: Api, admin: asyncpg.Connection, stored: str) -> None:
    id = await add(api, admin, "orders", "prepared", f"'{stored}'")
    assert (await shown_everywhere(api, "orders", id))["prepared"] == {}


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({"name": "odd"}, {"name": "odd", "length": None, "thing": 1}),
        ({"name": "late"}, {"name": "late", "length": 4, "wait": None}),
        ({"name": "thing"}, {"name": "thing", "length": 5, "thing": None}),
        ({"name": "hook" * 250}, {"name": "hook" * 250, "length": 1000}),
        ({"masked": "fine"}, {"masked": "*e"}),
        ({"masked": "odd"}, {"masked": None}),
    ],
)
async def test_an_item_for_which_code_of_the_author_fails_is_shown(
    api: Api, admin: asyncpg.Connection, values: dict[str, Any], shown: dict[str, Any]
) -> None:
    created = await api.post("/orders", values)
    assert created.status == 201
    assert (await api.post("/orders", [{}, values])).status == 201
    item = await shown_everywhere(api, "orders", created.json["id"])
    assert item == created.json
    assert item | shown == item
    visit = await api.post("/visits?expand=order", {"order": item["id"]})
    assert (visit.status, visit.json["order"]) == (201, item)
    assert (await api.get("/visits?expand=order")).json["items"][0]["order"] == item


async def test_an_odd_item_in_memory_does_not_take_the_others_with_it(api: Api) -> None:
    page = await api.get("/memories")
    assert page.status == 200
    assert [(item["name"], item["length"]) for item in page.json["items"]] == [("fine", 4), ("odd", None)]
    assert page.json["items"][1]["line"] == "text"


async def test_the_log_has_each_odd_field_once_and_a_limited_number(
    api: Api, admin: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await api.post("/orders", [{"name": "odd"} for _ in range(300)])
    with caplog.at_level(logging.WARNING, "pegboard.plugins"):
        for _ in range(3):
            assert len((await api.get("/orders?limit=500")).json["items"]) == 300
    assert len(caplog.records) <= 101
    assert all(record.exc_info is not None for record in caplog.records[:-1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "text", "title"]),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.sampled_from(["title", "pieces", "a"]), parts),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=st.lists(st.tuples(st.sampled_from(["line", "lines", "many", "by_name", "lists"]), JSON), min_size=5))
async def test_no_json_makes_a_row_or_a_page_fail(
    api: Api, admin: asyncpg.Connection, values: list[tuple[str, Any]]
) -> None:
    await admin.execute("TRUNCATE orders.orders CASCADE")
    created = await api.post("/orders", [{} for _ in values])
    ids = [item["id"] for item in created.json["items"]]
    for id, (column, value) in zip(ids, values, strict=True):
        text = orjson.dumps(value).decode()
        await admin.execute(f"UPDATE orders.orders SET {column} = $2 WHERE id = $1", id, text)
    page = await api.get("/orders?limit=500")
    assert [item["id"] for item in page.json["items"]] == ids
    assert b" object at 0x" not in page.body
    await shown_everywhere(api, "orders", ids[0])
