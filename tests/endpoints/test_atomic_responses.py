"""Writes and their responses: if a response cannot be made, because code of an author fails, nothing is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from pegboard import Change, Context, Schema, TableResource, Unique, errors, fields, operation
from tests.conftest import Api, Response, Serve, plugin

JSON_PATCH = "application/json-patch+json"


class Thing(Schema):
    name = fields.String(required=True)
    other = fields.Reference("targets", allow_none=True)


class Result(Schema):
    number = fields.Method("fail")

    def fail(self, item: Mapping[str, Any]) -> int:
        raise LookupError("no number")


class Things(TableResource):
    """Things whose actions return nothing if their name is bad."""

    schema = Thing
    creates_by_put = True
    unique = (Unique("name"),)
    committed: list[str] = []

    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        try:
            item = await super().create(context, data)
        except errors.Conflict:
            # The transaction continues after a statement that fails.
            sql = "SELECT id::text FROM things.things WHERE name = $1"
            return await self.retrieve(context, await context.connection.fetchval(sql, data["name"]))
        context.after_commit(lambda: self.committed.append(data["name"]))
        return None if data["name"] == "bad" else item

    async def replace(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        item = await super().replace(context, id, data)
        return object() if data["name"] == "bad" else item

    async def update(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        item = await super().update(context, id, data)
        return 5 if data["name"] == "bad" else item

    async def delete(self, context: Context, id: str) -> None:
        before = await self.retrieve(context, id)
        await super().delete(context, id)
        if before["name"] == "fine":
            raise LookupError("too late")

    @operation
    async def spoil(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        """Return nothing."""
        await self.update(context, id, {"name": "spoilt"})

    @operation(response=Result)
    async def measure(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        """Return what cannot be dumped."""
        return await self.update(context, id, {"name": "measured"})


class Target(Schema):
    name = fields.String(load_default="")


class Targets(TableResource):
    """Items that others refer to, and that cannot be read."""

    schema = Target

    async def retrieve(self, context: Context, id: str) -> Any:
        raise LookupError(id)


class Referrers(TableResource):
    """Items written by one statement that refer to others."""

    schema = Thing
    creates_by_put = True


class Counted(Thing):
    length = fields.Function(lambda item: len(item["name"]))


class Hooked(TableResource):
    """Items with a hook, and a computed field."""

    schema = Counted
    committed: list[str | None] = []

    async def after_commit(self, context: Context, change: Change) -> None:
        self.committed.append(change.id)


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    kinds = {"things": Things, "targets": Targets, "referrers": Referrers, "hooked": Hooked}
    return await serve([plugin(name, kind) for name, kind in kinds.items()])


@pytest.fixture
async def admin(running: Api, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    await connection.execute("TRUNCATE things.things, targets.targets, referrers.referrers, hooked.hooked")
    Things.committed.clear()
    yield connection
    await connection.close()


@pytest.fixture
def api(running: Api, admin: asyncpg.Connection) -> Api:
    return running


async def names(admin: asyncpg.Connection, table: str = "things.things") -> list[str]:
    return sorted([row["name"] for row in await admin.fetch(f"SELECT name FROM {table}")])


async def send(api: Api, way: str, path: str, body: Mapping[str, Any], query: str = "") -> Response:
    """Send one of the requests that write an item."""
    patch = [{"op": "replace", "path": f"/{name}", "value": value} for name, value in body.items()]
    collection = path.rpartition("/")[0]
    match way:
        case "create":
            return await api.post(f"{collection}{query}", body)
        case "create once":
            return await api.post(f"{collection}{query}", body, headers={"Idempotency-Key": uuid4().hex})
        case "create all":
            return await api.post(f"{collection}{query}", [{**body, "name": "one"}, body])
        case "create by PUT":
            return await api.put(f"{collection}/{uuid4()}{query}", body)
        case "replace":
            return await api.put(f"{path}{query}", body)
        case "update":
            return await api.patch(f"{path}{query}", body)
        case "update if unchanged":
            return await api.patch(f"{path}{query}", body, headers={"If-Match": "*"})
        case "minimal":
            return await api.patch(f"{path}{query}", body, headers={"Prefer": "return=minimal"})
        case "JSON Patch":
            return await api.patch(f"{path}{query}", patch, headers={"Content-Type": JSON_PATCH})
        case _:
            return await api.delete(path)


CREATIONS = ("create", "create once", "create all", "create by PUT")
CHANGES = ("replace", "update", "update if unchanged", "minimal", "JSON Patch")


@pytest.mark.parametrize("way", [*CREATIONS, *CHANGES, "delete"])
async def test_a_write_whose_action_returns_no_item_stores_nothing(
    api: Api, admin: asyncpg.Connection, way: str
) -> None:
    path = (await api.post("/things", {"name": "fine"})).headers["Location"]
    assert Things.committed == ["fine"]
    assert (await send(api, way, path, {"name": "bad"})).status == 500
    assert await names(admin) == ["fine"]
    assert Things.committed == ["fine"]


@pytest.mark.parametrize("name", ["spoil", "measure"])
async def test_an_operation_without_a_response_stores_nothing(api: Api, admin: asyncpg.Connection, name: str) -> None:
    path = (await api.post("/things", {"name": "fine"})).headers["Location"]
    assert (await api.post(f"{path}/{name}", {})).status == 500
    assert await names(admin) == ["fine"]


@pytest.mark.parametrize("way", [*CREATIONS, *CHANGES])
async def test_a_write_whose_expansion_fails_stores_nothing(api: Api, admin: asyncpg.Connection, way: str) -> None:
    target = (await api.post("/targets", {})).json["id"]
    path = (await api.post("/referrers", {"name": "fine", "other": target})).headers["Location"]
    response = await send(api, way, path, {"name": "bad", "other": target}, "?expand=other")
    assert response.status == 500
    assert await names(admin, "referrers.referrers") == ["fine"]


async def test_an_action_can_catch_the_error_of_a_write(api: Api, admin: asyncpg.Connection) -> None:
    first = await api.post("/things", {"name": "fine"})
    again = await api.post("/things", {"name": "fine"})
    assert (again.status, again.json["id"]) == (201, first.json["id"])
    keyed = await api.post("/things", {"name": "fine"}, headers={"Idempotency-Key": uuid4().hex})
    assert (keyed.status, keyed.json["id"]) == (201, first.json["id"])
    assert await names(admin) == ["fine"]


async def test_the_hook_after_the_commit_of_an_item_with_computed_fields_runs_once(api: Api) -> None:
    Hooked.committed.clear()
    created = await api.post("/hooked", {"name": "four"})
    assert created.json["length"] == 4
    await api.service._background_tasks.close()
    assert Hooked.committed == [created.json["id"]]
