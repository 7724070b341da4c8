"""Paging through collections over HTTP: every item once despite concurrent changes, and all pages equally cheap."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pegboard import Schema, TableResource, validate
from pegboard.api import declared
from pegboard.api.backend import backend_of
from pegboard.query.parsing import parse
from pegboard.query.query import cursor_to, requested_position
from pegboard.schema import fields
from tests.conftest import Api, Serve, plugin

MILLION = 1_000_000
PAGE = 10
INDEXES = """
SELECT indexrelid::regclass AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index
WHERE indrelid = 'crowd.crowd'::regclass AND NOT indisprimary"""


class Person(Schema):
    name = fields.String(allow_none=True, validate=validate.Length(max=200))
    age = fields.Integer(allow_none=True)
    born_at = fields.DateTime(allow_none=True)


class People(TableResource):
    """People on small pages."""

    schema = Person
    verbs = "GET", "HEAD", "POST", "DELETE"


class Crowd(TableResource):
    """A million people."""

    schema = Person
    verbs = "GET", "HEAD"
    indexes = ("name", "age,-name")


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    return await serve([plugin("people", People), plugin("crowd", Crowd)])


NAMES = st.one_of(
    st.none(),
    st.sampled_from(["", "a", "A", "é", "e\u0301", "z", "\U0001f600", "ﬀ", "ÿ", "%", "ab"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5),
)
PEOPLE = st.lists(st.fixed_dictionaries({"name": NAMES, "age": st.one_of(st.none(), st.integers(-2, 2))}), max_size=40)
SORTS = st.sampled_from(["", "name", "-name", "age", "-age,name", "age,-name", "-name,-age", "created_at", "id", "-id"])


def order(people: list[Any], sort: str) -> list[str]:
    """Return the ids in the documented order: nulls last (first if descending), ties by id in the direction of the last field."""
    ranked = sorted(people, key=lambda item: item["id"], reverse=sort.split(",")[-1].startswith("-"))
    for name in reversed(sort.split(",") if sort else []):
        field = name.removeprefix("-")
        kept = sorted((item for item in ranked if item[field] is not None), key=lambda item: item[field])
        if name.startswith("-"):
            kept = sorted(
                (item for item in ranked if item[field] is not None), key=lambda item: item[field], reverse=True
            )
        nulls = [item for item in ranked if item[field] is None]
        ranked = nulls + kept if name.startswith("-") else kept + nulls
    return [item["id"] for item in ranked]


async def follow_pages(api: Api, path: str | None, follow: str) -> list[list[str]]:
    pages = []
    while path:
        response = await api.get(path)
        assert response.status == 200, response.body
        pages.append([item["id"] for item in response.json["items"]])
        path = response.json[follow]
    return pages


@given(people=PEOPLE, sort=SORTS, limit=st.integers(1, 12), data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_paging_returns_every_permanent_item_exactly_once(
    running: Api, people: list[Any], sort: str, limit: int, data: st.DataObject
) -> None:
    await running.service.database.write.execute("TRUNCATE people.people")
    items = (await running.post("/people", people)).json["items"] if people else []
    query = f"/people?limit={limit}" + (f"&sort={sort}" if sort else "")

    expected = order(items, sort)
    pages = await follow_pages(running, query, "next")
    assert [id for page in pages for id in page] == expected
    assert all(len(page) == limit for page in pages[:-1])

    deleted: set[str] = set()
    path: str | None = query
    seen: list[str] = []
    last: Any = None
    while path:
        last = (await running.get(path)).json
        seen += [item["id"] for item in last["items"]]
        path = last["next"]
        if items and data.draw(st.booleans()):
            victim = data.draw(st.sampled_from(items))["id"]
            deleted.add(victim)
            await running.delete(f"/people/{victim}")
            await running.post("/people", {"name": data.draw(NAMES), "age": 0})
    throughout = [id for id in expected if id not in deleted]
    assert [id for id in seen if id in throughout] == throughout
    assert len(seen) == len(set(seen))

    if not last["items"]:
        # All remaining items were deleted meanwhile, so there is no item for a link to the previous page.
        assert last["prev"] is None
        return
    back = [item["id"] for item in last["items"]]
    for page in await follow_pages(running, last["prev"], "prev"):
        back = page + back
    assert [id for id in back if id in throughout] == throughout
    assert len(back) == len(set(back))


@pytest.fixture(scope="module")
async def crowd(running: Api) -> Api:
    connection = await asyncpg.connect(running.service.settings.direct_url)
    try:
        await connection.execute("SET synchronous_commit = off")
        # Creating indexes after the rows takes a fraction of the time.
        indexes = await connection.fetch(INDEXES)
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['name']}")
        await connection.execute(
            f"""INSERT INTO crowd.crowd (id, _version, created_at, updated_at, name, age)
            SELECT ('018cc251-f400-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, n, '2026-01-01Z', '2026-01-01Z',
                   CASE WHEN n % 5 > 0 THEN md5(n::text) END, CASE WHEN n % 3 > 0 THEN n % 50 END
            FROM generate_series(1, {MILLION}) n"""
        )
        for index in indexes:
            await connection.execute(index["definition"])
        await connection.execute("VACUUM ANALYZE crowd.crowd")
    finally:
        await connection.close()
    return running


async def buffers(connection: asyncpg.Connection, api: Api, raw: str) -> int:
    """Return the number of buffers that PostgreSQL reads for a page."""
    backend = backend_of(api.service.resource("crowd"))
    query = parse(raw, declared.rules(Crowd))
    page = backend._table.page(query, requested_position(query, backend.services.secret, "crowd"))
    text = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {page.text}"
    plan = json.loads(await connection.fetchval(text, *page.args))[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize("sort", ["", "&sort=-id", "&sort=name", "&sort=-name", "&sort=age,-name", "&sort=-age,name"])
async def test_the_hundred_thousandth_page_of_a_million_rows_costs_as_much_as_the_first(crowd: Api, sort: str) -> None:
    backend = backend_of(crowd.service.resource("crowd"))
    query = parse(f"limit={PAGE}{sort}", declared.rules(Crowd))
    page = backend._table.page(query)
    connection = await asyncpg.connect(crowd.service.settings.direct_url)
    try:
        start = page.text.rpartition(" LIMIT ")[0] + f" OFFSET {MILLION - PAGE - 1} LIMIT {PAGE + 1}"
        boundary, *expected = await connection.fetch(start, *page.args)
        cursor = cursor_to(query, backend.services.secret, "crowd", page.position_of(tuple(boundary)))
        deep = f"limit={PAGE}{sort}&after={cursor}"
        response = await crowd.get(f"/crowd?{deep}")
        assert [item["id"] for item in response.json["items"]] == [row["id"] for row in expected]
        assert response.json["next"] is None
        first, last = await buffers(connection, crowd, f"limit={PAGE}{sort}"), await buffers(connection, crowd, deep)
        assert last <= 2 * first + 10
    finally:
        await connection.close()


async def test_a_cursor_is_specific_to_its_resource_sort_and_filters(running: Api) -> None:
    await running.post("/people", [{"name": str(n)} for n in range(5)])
    cursor = (await running.get("/people?limit=2&sort=name&name__gt=0")).json["next"].rpartition("after=")[2]
    good = f"/people?limit=2&sort=name&name__gt=0&after={cursor}"
    assert (await running.get(good)).status == 200
    spoiled = [
        good.replace("sort=name", "sort=-name"),
        good.replace("name__gt=0", "name__gt=1"),
        good.replace("&name__gt=0", ""),
        good.replace("/people", "/crowd"),
        good[:-1],
        good + "A",
        good.replace(cursor, cursor[:10] + ("A" if cursor[10] != "A" else "B") + cursor[11:]),
        good.replace(cursor, quote("' OR 1=1")),
        f"/people?after={cursor}",
    ]
    for path in spoiled:
        response = await running.get(path)
        assert (response.status, response.errors) == (400, [(10014, "after")]), path
