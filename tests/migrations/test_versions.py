"""Versions of a plugin side by side on one database, in every order: nothing is lost, and nothing fails."""

from __future__ import annotations

import asyncio
import enum
import itertools
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from pegboard import Schema, TableResource, Unique, fields, validate
from pegboard.hosting.discovery import Plugin
from pegboard.hosting.migrations import migrations
from pegboard.migrations import runner
from pegboard.migrations.status import Outcome
from tests.conftest import Api, Serve, new_database, plugin

ALL = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"


class Line(Schema):
    text = fields.String(required=True)


class LineWithVat(Schema):
    text = fields.String(required=True)
    vat = fields.Integer(required=True)


def resource(schema: dict[str, Any], **declared: Any) -> type[TableResource]:
    made = type("Book", (Schema,), {"__doc__": "A book.", **schema})
    return type("Books", (TableResource,), {"__doc__": "Books.", "schema": made, "verbs": ALL, **declared})


def title(most: int) -> fields.String:
    return fields.String(required=True, validate=validate.Length(1, most))


VERSIONS = {
    "1": resource(
        {"title": title(20), "year": fields.Integer(allow_none=True)}, indexes=("year",), unique=(Unique("title"),)
    ),
    "2": resource(
        {
            "title": title(60),
            "year": fields.Integer(allow_none=True),
            "summary": fields.String(allow_none=True),
            "copies": fields.Integer(load_default=1),
        },
        search_fields=("title", "summary"),
        indexes=("year", "-copies"),
        unique=(Unique("title"),),
    ),
    "3": resource(
        {
            "title": title(60),
            "summary": fields.String(allow_none=True),
            "lines": fields.List(fields.Nested(Line), load_default=list),
        }
    ),
}


def version(number: str, **about: Any) -> Plugin:
    return plugin("books", VERSIONS[number], version=number, **about)


def book(number: str, name: str) -> dict[str, Any]:
    return {"title": name} | ({"year": 1815} if number in "12" else {})


@pytest.fixture
async def url(pegboard_postgres: str) -> str:
    return await new_database(pegboard_postgres)


@pytest.fixture
async def connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def work(api: Api, number: str, name: str, *, search: bool) -> list[int]:
    """Create, read, search, change and list books, and return the statuses."""
    made = await api.post("/books", book(number, name))
    responses = [made, await api.post("/books", [book(number, f"{name}{n}") for n in range(2)])]
    if made.status == 201:
        path = made.headers["Location"]
        responses.append(await api.get(path))
        responses.append(await api.patch(path, {"title": f"{name}!"}))
        responses.append(await api.put(path, book(number, f"{name}?")))
        responses.append(await api.delete(path))
    responses.append(await api.get("/books?sort=-title&count=exact"))
    if search:
        responses.append(await api.get(f"/books?q={name}"))
    return [response.status for response in responses]


@pytest.mark.parametrize("order", [*itertools.permutations("123"), (*"1213",), (*"3231",)], ids="".join)
async def test_versions_that_start_in_any_order_serve_side_by_side(
    serve: Serve, url: str, connection: asyncpg.Connection, order: tuple[str, ...]
) -> None:
    running: list[tuple[str, Api]] = []
    expected = 0
    for place, number in enumerate(order):
        api = await serve([version(number)], database_url=url)
        # A version that is not the newest so far serves on where its fields have columns.
        before = [VERSIONS[earlier].schema().fields for earlier, _ in running]
        if number < max(order[: place + 1]) and not VERSIONS[number].schema().fields.keys() <= set().union(*before):
            (row,) = (await api.get("/plugins")).json["items"]
            assert (row["state"], "is missing" in row["fault"]) == ("failed", True)
            assert set(await work(api, number, "out", search=False)) == {503}
            continue
        running.append((number, api))
        # Those that have started before go on while the next one works.
        results = await asyncio.gather(
            *(
                work(api, own, f"by{own}n{len(running)}r{place}", search=own == "2")
                for place, (own, api) in enumerate(running)
            )
        )
        for (own, _), statuses in zip(running, results, strict=True):
            assert max(statuses) < 300, (own, statuses)
            expected += 2
        assert await connection.fetchval("SELECT count(*) FROM books.books") == expected
    for _, api in running:
        states = {row["name"]: row["state"] for row in (await api.get("/plugins")).json["items"]}
        assert states == {"books": "ready"}


