"""Passwords in fields: the service hashes them before any code of an author gets them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pegboard import Context, Resource, Schema, TableResource, fields, operation
from tests.conftest import Api, Serve, plugin

SECRET = "correct horse battery"
LOADED: list[Mapping[str, Any]] = []


class Account(Schema):
    name = fields.String(required=True)
    password = fields.Password(data_key="secret")


class Reset(Schema):
    password = fields.Password(required=True)


class Accounts(TableResource):
    """Overrides every action that gets data."""

    schema = Account

    async def create(self, context: Context, data: Mapping[str, Any]) -> dict[str, Any]:
        LOADED.append(data)
        return await super().create(context, data)

    async def replace(self, context: Context, id: str, data: Mapping[str, Any]) -> dict[str, Any]:
        LOADED.append(data)
        return await super().replace(context, id, data)

    async def update(self, context: Context, id: str, data: Mapping[str, Any]) -> dict[str, Any]:
        LOADED.append(data)
        return await super().update(context, id, data)

    @operation(request=Reset)
    async def reset(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        """Set a new password."""
        LOADED.append(data)
        return await self.update(context, id, data)

    @operation(on="collection", response=None)
    async def fill(self, context: Context, data: Mapping[str, Any]) -> None:
        """Create an account with a plain text password."""
        await super().create(context, {"name": "by code", "password": SECRET})


class Memory(Resource):
    """A resource with a data source of its own."""

    schema = Account

    async def list(self, context: Context) -> Any:
        return []

    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        LOADED.append(data)
        return {"id": "0190d1f8-0000-7000-8000-000000000000", "name": data["name"]}


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    return await serve([plugin("accounts", Accounts), plugin("memory", Memory)])


@pytest.fixture
def api(running: Api) -> Api:
    LOADED.clear()
    return running


async def stored(api: Api) -> set[str]:
    rows = await api.service.database.read.fetch("SELECT password FROM accounts.accounts")
    return {row["password"][:9] for row in rows}


async def test_every_action_gets_a_hash_and_stores_it(api: Api) -> None:
    account = {"name": "Ada", "secret": SECRET}
    item = (await api.post("/accounts", account)).json
    path = f"/accounts/{item['id']}"
    assert (await api.post("/accounts", [account, account])).status == 201
    assert (await api.put(path, account)).status == 200
    assert (await api.patch(path, {"secret": SECRET})).status == 200
    patch = [{"op": "add", "path": "/secret", "value": SECRET}]
    assert (await api.patch(path, patch, headers={"Content-Type": "application/json-patch+json"})).status == 200
    headers = {"If-Match": (await api.get(path)).headers["ETag"]}
    assert (await api.patch(path, {"secret": SECRET}, headers=headers)).status == 200
    assert (await api.post(f"{path}/reset", {"password": SECRET})).status == 200
    assert (await api.post("/accounts/fill")).status == 204
    assert (await api.post("/memory", account)).status == 201
    passwords = [data["password"] for data in LOADED]
    assert len(passwords) == 10
    assert {password[:9] for password in passwords} == {"$argon2id"}
    assert await stored(api) == {"$argon2id"}


async def test_an_account_without_a_password_is_not_hashed(api: Api) -> None:
    assert (await api.post("/accounts", {"name": "Eve", "secret": None})).status == 422
    assert (await api.post("/accounts", {"name": "Bob"})).status == 201
    assert LOADED == [{"name": "Bob"}]
