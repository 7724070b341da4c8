"""Instants are equal in pages, exports and single items, whatever the database contains."""

from __future__ import annotations

from typing import Any

import pytest

from pegboard import Context, Schema, TableResource, fields, operation, rendering
from pegboard.postgres.session import connect
from tests.conftest import Api, Serve, plugin

FILL = """
INSERT INTO moments.moments (id, _version, at) SELECT ('0192f000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, n, at
FROM unnest($1::text[]::timestamptz[]) WITH ORDINALITY AS moment (at, n)"""

STORED = {
    "2015-02-15T05:21:07Z": "2015-02-15T05:21:07Z",
    "2015-02-15T05:21:07.999999Z": "2015-02-15T05:21:07Z",
    "2015-02-15T23:30:00-05:30": "2015-02-16T05:00:00Z",
    "1969-12-31T23:59:59.5Z": "1969-12-31T23:59:59Z",
    "0001-01-01T00:00:01Z": "0001-01-01T00:00:01Z",
    "9999-12-31T23:59:59.5Z": "9999-12-31T23:59:59Z",
    "infinity": "9999-12-31T23:59:59Z",
    "-infinity": "0001-01-01T00:00:00Z",
    None: None,
}


class Moment(Schema):
    at = fields.DateTime(allow_none=True)


class Types(Schema):
    types = fields.List(fields.String())


class Moments(TableResource):
    """Instants."""

    schema = Moment
    verbs = "GET", "HEAD", "POST"

    @operation(response=Types, on="collection")
    async def types(self, context: Context, data: Any) -> Any:
        """Return the types of the instants that a plugin receives from `list`."""
        page = await self.list(context)
        return {"types": sorted({type(item["created_at"]).__name__ for item in page.items})}


@pytest.fixture(scope="module")
async def api(serve: Serve) -> Api:
    api = await serve([plugin("moments", Moments)])
    await api.service.database.write.execute(FILL, list(STORED))
    return api


async def test_instants_are_equal_in_pages_exports_and_items(api: Api) -> None:
    items = (await api.get("/moments")).json["items"]
    assert [item["at"] for item in items] == list(STORED.values())
    for item in items:
        assert (await api.get(f"/moments/{item['id']}")).json == item
    assert (await api.get("/moments?id__in=" + ",".join(item["id"] for item in items))).json["items"] == items
    lines = await api.get("/moments", headers={"Accept": "text/csv"})
    assert lines.body.decode().splitlines()[1:] == [",".join(value or "" for value in item.values()) for item in items]


@pytest.mark.parametrize("sort", ["at", "-at", "at,created_at", "-created_at"])
async def test_cursors_have_the_full_precision_of_stored_instants(api: Api, sort: str) -> None:
    expected = (await api.get(f"/moments?sort={sort}")).json["items"]
    target, found, last = f"/moments?sort={sort}&limit=1", [], ""
    while target:
        page = (await api.get(target)).json
        found += page["items"]
        target, last = page["next"], target
    assert found == expected
    assert len(found) == len(STORED)
    while (target := (await api.get(last)).json["prev"]) is not None:
        page = (await api.get(target)).json
        found.pop()
        assert page["items"] == found[-1:]
        last = target


async def test_plugins_get_instants_as_datetimes(api: Api) -> None:
    assert (await api.post("/moments/types")).json == {"types": ["datetime"]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2015-02-15 05:21:07+00", "2015-02-15T05:21:07Z"),
        ("2015-02-15 05:21:07.999999+00", "2015-02-15T05:21:07Z"),
        ("9999-12-31 23:59:59.5+00", "9999-12-31T23:59:59Z"),
        ("10000-01-01 00:00:00+00", "9999-12-31T23:59:59Z"),
        ("294276-12-31 23:59:59.5+00", "9999-12-31T23:59:59Z"),
        ("0044-03-15 05:21:07+00 BC", "0001-01-01T00:00:00Z"),
        ("infinity", "9999-12-31T23:59:59Z"),
        ("-infinity", "0001-01-01T00:00:00Z"),
    ],
)
async def test_every_text_format_of_instants_in_the_database_is_parsed(api: Api, text: str, shown: str) -> None:
    assert rendering.instant_from_postgres(text) == shown
    assert await api.service.database.read.fetchval("SELECT $1::text::timestamptz::text", text) == text


async def test_the_format_of_instants_is_independent_of_role_and_database_settings(api: Api) -> None:
    pool = api.service.database.write
    name = await pool.fetchval("SELECT quote_ident(current_database())")
    await pool.execute(f"ALTER DATABASE {name} SET datestyle = 'German'")
    await pool.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Kolkata'")
    async with pool.connection() as connection:
        await connection.execute("SET datestyle = 'SQL'; SET timezone = 'Asia/Tokyo'")
    session = await connect(pool._options)
    try:
        assert await session.fetchval("SELECT timestamptz '2015-02-15 05:21:07Z'::text") == "2015-02-15 05:21:07+00"
    finally:
        await session.close()
    assert [item["at"] for item in (await api.get("/moments")).json["items"]] == list(STORED.values())
