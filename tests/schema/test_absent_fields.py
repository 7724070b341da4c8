"""Optional fields whose names are attributes of a dict: absent ones are absent, or have their default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pegboard import Context, Resource, Schema, TableResource, fields, operation
from tests.conftest import Api, Serve, plugin


class Part(Schema):
    title = fields.String()
    items = fields.List(fields.String())
    values_ = fields.List(fields.Integer(), data_key="values", attribute="values")
    keys = fields.List(fields.String(), load_default=list)
    copy = fields.String()
    get_ = fields.Integer(data_key="get", attribute="get")


class Order(Schema):
    name = fields.String(required=True)
    copy = fields.String()
    items = fields.List(fields.String(), load_default=list)
    part = fields.Nested(Part)
    parts = fields.List(fields.Nested(Part), load_default=list)
    by_name = fields.Dict(keys=fields.String(), values=fields.Nested(Part), load_default=dict)
    size = fields.Function(lambda item: len(item["name"]))


class Orders(TableResource):
    """Orders with nested parts."""

    schema = Order

    @operation(response=Part)
    async def first(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        """Return a part without most of its fields."""
        return {"title": "a part"}


class Memory(Resource):
    """Items without their optional fields."""

    schema = Order
    kept: list[dict[str, Any]] = []

    async def list(self, context: Context) -> Any:
        return self.kept

    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        item = {"id": "0190d1f8-0000-7000-8000-000000000000", **data}
        self.kept.append(item)
        return item


@pytest.fixture(scope="module")
async def api(serve: Serve) -> Api:
    return await serve([plugin("orders", Orders), plugin("memory", Memory)])


@pytest.mark.parametrize("path", ["/orders", "/memory"])
async def test_absent_fields_are_not_attributes_of_the_item(api: Api, path: str) -> None:
    order = {"name": "one", "part": {"title": "a"}, "parts": [{"title": "b"}], "by_name": {"c": {"title": "c"}}}
    response = await api.post(path, order)
    assert response.status == 201, response.body
    [item] = (await api.get(path)).json["items"]
    assert item == response.json
    expected = {"title": "a", "keys": []}
    assert (item["part"], item["items"], item.get("copy")) == (expected, [], None)
    assert (item["parts"], item["by_name"]) == ([{**expected, "title": "b"}], {"c": {**expected, "title": "c"}})
    assert b"built-in" not in response.body


async def test_the_response_of_an_operation_has_no_attributes(api: Api) -> None:
    item = (await api.post("/orders", {"name": "two"})).json
    assert (await api.post(f"/orders/{item['id']}/first")).json == {"title": "a part"}
