"""Timestamps at the edges: the years 1 and 9999, and PostgreSQL's infinities."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest

from pegboard import Context, Schema, TableResource, fields, operation
from tests.conftest import Api, Serve, plugin

FIRST, LAST = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"


class Event(Schema):
    at = fields.DateTime(allow_none=True)
    times = fields.List(fields.DateTime(), load_default=list)


class Events(TableResource):
    """Events at any time."""

    schema = Event

    @operation(response=None)
    async def move(self, context: Context, id: str, data: Any) -> None:
        """Write the item again through an action."""
        item = await self.retrieve(context, id)
        await self.update(context, id, {"at": item["at"], "times": item["times"]})


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    return await serve([plugin("events", Events)])


@pytest.fixture
async def api(running: Api) -> Api:
    await running.service.database.write.execute("TRUNCATE events.events")
    return running


async def ids(api: Api, sort: str) -> tuple[list[str], list[str]]:
    """Return the ids of all items, page by page, and the same backwards."""
    forwards, path = [], f"/events?sort={sort}&limit=2"
    while path:
        page = (await api.get(path)).json
        forwards.append([item["id"] for item in page["items"]])
        assert len(forwards) < 20, "the pages do not end"
        last, path = path, page["next"]
    backwards: list[list[str]] = []
    path = last
    while path:
        page = (await api.get(path)).json
        backwards.insert(0, [item["id"] for item in page["items"]])
        assert len(backwards) < 20, "the pages do not end"
        path = page["prev"]
    return [*chain(*forwards)], [*chain(*backwards)]


async def stored(api: Api) -> set[tuple[str, str]]:
    rows = await api.service.database.read.fetch("SELECT at::text, times::text FROM events.events")
    return {(row["at"], row["times"]) for row in rows}


@pytest.mark.parametrize(("text", "value"), [(FIRST, "0001-01-01 00:00:00+00"), (LAST, "9999-12-31 23:59:59+00")])
async def test_every_way_stores_the_same_timestamp(api: Api, text: str, value: str) -> None:
    event = {"at": text, "times": [text]}
    item = (await api.post("/events", event)).json
    assert (await api.post("/events", [event, event])).status == 201
    path = f"/events/{item['id']}"
    for response in (
        await api.put(path, event),
        await api.patch(path, {"at": None}),
        await api.patch(path, event),
        await api.get(path),
    ):
        assert response.status == 200
    assert (await api.post(f"{path}/move")).status == 204
    assert await stored(api) == {(value, f'{{"{value}"}}')}
    for query in (f"at={text}", f"at__in={text}", f"times__has={text}", f"at__gte={text}&at__lte={text}"):
        page = await api.get(f"/events?{query}&count=exact")
        assert (page.json["total"], {item["at"] for item in page.json["items"]}) == (3, {text}), query


@pytest.mark.parametrize("sort", ["at", "-at", "at,-created_at"])
async def test_pages_at_the_edges_end_and_are_complete(api: Api, sort: str) -> None:
    for text in (FIRST, LAST, "2015-02-15T05:21:07Z"):
        await api.post("/events", [{"at": text}] * 3)
        await api.post("/events", {"at": text})
    await api.post("/events", [{"at": None}, {"at": "0001-01-01T00:00:01Z"}, {"at": "9999-12-31T23:59:58Z"}])
    for infinity in ("-infinity", "infinity"):
        await api.post("/events", [{"at": "2000-01-01T00:00:00Z"}] * 3)
        statement = f"UPDATE events.events SET at = '{infinity}' WHERE at = '2000-01-01'"
        await api.service.database.write.execute(statement)
    direction = "DESC NULLS FIRST, id DESC" if sort == "-at" else "ASC NULLS LAST"
    tie = {"at": ", id", "-at": "", "at,-created_at": ", created_at DESC, id DESC"}[sort]
    rows = await api.service.database.read.fetch(f"SELECT id::text FROM events.events ORDER BY at {direction}{tie}")
    expected = [row["id"] for row in rows]
    assert len(expected) == 21
    assert await ids(api, sort) == (expected, expected)
