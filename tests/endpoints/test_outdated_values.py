"""Stored values that the schema no longer accepts: they are shown, and the rest of their item can be changed."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError, validates_schema

from pegboard import Schema, TableResource, fields, validate
from tests.conftest import ADMIN, PASSWORD, Api, Serve, basic, plugin


class Line(Schema):
    name = fields.String(required=True)
    vat = fields.Integer(required=True)


class Order(Schema):
    title = fields.String(required=True, validate=validate.Length(max=20))
    lines = fields.List(fields.Nested(Line), load_default=list)
    address = fields.Nested(Line, allow_none=True)
    least = fields.Integer(allow_none=True)
    most = fields.Integer(allow_none=True)

    @validates_schema
    def check(self, data: Any, **kwargs: Any) -> None:
        least, most = data.get("least"), data.get("most")
        if least is not None and most is not None and least > most:
            raise ValidationError("Must be more.", "most")


class Orders(TableResource):
    """Orders with lines."""

    schema = Order


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    return await serve([plugin("orders", Orders)])


@pytest.fixture
async def outdated(running: Api) -> str:
    """Return the path of an order whose lines and title an earlier schema accepted."""
    item = (await running.post("/orders", {"title": "a"})).json
    await running.service.database.write.execute(
        "ALTER TABLE orders.orders DROP CONSTRAINT IF EXISTS orders_title_max_length"
    )
    await running.service.database.write.execute(
        """UPDATE orders.orders SET lines = '[{"name": "x"}]', title = repeat('t', 30), address = '{"name": "z"}'"""
    )
    return f"/orders/{item['id']}"


async def send(api: Api, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
    """Send a request by a client that does not compare responses with the document, which differs from the values."""
    headers = basic(ADMIN, PASSWORD) | {"Content-Type": kind}
    async with api.session.request(method, api.url + path, json=body, headers=headers) as response:
        return response.status, await response.json()


JSON_PATCH = "application/json-patch+json"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"least": 1}, "application/json"),
        ({"least": 1, "most": 2}, "application/merge-patch+json"),
        ([{"op": "add", "path": "/least", "value": 1}], JSON_PATCH),
    ],
)
async def test_an_unrelated_patch_leaves_them(running: Api, outdated: str, body: Any, kind: str) -> None:
    status, item = await send(running, "PATCH", outdated, body, kind)
    assert (status, item["least"]) == (200, 1)
    assert (item["lines"], item["title"], item["address"]) == ([{"name": "x"}], "t" * 30, {"name": "z"})
    assert (await send(running, "GET", outdated))[1] == item


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"least": "x"}, "/least"),
        ({"lines": [{"name": "y"}]}, "/lines/0/vat"),
        ({"address": {"vat": 1, "name": None}}, "/address/name"),
        ({"unknown": 1}, "/unknown"),
    ],
)
async def test_what_a_patch_sends_must_be_valid(running: Api, outdated: str, body: Any, pointer: str) -> None:
    status, response = await send(running, "PATCH", outdated, body)
    assert (status, [error["pointer"] for error in response["errors"]]) == (422, [pointer])


async def test_they_can_be_replaced(running: Api, outdated: str) -> None:
    lines = [{"name": "y", "vat": 19}]
    status, item = await send(running, "PATCH", outdated, {"lines": lines, "address": {"name": "z", "vat": 1}})
    assert (status, item["lines"], item["address"]) == (200, lines, {"name": "z", "vat": 1})
    status, item = await send(running, "PATCH", outdated, {"title": "short"})
    assert (status, item["title"]) == (200, "short")
    # Everything is valid again, so the validator of the schema is called.
    status, response = await send(running, "PATCH", outdated, {"least": 2, "most": 1})
    assert (status, response["errors"][0]["pointer"]) == (422, "/most")
