"""Entity tags of rows that SQL changes, not the service; and rows that SQL inserts."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from pegboard import Context, Schema, TableResource, Unique, fields, operation
from tests.conftest import Api, Serve, plugin


class Part(Schema):
    name = fields.String(required=True)
    weight = fields.Decimal(allow_none=True)
    attributes = fields.Dict(load_default=dict)


class Parts(TableResource):
    """Parts that can be searched: their table has a generated column."""

    schema = Part
    unique = (Unique("name", ignore_case=True),)
    search_fields = ("name",)
    owned = True

    @operation(response="item")
    async def twice(self, context: Context, id: str, data: Any) -> Any:
        """Change the item by the service, then by a statement of its own in the same transaction."""
        item = await self.update(context, id, {"weight": 1})
        await context.connection.execute("UPDATE parts.parts SET weight = 2 WHERE id = $1::text::uuid", id)
        return item


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    return await serve([plugin("parts", Parts)])


@pytest.fixture
async def api(running: Api) -> Api:
    await sql(running, "TRUNCATE parts.parts")
    return running


async def sql(api: Api, statement: str, *args: Any) -> Any:
    return await api.service.database.write.fetch(statement, *args)


@pytest.mark.parametrize(
    "change",
    [
        "name = 'axle'",
        "weight = 1.00",
        "weight = NULL",
        "attributes = '{\"a\": 1.0}'",
        "updated_at = updated_at - interval '1 day'",
        "_owner = gen_random_uuid()",
    ],
)
async def test_every_update_by_sql_changes_the_tag(api: Api, change: str) -> None:
    item = await api.post("/parts", {"name": "wheel", "weight": "1.0", "attributes": {"a": 1}})
    path, tag = f"/parts/{item.json['id']}", item.headers["ETag"]
    await sql(api, f"UPDATE parts.parts SET {change}")
    changed = await api.get(path, headers={"If-None-Match": tag})
    assert changed.status == 200
    assert changed.headers["ETag"] != tag
    stale = {"If-Match": tag}
    assert (await api.patch(path, {"name": "x"}, headers=stale)).status == 412
    assert (await api.put(path, {"name": "x"}, headers=stale)).status == 412
    assert (await api.delete(path, headers=stale)).status == 412
    assert (await api.patch(path, {"name": "x"}, headers={"If-Match": changed.headers["ETag"]})).status == 200


async def test_an_update_that_changes_nothing_keeps_the_tag(api: Api) -> None:
    item = await api.post("/parts", {"name": "wheel", "weight": "1.0"})
    path, tag = f"/parts/{item.json['id']}", item.headers["ETag"]
    await sql(api, "UPDATE parts.parts SET name = 'wheel', weight = 1.0")
    assert (await api.get(path)).headers["ETag"] == tag
    unchanged = await api.patch(path, {"name": "wheel", "weight": "1.0"})
    assert unchanged.headers["ETag"] == tag
    assert unchanged.json == item.json


async def test_a_statement_after_a_write_of_the_same_transaction_changes_the_tag(api: Api) -> None:
    item = (await api.post("/parts", {"name": "wheel"})).json
    written = await api.post(f"/parts/{item['id']}/twice")
    current = await api.get(f"/parts/{item['id']}")
    assert (written.json["weight"], current.json["weight"]) == ("1", "2")
    assert written.headers["ETag"] != current.headers["ETag"]


async def test_an_update_by_sql_changes_the_time_of_the_last_change(api: Api) -> None:
    item = (await api.post("/parts", {"name": "wheel"})).json
    await sql(api, "UPDATE parts.parts SET created_at = '2020-01-01', updated_at = '2020-01-01'")
    await sql(api, "UPDATE parts.parts SET name = 'axle'")
    assert (await api.get(f"/parts/{item['id']}")).json["updated_at"] >= item["updated_at"]


async def test_rows_inserted_by_hand_need_no_column_of_the_service(api: Api) -> None:
    await sql(api, "INSERT INTO parts.parts (name) VALUES ('wheel'), ('axle')")
    async with api.service.database.write.transaction() as connection:
        columns = ["name", "weight"]
        await connection.copy_records_to_table("parts", schema_name="parts", columns=columns, records=[("nut", 1)])
    items = {item["name"]: item for item in (await api.get("/parts")).json["items"]}
    assert items.keys() == {"wheel", "axle", "nut"}
    for item in items.values():
        assert uuid.UUID(item["id"]).version == 7
        assert uuid.UUID(item["id"]).variant == uuid.RFC_4122
    tags = {(await api.get(f"/parts/{item['id']}")).headers["ETag"] for item in items.values()}
    assert len(tags) == 3
    owners = await sql(api, "SELECT DISTINCT _owner::text AS owner FROM parts.parts")
    assert [row["owner"] for row in owners] == ["00000000-0000-0000-0000-000000000000"]


async def test_clients_changed_by_sql_have_another_tag(serve: Serve) -> None:
    api = await serve()
    client = await api.post("/clients", {"username": "ann", "password": "long enough", "grants": ["contacts:GET"]})
    await sql(api, "UPDATE pegboard.client SET active = false WHERE username = 'ann'")
    shown = await api.get(f"/clients/{client.json['id']}", headers={"If-None-Match": client.headers["ETag"]})
    assert (shown.status, shown.json["active"]) == (200, False)
    await api.delete(f"/clients/{client.json['id']}")
