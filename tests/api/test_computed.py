"""Fields without a column, computed whenever an item is dumped."""

from __future__ import annotations

from typing import Any

import pytest

from pegboard import Context, Schema, TableResource
from pegboard.schema import fields
from tests.conftest import Api, Serve, plugin


class Box(Schema):
    width = fields.Integer(required=True)
    height = fields.Integer(required=True)
    area = fields.Function(lambda box: box["width"] * box["height"])


class Boxes(TableResource):
    """Boxes with an area."""

    schema = Box
    verbs = "GET", "HEAD", "POST", "PATCH"


class Label(Schema):
    text = fields.String(required=True)
    shout = fields.String(dump_only=True)


class Labels(TableResource):
    """Labels with a read-only field set by the action."""

    schema = Label
    verbs = "GET", "HEAD", "POST"

    async def create(self, context: Context, data: Any) -> Any:
        return await super().create(context, {**data, "shout": data["text"].upper()})


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    return await serve([plugin("boxes", Boxes), plugin("labels", Labels)])


async def test_a_computed_field_is_in_every_response_and_ignored_in_bodies(running: Api) -> None:
    created = await running.post("/boxes", {"width": 2, "height": 3, "area": 100})
    assert (created.status, created.json["area"]) == (201, 6)
    path = created.headers["Location"]
    assert (await running.patch(path, {"height": 5})).json["area"] == 10
    assert (await running.get(path)).json["area"] == 10
    assert [item["area"] for item in (await running.get("/boxes")).json["items"]] == [10]


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "text/csv"])
async def test_a_computed_field_can_be_selected_alone(running: Api, accept: str) -> None:
    await running.post("/boxes", {"width": 7, "height": 9})
    response = await running.get("/boxes?fields=area", headers={"Accept": accept})
    assert response.status == 200, response.body
    assert b"63" in response.body
    assert b"width" not in response.body


async def test_a_computed_field_is_neither_filterable_nor_sortable(running: Api) -> None:
    assert (await running.get("/boxes?area=6")).status == 400
    assert (await running.get("/boxes?sort=area")).status == 400


async def test_an_action_sets_the_value_of_a_read_only_field(running: Api) -> None:
    created = await running.post("/labels", [{"text": "a"}, {"text": "b", "shout": "no"}])
    assert [item["shout"] for item in created.json["items"]] == ["A", "B"]
    assert [item["text"] for item in (await running.get("/labels?shout=B")).json["items"]] == ["b"]
