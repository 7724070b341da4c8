"""The statements of a table, with a real PostgreSQL: results, changes, and costs."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pegboard import rendering
from pegboard.postgres import codecs
from pegboard.query.parsing import parse
from pegboard.query.query import Filter, Query, Rules, cursor_to, requested_position
from pegboard.query.sql import Table, estimated
from pegboard.schema import ddl, fields
from pegboard.schema.column import Column
from pegboard.schema.ddl import CREATED_AT, ID, UPDATED_AT
from tests.conftest import create_core_tables

SECRET = b"secret"


def column(name, field, type_of=None, nullable=True, **kwargs):
    return Column(
        kwargs.pop("stored", name),
        type_of or str(fields.column_type(field)),
        nullable,
        field=name,
        parse=fields.query_parser(field),
        **kwargs,
    )


COLUMNS = (
    ID,
    column("name", fields.String(), max_length=200),
    column("company", fields.String(), nullable=False, max_length=100),
    column("notes", fields.String()),
    column("age", fields.Integer()),
    column("score", fields.Float(), nullable=False),
    column("price", fields.Decimal()),
    column("active", fields.Boolean()),
    column("birthday", fields.Date()),
    column("opens", fields.Time()),
    column("seen", fields.DateTime()),
    column("friend", fields.UUID()),
    column("tags", fields.String(), type_of="text[]", nullable=False),
    column("marks", fields.Integer(), type_of="bigint[]"),
    column("info", fields.Dict()),
    column('odd "name', fields.String(), stored='odd "column', max_length=10),
    column("secret", fields.String(), readable=False),
    CREATED_AT,
    UPDATED_AT,
)
THINGS = Table("sql tests", 'thin"gs', COLUMNS)
RULES = Rules(COLUMNS, searchable=True, max_limit=100_000)
OWNER = Column("secret", "text", field="secret", readable=False)


def spec(table: Table, indexes: tuple[tuple[str, ...], ...] = (), search: tuple[str, ...] = ()) -> ddl.TableSpec:
    custom = [c for c in table.columns if c not in (ID, CREATED_AT, UPDATED_AT)]
    return ddl.TableSpec(
        table.schema, table.name, tuple(Column(c.name, c.type, c.nullable) for c in custom),
        indexes=tuple(ddl.Index(columns) for columns in indexes), search=search,
    )  # fmt: skip


def _json(value: Any) -> str:
    return rendering.dumps(value).decode()


async def connect(dsn: str) -> Any:
    connection: Any = await asyncpg.connect(dsn)
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_json, decoder=orjson.loads)
    await codecs.install(connection)
    return connection


@pytest.fixture(scope="module")
async def database(database_url) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(database_url)
    await create_core_tables(connection)
    for statement in ddl.create(spec(THINGS, search=("name", "notes"))):
        await connection.execute(statement)
    yield connection
    await connection.close()


@pytest.fixture
async def empty(database) -> Any:
    await database.execute(f"TRUNCATE {THINGS.sql_name}")
    return database


async def insert_rows(connection, rows) -> list[dict[str, Any]]:
    await connection.execute(f"TRUNCATE {THINGS.sql_name}")
    items = [(row.get("id") or str(uuid4()), 1, {key: row[key] for key in row if key != "id"}) for row in rows]
    blank = {"company": "", "score": 0.0, "tags": []}
    statements = [THINGS.insert(id, version, blank | values) for id, version, values in items]
    return [dict(await connection.fetchrow(text, *args)) for text, args in statements]


async def read(connection, raw: str, extra=()):
    """Read the page of a query string; return its rows in order, whether there are more, and the cursor of each row."""
    query = parse(raw, RULES)
    page = THINGS.page(query, requested_position(query, SECRET, "things"), extra)
    rows = await connection.fetch(page.text, *page.args)
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    if query.before is not None:
        rows.reverse()
    return rows, more, [cursor_to(query, SECRET, "things", page.position_of(row)) for row in rows]


async def read_forwards(connection, raw: str) -> list[str]:
    """Read all pages forwards."""
    found, rest = [], ""
    while True:
        rows, more, cursors = await read(connection, raw + rest)
        found += [row["id"] for row in rows]
        if not more:
            return found
        rest = f"&after={cursors[-1]}"


async def read_backwards(connection, raw: str, cursor: str) -> list[str]:
    """Read all pages before a cursor, backwards."""
    found: list[str] = []
    while True:
        rows, more, cursors = await read(connection, f"{raw}&before={cursor}")
        found[:0] = [row["id"] for row in rows]
        if not more:
            return found
        cursor = cursors[0]


def expected_order(rows: list[dict[str, Any]], sort: list[tuple[str, bool]]) -> list[str]:
    """Return the ids in the documented order."""
    keys = [*sort, ("id", bool(sort) and sort[-1][1])]
    keys = keys[: [name for name, _ in keys].index("id") + 1]
    for name, descending in reversed(keys):
        rows = sorted(rows, key=partial(rank, name), reverse=descending)
    return [row["id"] for row in rows]


def rank(name, row):
    value = row[name]
    if name == "price" and value is not None:
        value = Decimal(value)
    if name == "notes" and value is not None:
        value = value[:500]
    return (1, 0) if value is None else (0, value)


FEW = st.sampled_from(
    ["", " ", "A", "a", "b", "a\U0001f389", "a\ufffd", "Z", "é", "É", "ß", "ab", "a b", "\x01", "~", "日本"]
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.uuids().map(str),
            "name": st.none() | FEW,
            "company": FEW,
            "notes": st.none() | FEW.map(lambda text: "x" * 499 + text),
            "age": st.none() | st.sampled_from([-(2**63), -1, 0, 1, 2**63 - 1]),
            "score": st.sampled_from([0.0, 0.1, -1e300, 5e-324, 1 / 3]),
            "price": st.none() | st.sampled_from([Decimal("1.10"), Decimal("1.1"), Decimal("-3"), Decimal("1E+30")]),
            "active": st.none() | st.booleans(),
            "birthday": st.none() | st.sampled_from([date(1, 1, 1), date(2015, 2, 15), date(9999, 12, 31)]),
            "opens": st.none() | st.sampled_from([time(0), time(5, 21, 7)]),
            "seen": st.none() | st.sampled_from([datetime(2015, 2, 15, 5, 21, s, tzinfo=UTC) for s in (7, 8)]),
            "friend": st.none() | st.sampled_from([str(UUID(int=n)) for n in (0, 7, 2**127)]),
        }
    ),
    max_size=16,
    unique_by=lambda row: row["id"],
)
SORTS = st.lists(
    st.tuples(
        st.sampled_from([c.field for c in COLUMNS if c.is_sortable and c.field not in ("id", 'odd "name', "created_at", "updated_at")]),
        st.booleans(),
    ),
    max_size=3,
    unique_by=lambda key: key[0],
)  # fmt: skip


def sort_parameter(sort: list[tuple[str, bool]]) -> str:
    return "&sort=" + ",".join(("-" if descending else "") + name for name, descending in sort) if sort else ""


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, sort=SORTS, limit=st.integers(1, 6), fields_=st.sampled_from(["", "&fields=id", "&fields=name,age"]))
async def test_paging_returns_every_item_once_and_in_order_in_both_directions(
    database, rows, sort, limit, fields_
) -> None:
    rows = await insert_rows(database, rows)
    raw = f"limit={limit}{sort_parameter(sort)}{fields_}"
    expected = expected_order(rows, sort)
    assert await read_forwards(database, raw) == expected
    if not rows:
        return
    _, _, cursors = await read(database, f"limit=100{sort_parameter(sort)}")
    for index in {0, len(rows) // 2, len(rows) - 1}:
        assert await read_backwards(database, raw, cursors[index]) == expected[:index]
        after, _, _ = await read(database, f"{raw}&after={cursors[index]}")
        assert [row["id"] for row in after] == expected[index + 1 :][:limit]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, sort=SORTS, data=st.data())
async def test_paging_continues_after_deletions_and_insertions(database, rows, sort, data) -> None:
    rows = await insert_rows(database, rows)
    if len(rows) < 2:
        return
    expected = expected_order(rows, sort)
    index = data.draw(st.integers(0, len(rows) - 1))
    _, _, cursors = await read(database, f"limit=100{sort_parameter(sort)}")
    text, args = THINGS.delete(expected[index])
    assert await database.fetchval(text, *args)
    text, args = THINGS.insert(str(uuid4()), 1, {"company": "a", "score": 0.1, "tags": []})
    new = (await database.fetchrow(text, *args))["id"]
    found, _, _ = await read(database, f"limit=100{sort_parameter(sort)}&after={cursors[index]}")
    assert [row["id"] for row in found if row["id"] != new] == expected[index + 1 :]


@pytest.mark.parametrize(
    "sort",
    [
        [], [("id", False)], [("id", True)], [("id", True), ("name", False)], [("name", False), ("id", True)],
        [("name", True), ("id", False), ("age", False)],
    ],
)  # fmt: skip
async def test_the_id_can_be_any_sort_key(empty, sort) -> None:
    rows = await insert_rows(empty, [{"name": name} for name in ["a", None, "b", "a", None, "b", "c"]])
    assert await read_forwards(empty, f"limit=2{sort_parameter(sort)}") == expected_order(rows, sort)


async def test_texts_with_an_equal_sort_prefix_are_each_returned_once(empty) -> None:
    rows = await insert_rows(empty, [{"notes": "\U0001f389" * 600 + str(n % 3)} for n in range(10)])
    for sort in ([("notes", False)], [("notes", True)]):
        found = await read_forwards(empty, f"limit=2{sort_parameter(sort)}")
        assert found == expected_order(rows, sort)
    _, _, cursors = await read(empty, "sort=notes&limit=1")
    assert len(cursors[0]) < 4_000


async def test_paging_works_with_microseconds_stored_by_others(empty) -> None:
    moment = datetime(2015, 2, 15, 5, 21, 7, tzinfo=UTC)
    rows = await insert_rows(empty, [{} for n in range(9)])
    for index, row in enumerate(rows):
        row["seen"] = moment + timedelta(microseconds=index // 2)
        await empty.execute(f"UPDATE {THINGS.sql_name} SET seen = $1 WHERE id = $2", row["seen"], row["id"])
    for sort in ([("seen", False)], [("seen", True)]):
        assert await read_forwards(empty, f"limit=1{sort_parameter(sort)}") == expected_order(rows, sort)


FILTERED = (
    {"name": "Ann", "age": 1, "tags": ["a", "b"], "active": True, "score": 0.1, "price": Decimal("1.10"), "marks": [1, 2]},
    {"name": "ann", "age": 2, "tags": [], "active": False, "birthday": date(2015, 2, 15), "seen": datetime(2015, 2, 15, tzinfo=UTC)},
    {"name": "Annabel", "age": -(2**63), "tags": ["a,b", "%"], "marks": []},
    {"name": None, "age": None, "tags": [""], "opens": time(5, 21, 7)},
    {"name": "100%_x", "age": 7, "friend": str(UUID(int=7)), "info": {"a": 1}},
    {"name": "100Xyx", "age": 8, "odd \"column": "x"},
    {"name": "É", "age": 9},
    {"name": "ÉCOLE\\", "age": 10, "secret": "mine"},
    {"name": "a\U0010ffff", "age": 11},
    {"name": "a\U0010ffffb", "age": 12},
    {"name": "\ud7ff", "age": 13},
    {"name": "\ud7ffz", "age": 14},
    {"name": "\ue000", "age": 15},
    {"name": "", "age": 16},
)  # fmt: skip
ALL = set(range(len(FILTERED)))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("name=Ann", {0}), ("name=ANN", set()), ("name=", {13}), ("name__ne=Ann", ALL - {0}), ("name__in=Ann,%C3%89,none", {0, 6}),
        ("name__isnull=true", {3}), ("name__isnull=false", ALL - {3}), ("name__lt=Ann", {13, 4, 5}), ("name__gt=Annabel&name__lt=b", {1, 8, 9}),
        ("name__prefix=Ann", {0, 2}), ("name__prefix=100%25_", {4}), ("name__prefix=", ALL - {3}), ("name__prefix=a%F4%8F%BF%BF", {8, 9}),
        ("name__prefix=%F4%8F%BF%BF", set()), ("name__prefix=%ED%9F%BF", {10, 11}), ("name__prefix=%5C", set()),
        ("name__contains=ANN", {0, 1, 2}), ("name__contains=%25", {4}), ("name__contains=_", {4}), ("name__contains=%C3%A9", {6, 7}),
        ("name__contains=%5C", {7}), ("name__contains=", ALL - {3}), ("name__contains=y", {5}),
        ("age=1", {0}), ("age__ne=1", ALL - {0}), ("age__lt=1", {2}), ("age__lte=1", {0, 2}), ("age__gte=15", {12, 13}), ("age__in=1,2,99", {0, 1}),
        ("age=-9223372036854775808", {2}), ("age__isnull=true", {3}), ("age__gt=1&age__lt=8", {1, 4}),
        ("active=true", {0}), ("active__ne=true", ALL - {0}), ("active__isnull=false", {0, 1}), ("active__in=true,false", {0, 1}),
        ("score=0.1", {0}), ("score__lt=0.1", ALL - {0}), ("price=1.1", {0}), ("price__gte=1.10", {0}), ("price__in=1,1.1", {0}),
        ("birthday=2015-02-15", {1}), ("birthday__gt=2015-02-15", set()), ("seen__lte=2015-02-15T01:00:00%2B01:00", {1}), ("opens__gt=05:21:06", {3}),
        ("friend=00000000-0000-0000-0000-000000000007", {4}), ("friend__lt=10000000-0000-0000-0000-000000000000", {4}),
        ("tags__has=a", {0}), ("tags__has=a,b", {2}), ("tags__has=%25", {2}), ("tags__has=", {3}), ("marks__has=2", {0}), ("marks__isnull=true", ALL - {0, 2}),
        ("info__isnull=false", {4}), ("odd+%22name=x", {5}), ("odd+%22name__contains=X", {5}), ("created_at__gt=2020-01-01T00:00:00Z", ALL),
        ("updated_at__lt=2020-01-01T00:00:00Z", set()), ("name__contains=n&tags__has=a&age__lt=5", {0}),
    ],
)  # fmt: skip
async def test_filters_find_matching_items(empty, raw, expected) -> None:
    rows = await insert_rows(empty, FILTERED)
    ids = [row["id"] for row in rows]
    for sort in ("", "&sort=name", "&sort=-age,name"):
        found, _, _ = await read(empty, raw + sort)
        assert {ids.index(row["id"]) for row in found} == expected
    query = parse(raw, RULES)
    text, args = THINGS.count(query)
    assert await empty.fetchval(text, *args) == len(expected)
    text, args = THINGS.estimate(query)
    assert estimated(await empty.fetchval(text, *args)) >= 0
    found = await read_forwards(empty, f"{raw}&limit=2&sort=-name,age")
    assert found == [id for id in expected_order(rows, [("name", True), ("age", False)]) if ids.index(id) in expected]


@pytest.mark.parametrize("sort", ["", "sort=name"])
async def test_extra_filters_are_combined_with_those_of_the_query(empty, sort) -> None:
    ids = [row["id"] for row in await insert_rows(empty, FILTERED)]
    mine = (Filter(OWNER, "eq", "mine"),)
    rows, _, _ = await read(empty, sort, mine)
    assert [row["id"] for row in rows] == [ids[7]]
    assert (await read(empty, f"{sort}&age=1", mine))[0] == []
    for statement, expected in (
        (THINGS.count(Query(), mine), 1),
        (THINGS.delete(ids[0], mine), None), (THINGS.delete(ids[7], mine, versions=[2]), None), (THINGS.delete(ids[7], mine, versions=[2, 1]), True),
    ):  # fmt: skip
        assert await empty.fetchval(statement.text, *statement.args) == expected
    for statement in (THINGS.select(ids[0], mine), THINGS.update(ids[0], 2, {"name": "x"}, mine, versions=[1])):
        assert await empty.fetchrow(statement.text, *statement.args) is None


WORDS = ("apple pear", "Apple apple apple plum", "pear", "plum plum", None, "apple")


async def test_a_search_finds_words_and_ranks_results(empty) -> None:
    rows = await insert_rows(empty, [{"name": name, "age": index} for index, name in enumerate(WORDS * 5)])
    ages = {row["id"]: row["age"] % len(WORDS) for row in rows}
    found = await read_forwards(empty, "q=apple&limit=3")
    assert len(set(found)) == len(found) == 15
    assert [ages[id] for id in found[:5]] == [1] * 5
    assert {ages[id] for id in found} == {0, 1, 5}
    assert await read_forwards(empty, "q=apple&limit=100") == found
    for raw, expected in (
        ("q=apple+-plum", {1}), ("q=%22pear+apple%22", {0}), ("q=pear+or+plum", set()), ("q=nothing", set()), ("q=apple&age=7", {1}),
        ("q=AP", {0, 1, 5}), ("q=p", {0, 1, 2, 3}), ("q=pple", set()), ("q=%C3%A0p+P%C3%88", {0}), ("q=*", set()), ("q=" + "x" * 500, set()), ("q=" + "%F0%9F%8E%89" * 500, set()), ("q=%22", set()), ("q=-", set()), ("q=a:*%26!('", {0, 1, 5}),
    ):  # fmt: skip
        assert {ages[id] for id in await read_forwards(empty, f"{raw}&limit=2")} == expected
    assert await read_forwards(empty, "q=apple&sort=-age&limit=4") == expected_order(
        [r for r in rows if r["id"] in found], [("age", True)]
    )
    text, args = THINGS.count(parse("q=apple", RULES))
    assert await empty.fetchval(text, *args) == 15
    _, _, cursors = await read(empty, "q=apple&limit=100")
    assert await read_backwards(empty, "q=apple&limit=2", cursors[-1]) == found[:-1]


async def test_a_page_selects_requested_fields_first(empty) -> None:
    await insert_rows(empty, [{"name": "a", "age": 1, 'odd "column': "o"}, {"name": "b"}])
    page = THINGS.page(parse("fields=odd+%22name,name&sort=-age,price", RULES))
    assert page.names == ("id", "name", 'odd "name')
    row = dict(zip(page.names, (await empty.fetch(page.text, *page.args))[1], strict=False))
    assert (row["name"], row['odd "name']) == ("a", "o")
    page = THINGS.page(RULES.default_query)
    assert (
        list((await empty.fetchrow(page.text, *page.args)).keys())
        == [c.field for c in COLUMNS if c.readable]
        == list(page.names)
    )


VALUES = {
    "name": "Ånn", "company": "", "notes": "x" * 10_000, "age": 2**63 - 1, "score": -0.0, "price": Decimal("1.10"), "active": False,
    "birthday": date(1, 1, 1), "opens": time(5, 21, 7), "seen": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), "friend": UUID(int=7),
    "tags": ["a", 'b "c"', "d\\,{}", "", "NULL"], "marks": [1, -(2**63)], "info": {"a": [1, None, {"b": "é"}], "c": 1.5},
    'odd "column': "x", "secret": "s",
}  # fmt: skip
ITEM = {
    **{name: value for name, value in VALUES.items() if name not in ("secret", 'odd "column')},
    'odd "name': "x", "price": "1.10", "friend": str(UUID(int=7)),
}  # fmt: skip
NULLS = dict.fromkeys(VALUES) | {"company": "c", "score": 1.0, "tags": []}


def values_of(row) -> dict[str, Any]:
    return {
        name: value for name, value in dict(row).items() if name not in ("id", "created_at", "updated_at", "_version")
    }


async def test_an_inserted_row_is_returned_as_it_is_selected(empty) -> None:
    ids = [str(uuid4()) for _ in range(2)]
    for id, values in zip(ids, (VALUES, NULLS), strict=True):
        text, args = THINGS.insert(id, 2**63 - 1, values)
        row = await empty.fetchrow(text, *args)
        assert (row["id"], row["_version"]) == (id, 2**63 - 1)
        assert row["created_at"] == row["updated_at"]
        assert row["created_at"].microsecond == 0
        text, args = THINGS.select(id)
        assert await empty.fetchrow(text, *args) == row
        assert values_of(row) == (
            ITEM if values is VALUES else dict.fromkeys(ITEM) | {"company": "c", "score": 1.0, "tags": []}
        )
        assert values is NULLS or str(row["score"]) == "-0.0"
    assert await empty.fetchval(f"SELECT count(*) FROM {THINGS.sql_name} WHERE secret = 's'") == 1


async def test_a_select_returns_the_item_and_its_version_or_no_row(empty) -> None:
    (row,) = await insert_rows(empty, [{"name": "a"}])
    text, args = THINGS.select(row["id"])
    assert dict(await empty.fetchrow(text, *args)) == dict(row)
    assert row["_version"] == 1
    text, args = THINGS.select(str(uuid4()))
    assert await empty.fetchrow(text, *args) is None


@pytest.fixture
async def item(empty) -> dict[str, Any]:
    text, args = THINGS.insert(str(uuid4()), 1, VALUES)
    row = await empty.fetchrow(text, *args)
    await empty.execute(f"UPDATE {THINGS.sql_name} SET created_at = '2001-01-01Z', updated_at = '2001-01-01Z'")
    # The statement before has renewed it.
    await empty.execute(f"UPDATE {THINGS.sql_name} SET _version = 1")
    return dict(row)


@pytest.mark.parametrize(
    "values",
    [{}, VALUES, *({name: value} for name, value in VALUES.items())],
    ids=lambda values: ",".join(values) or "none",
)
async def test_an_update_without_changes_keeps_version_and_date(empty, item, values) -> None:
    text, args = THINGS.update(item["id"], 2, values)
    row = await empty.fetchrow(text, *args)
    assert (row["_version"], row["updated_at"].year) == (1, 2001)
    assert values_of(row) == values_of(item)


CHANGES = {
    "name": "Ånn ", "company": "x", "notes": None, "age": 0, "score": 0.0, "price": Decimal("1.1"), "active": None, "birthday": date(1, 1, 2),
    "opens": time(5, 21, 8), "seen": None, "friend": UUID(int=8), "tags": ["a"], "marks": [-(2**63), 1], "info": {"a": [1, None, {"b": "e"}], "c": 1.5},
    'odd "column': "y", "secret": "t",
}  # fmt: skip


async def test_the_maximum_date_is_not_infinity(empty) -> None:
    last = {"birthday": date.max}
    (row,) = await insert_rows(empty, [last])
    text, args = THINGS.insert(str(uuid4()), 1, {"company": "", "score": 1.0, "tags": []} | last)
    await empty.fetchrow(text, *args)
    text, args = THINGS.update(row["id"], 2, last)
    assert (await empty.fetchrow(text, *args))["_version"] == 1
    assert await empty.fetchval(f"SELECT bool_and(isfinite(birthday)) FROM {THINGS.sql_name}")
    for raw in ("birthday=9999-12-31", "birthday__in=9999-12-31", "sort=birthday", "sort=-birthday"):
        assert len(set(await read_forwards(empty, f"{raw}&limit=1"))) == 2


@pytest.mark.parametrize("name", CHANGES)
async def test_any_change_sets_a_new_version_and_date(empty, item, name) -> None:
    values = VALUES | {name: CHANGES[name]}
    for changes, version in (({name: CHANGES[name]}, 2), (VALUES, 3), (values, 4)):
        text, args = THINGS.update(item["id"], version, changes)
        row = await empty.fetchrow(text, *args)
        assert row["_version"] == version
        assert row["updated_at"].year > 2001
        assert row["updated_at"].microsecond == 0
        assert row["created_at"].year == 2001


async def test_null_can_be_set_and_replaced(empty, item) -> None:
    for values, version in ((NULLS, 2), (VALUES, 3)):
        text, args = THINGS.update(item["id"], version, values)
        assert (await empty.fetchrow(text, *args))["_version"] == version


async def test_the_date_of_change_never_decreases(empty, item) -> None:
    await empty.execute(f"UPDATE {THINGS.sql_name} SET updated_at = '2999-01-01Z'")
    text, args = THINGS.update(item["id"], 2, {"age": 3})
    row = await empty.fetchrow(text, *args)
    assert (row["_version"], row["updated_at"].year) == (2, 2999)


async def test_one_of_many_concurrent_updates_of_a_version_succeeds(database_url, empty, item) -> None:
    async def change(version: int) -> bool:
        connection = await connect(database_url)
        try:
            text, args = THINGS.update(item["id"], version, {"age": version}, versions=[1])
            return await connection.fetchrow(text, *args) is not None
        finally:
            await connection.close()

    won = await asyncio.gather(*(change(version) for version in range(10, 30)))
    assert sum(won) == 1
    text, args = THINGS.select(item["id"])
    assert (await empty.fetchrow(text, *args))["age"] == 10 + won.index(True)


async def test_a_locked_item_can_be_read(database_url, empty, item) -> None:
    other = await connect(database_url)
    try:
        async with empty.transaction():
            text, args = THINGS.select(item["id"], lock=True)
            assert await empty.fetchrow(text, *args)
            text, args = THINGS.select(item["id"])
            assert await other.fetchrow(text, *args)
            await other.execute("SET lock_timeout = '1ms'")
            text, args = THINGS.update(item["id"], 2, {"age": 1})
            with pytest.raises(asyncpg.LockNotAvailableError):
                await other.fetchrow(text, *args)
    finally:
        await other.close()


def test_a_field_named_like_the_version_column_is_rejected() -> None:
    for name, stored in (("_version", "v"), ("v", "_version")):
        with pytest.raises(ValueError, match="_version"):
            Table("s", "t", (ID, column(name, fields.Integer(), stored=stored)))


def test_statements_are_cached_and_the_cache_is_bounded() -> None:
    table = Table("s", "t", COLUMNS)
    first = table.page(RULES.default_query).text
    assert table.page(parse("", RULES)).text is first
    texts = {table.page(parse(f"limit={limit}", RULES)).text for limit in range(1, 2_000)}
    assert len(texts) == 1_999
    assert len(table._texts) <= 1_000


BIG = Table(
    "big", "big", tuple(c for c in COLUMNS if c.field in ("id", "name", "company", "age", "created_at", "updated_at"))
)
DEEP = 100_000


@pytest.fixture(scope="module")
async def big(database_url) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(database_url)
    indexes = (("name",), ("-company",), ("created_at",), ("age", "-name"), ("company", "-age", "name"))
    schema, table, *others = ddl.create(spec(BIG, indexes))
    await connection.execute(schema)
    await connection.execute(table)
    await connection.execute(
        f"""INSERT INTO {BIG.sql_name} (id, created_at, updated_at, "_version", name, company, age)
        SELECT gen_random_uuid(), '2020-01-01Z'::timestamptz + n % 20 * interval '1 hour', now(), n,
               CASE WHEN n % 5 > 0 THEN md5(n::text) END, 'c' || n % 1000, CASE WHEN n % 3 > 0 THEN n % 50 END
        FROM generate_series(1, 150000) n"""
    )
    for statement in others:
        await connection.execute(statement)
    await connection.execute(f"VACUUM ANALYZE {BIG.sql_name}")
    yield connection
    await connection.close()


async def explain(connection, page) -> tuple[int, set[str]]:
    """Return the number of buffers that a statement reads, and the node types of its plan."""
    (plan,) = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {page.text}", *page.args))
    steps, todo = set(), [plan["Plan"]]
    for step in todo:
        steps.add(step["Node Type"])
        todo += step.get("Plans", ())
    return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"], steps


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize(
    "sort",
    ["", "-id", "name", "-name", "company", "-company", "created_at", "-created_at", "age,-name", "-age,name", "company,-age,name", "-company,age,-name"],
)  # fmt: skip
async def test_a_deep_page_costs_as_much_as_the_first(big, sort, mode) -> None:
    await big.execute(f"SET plan_cache_mode = {mode}")
    raw = f"sort={sort}&" if sort else ""
    query = parse(raw, RULES)
    page = BIG.page(query)
    first, steps = await explain(big, page)
    assert steps <= {"Limit", "Index Scan"}
    offset = page.text.rpartition(" LIMIT ")[0] + f" OFFSET {DEEP - 1} LIMIT 52"
    row, *expected = await big.fetch(offset, *page.args)
    cursor = cursor_to(query, SECRET, "big", page.position_of(row))
    for parameter in ("after", "before"):
        deep = parse(f"{raw}{parameter}={cursor}", RULES)
        page = BIG.page(deep, requested_position(deep, SECRET, "big"))
        buffers, steps = await explain(big, page)
        assert "Seq Scan" not in steps
        assert buffers < 3 * first
        found = await big.fetch(page.text, *page.args)
        assert parameter == "before" or found == expected
        assert len(found) == 51


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize(
    "raw",
    [
        "name__prefix=abcd&sort=name",
        "name__prefix=abcd",
        "id__in=00000000-0000-0000-0000-000000000007",
        "name__lt=0001",
    ],
)
async def test_filters_use_existing_indexes(big, raw, mode) -> None:
    await big.execute(f"SET plan_cache_mode = {mode}")
    _, steps = await explain(big, BIG.page(parse(raw, RULES)))
    if mode == "force_custom_plan" or raw.endswith("sort=name"):
        assert "Seq Scan" not in steps


async def test_an_estimate_is_close_to_the_actual_count(big) -> None:
    for raw, expected in (("", 150_000), ("age=7", 2_000), ("name__isnull=true", 30_000)):
        text, args = BIG.estimate(parse(raw, RULES))
        assert expected / 2 < estimated(await big.fetchval(text, *args)) < expected * 2