async def test_an_older_version_undoes_nothing(serve: Serve, url: str, connection: asyncpg.Connection) -> None:
    await serve([version("1")], database_url=url)
    newer = await serve([version("2")], database_url=url)
    item = {"title": "A title that is longer than twenty characters", "year": 1815, "summary": "Matchmaking"}
    made = (await newer.post("/books", item)).json
    ledger = "SELECT number, version FROM pegboard.declaration WHERE plugin = 'books' ORDER BY number"
    table = await columns(connection)
    older = await serve([version("1")], database_url=url)
    assert await columns(connection) == table
    assert [tuple(row) for row in await connection.fetch(ledger)] == [(1, "1"), (2, "2")]
    assert (await newer.get("/books?q=matchmaking")).json["items"] == [made]
    # What only the newer version allows is shown and kept by the older one.
    path = f"/books/{made['id']}"
    # Its reference does not describe them.
    async with older.session.get(f"{older.url}{path}", headers=older.headers) as response:
        assert (await response.json())["title"] == item["title"]
    change = {"year": 1816}
    async with older.session.patch(f"{older.url}{path}", json=change, headers=older.headers) as response:
        assert response.status == 200
    now = (await newer.get(path)).json
    assert now == made | change | {"updated_at": now["updated_at"]}


SHELVED = {"title": title(60), "shelf": fields.String(required=True)}


@pytest.mark.parametrize(
    "newer",
    [
        {"title": title(60)},
        {"title": title(20), "shelf": fields.String(allow_none=True)},
        {"title": title(60), "rack": fields.String(allow_none=True)},
        {"title": title(60), "shelf": fields.String(required=True, validate=validate.Length(1, 30))},
    ],
)
async def test_an_older_version_goes_on_when_a_newer_one_changes_a_table_without_rows(
    serve: Serve, url: str, newer: dict[str, Any]
) -> None:
    older = await serve([plugin("books", resource(SHELVED), version="1")], database_url=url)
    await serve([plugin("books", resource(newer), version="2")], database_url=url)
    again = await serve([plugin("books", resource(SHELVED), version="1")], database_url=url)
    for api in (older, again):
        assert (await api.post("/books", {"title": "Emma", "shelf": "A"})).status == 201
        assert [item["shelf"] for item in (await api.get("/books")).json["items"]][:1] == ["A"]


async def columns(connection: asyncpg.Connection) -> list[Any]:
    found = "SELECT attname, attnum, attnotnull FROM pg_attribute WHERE attrelid = 'books.books'::regclass"
    indexes = "SELECT indexdef FROM pg_indexes WHERE tablename = 'books' ORDER BY 1"
    return [await connection.fetch(found), await connection.fetch(indexes)]


async def migrated(url: str, *plugins: Plugin) -> dict[str, Outcome]:
    return await runner.migrate(url, migrations(plugins))


async def test_an_older_version_that_the_table_no_longer_fits_says_which_one_owns_it(
    url: str, connection: asyncpg.Connection
) -> None:
    await migrated(url, version("1"))
    await migrated(url, version("2"))
    await connection.execute("ALTER TABLE books.books ALTER year TYPE text")
    failure = (await migrated(url, version("1")))["books"].failure
    assert failure == (
        "schema: books.books was changed by version 2 of the plugin, and the column year is declared bigint, "
        "but is text: install that version"
    )


async def test_the_order_decides_between_declarations_of_one_version(url: str, connection: asyncpg.Connection) -> None:
    first, second = (plugin("books", VERSIONS[number]) for number in "12")
    await migrated(url, first)
    await migrated(url, second)
    before = await columns(connection)
    assert (await migrated(url, first))["books"] == Outcome(applied=("schema",))
    assert await columns(connection) == before
    # With a higher version, a declaration is a new one, even if it was applied before.
    again = plugin("books", VERSIONS["1"], version="2")
    assert (await migrated(url, again))["books"].now == ("schema",)
    assert "copies" not in str((await columns(connection))[1])


async def test_a_removed_field_keeps_its_values_and_is_reported_once(
    serve: Serve, url: str, connection: asyncpg.Connection
) -> None:
    dated = resource({"title": title(60), "year": fields.Integer(required=True)})
    first = await serve([plugin("books", dated, version="2")], database_url=url)
    await first.post("/books", {"title": "Emma", "year": 1815})
    outcome = (await migrated(url, version("3")))["books"]
    notice = "the column year is no longer declared: it keeps its values and now allows null; to lose them,"
    assert any(text.startswith(notice) for text in outcome.notices)
    assert (await migrated(url, version("3")))["books"].notices == ()
    third = await serve([version("3")], database_url=url)
    assert (await third.post("/books", {"title": "Persuasion"})).status == 201
    rows = await connection.fetch("SELECT year FROM books.books ORDER BY title")
    assert [row["year"] for row in rows] == [1815, None]
    # The version before is still served, though it has declared the field as required.
    async with first.session.get(f"{first.url}/books?sort=title", headers=first.headers) as response:
        assert [item["year"] for item in (await response.json())["items"]] == [1815, None]


async def test_a_change_of_a_nested_schema_is_reported_with_its_sql(
    serve: Serve, url: str, connection: asyncpg.Connection
) -> None:
    api = await serve([version("3")], database_url=url)
    await api.post("/books", {"title": "Emma", "lines": [{"text": "a"}, {"text": "b"}]})
    vat = {"title": title(60), "lines": fields.List(fields.Nested(LineWithVat), load_default=list)}
    changed = plugin("books", resource(vat), version="4")
    outcome = (await migrated(url, changed))["books"]
    assert outcome.failure is None
    (notice,) = [text for text in outcome.notices if text.startswith("lines")]
    text, _, sql = notice.partition("run a statement like ")
    assert text == "lines/vat is new and required, which existing rows do not follow; to change them, "
    await connection.execute(sql.replace("NULL /* a value */", "7"))
    lines = await connection.fetchval("SELECT lines::text FROM books.books")
    assert lines == '[{"vat": 7, "text": "a"}, {"vat": 7, "text": "b"}]'
    back = plugin("books", VERSIONS["3"], version="5")
    (notice,) = (await migrated(url, back))["books"].notices
    await connection.execute(notice.partition("run a statement like ")[2])
    assert await connection.fetchval("SELECT lines::text FROM books.books") == '[{"text": "a"}, {"text": "b"}]'


def genre(*names: str) -> type[TableResource]:
    functional: Any = enum.Enum
    members = functional("Genre", names)
    return resource({"title": title(60), "genre": fields.Enum(members, load_default=names[0])})


async def test_a_member_more_is_added_by_itself_and_one_less_only_if_no_row_has_it(
    serve: Serve, url: str, connection: asyncpg.Connection
) -> None:
    old = plugin("books", genre("novel", "poem"), version="1")
    older = await serve([old], database_url=url)
    newer = await serve([plugin("books", genre("novel", "poem", "essay"), version="2")], database_url=url)
    made = await newer.post("/books", {"title": "Of Truth", "genre": "essay"})
    assert made.status == 201
    # The reference of the older version does not describe the new member.
    for api in (older, await serve([old], database_url=url)):
        url_of_item = api.url + made.headers["Location"]
        async with api.session.get(url_of_item, headers=api.headers) as response:
            assert (await response.json())["genre"] == "essay"
        async with api.session.patch(url_of_item, json={"title": "x"}, headers=api.headers) as response:
            assert (response.status, (await response.json())["genre"]) == (200, "essay")
        assert (await api.patch(made.headers["Location"], {"genre": "essay"})).status == 422
    fewer = plugin("books", genre("novel", "poem"), version="3")
    failure = (await migrated(url, fewer))["books"].failure
    assert failure is not None
    assert "genre" in failure
    await connection.execute("UPDATE books.books SET genre = 'poem'")
    statement = failure.partition("which pegboard make-migration books writes: ")[2]
    await connection.execute(statement)
    assert (await migrated(url, fewer))["books"].failure is None
    assert (await newer.post("/books", {"title": "y", "genre": "essay"})).status == 422


def within(line: type[Schema]) -> type[Schema]:
    return type("Outer", (Schema,), {"__doc__": "An object in an object.", "inner": fields.Nested(line)})


HOLDERS: dict[str, tuple[Callable[[type[Schema]], fields.Field[Any]], Callable[[Any], Any]]] = {
    "an object": (fields.Nested, lambda line: line),
    "many": (lambda line: fields.Nested(line, many=True), lambda line: [line, line]),
    "a list": (lambda line: fields.List(fields.Nested(line)), lambda line: [line]),
    "a map": (lambda line: fields.Dict(values=fields.Nested(line)), lambda line: {"k": line}),
    "lists": (lambda line: fields.List(fields.List(fields.Nested(line))), lambda line: [[line], []]),
    "an inner object": (lambda line: fields.Nested(within(line)), lambda line: {"inner": line}),
    "objects with lists": (
        lambda line: fields.List(fields.Nested(within(line))),
        lambda line: [{"inner": line}, {"inner": line}],
    ),
}


@pytest.mark.parametrize("name", HOLDERS)
async def test_the_sql_for_nested_values_reaches_them_at_any_depth(
    serve: Serve, url: str, connection: asyncpg.Connection, name: str
) -> None:
    field, holding = HOLDERS[name]
    api = await serve([plugin("books", resource({"lines": field(Line)}), version="1")], database_url=url)
    assert (await api.post("/books", {"lines": holding({"text": "a"})})).status == 201
    outcome = (await migrated(url, plugin("books", resource({"lines": field(LineWithVat)}), version="2")))["books"]
    (notice,) = outcome.notices
    await connection.execute(notice.partition("run a statement like ")[2].replace("NULL /* a value */", "7"))
    stored = await connection.fetchval("SELECT lines::text FROM books.books")
    assert json.loads(stored) == holding({"text": "a", "vat": 7})
