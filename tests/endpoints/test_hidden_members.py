"""PATCH of nested objects that hold more than clients see: write-only members, and those of a newer schema."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError, post_load, validates_schema

from pegboard import Schema, TableResource, fields
from tests.conftest import Api, Response, Serve, plugin

MERGE, OPERATIONS = "application/merge-patch+json", "application/json-patch+json"


class Inner(Schema):
    x = fields.Integer(allow_none=True)
    key = fields.String(load_only=True)


class Part(Schema):
    a = fields.String(required=True)
    b = fields.String(data_key="bee")
    inner = fields.Nested(Inner)
    secret = fields.String(load_only=True, required=True)
    code = fields.String(load_only=True, load_default="none", data_key="pin")
    state = fields.String(dump_only=True)

    @post_load
    def seal(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**data, "secret": f"sealed {data['secret']}"}


class Other(Schema):
    a = fields.String()
    bee = fields.String(attribute="b")
    secret = fields.String()
    new = fields.Integer()


class Holder(Schema):
    title = fields.String(load_default="")
    part = fields.Nested(Part, allow_none=True, attribute="piece")
    parts = fields.List(fields.Nested(Part), load_default=list)
    many = fields.Nested(Part, many=True, load_default=list)
    by_name = fields.Dict(values=fields.Nested(Part), load_default=dict)
    other = fields.Nested(Other, allow_none=True)
    anything = fields.Raw(allow_none=True)


class Checked(Holder):
    @validates_schema
    def check(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("title") == data["piece"]["a"]:
            raise ValidationError("Must differ.", "title")


class Holders(TableResource):
    """Items with nested objects."""

    schema = Holder


class CheckedHolders(TableResource):
    """Items with nested objects and a validator."""

    schema = Checked


STORED: dict[str, Any] = {
    "a": "1",
    "b": "2",
    "inner": {"x": 1, "key": "K", "new": [1, 2]},
    "secret": "S",
    "code": "C",
    "state": "open",
    "new": 7,
}
COLUMNS: dict[str, Any] = {
    "piece": STORED,
    "parts": [STORED, STORED | {"new": 8}],
    "many": [STORED],
    "by_name": {"n": STORED},
}


class Unchecked(Api):
    """A client whose responses may differ from the document, as values that SQL has stored must."""

    async def _send(self, method: str, path: str, json: Any, options: dict[str, Any]) -> Response:
        headers = {**self.headers, **options.pop("headers", {})}
        async with self.session.request(method, self.url + path, json=json, headers=headers, **options) as raw:
            return Response(raw.status, raw.headers, await raw.read())


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    checked = await serve([plugin("holders", Holders), plugin("checked", CheckedHolders)])
    return Unchecked(checked._target, checked.url)


@pytest.fixture(params=["holders", "checked"])
async def item(running: Api, request: pytest.FixtureRequest) -> str:
    """Return the path of an item whose nested objects have members that its schema does not show."""
    name = request.param
    created = await running.post(f"/{name}", {"part": {"a": "1", "secret": "S"}})
    assert created.status == 201, created.body
    for column, value in COLUMNS.items():
        await running.service.database.write.execute(
            f"UPDATE {name}.{name} SET {column} = $2::jsonb WHERE id = $1", created.json["id"], value
        )
    return str(created.headers["Location"])


async def patch(api: Api, item: str, body: Any) -> Response:
    kind = OPERATIONS if isinstance(body, list) else MERGE
    return await api.patch(item, body, headers={"Content-Type": kind})


async def stored(api: Api, item: str) -> dict[str, Any]:
    _, name, id = item.split("/")
    row = await api.service.database.write.fetchrow(f"SELECT * FROM {name}.{name} WHERE id = $1", id)
    return dict(row or {})


def replace(path: str, value: Any) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value}


FIRST, SECOND = COLUMNS["parts"]
NEW_INNER = {"x": 5, "key": "K", "new": [1, 2]}


@pytest.mark.parametrize(
    ("body", "column", "expected"),
    [
        ({"part": {"a": "9"}}, "piece", STORED | {"a": "9"}),
        ({"part": {"bee": "9"}}, "piece", STORED | {"b": "9"}),
        ({"part": {"inner": {"x": 5}}}, "piece", STORED | {"inner": NEW_INNER}),
        ({"part": {"inner": {"key": "L"}}}, "piece", STORED | {"inner": {"x": 1, "key": "L", "new": [1, 2]}}),
        ({"part": {"inner": {"key": None}}}, "piece", STORED | {"inner": {"x": 1, "new": [1, 2]}}),
        ({"part": {"secret": "T"}}, "piece", STORED | {"secret": "sealed T"}),
        ({"part": {"pin": "D"}}, "piece", STORED | {"code": "D"}),
        ({"part": {"pin": None}}, "piece", STORED | {"code": "none"}),
        ({"by_name": {"n": {"a": "9"}}}, "by_name", {"n": STORED | {"a": "9"}}),
        ([replace("/part/a", "9")], "piece", STORED | {"a": "9"}),
        ([replace("/part/inner/x", 5)], "piece", STORED | {"inner": NEW_INNER}),
        ([{"op": "remove", "path": "/part/bee"}], "piece", {k: v for k, v in STORED.items() if k != "b"}),
        ([{"op": "add", "path": "/part/pin", "value": "D"}], "piece", STORED | {"code": "D"}),
        ([replace("/parts/0/a", "9")], "parts", [FIRST | {"a": "9"}, SECOND]),
        ([replace("/many/0/a", "9")], "many", [STORED | {"a": "9"}]),
        ([replace("/by_name/n/a", "9")], "by_name", {"n": STORED | {"a": "9"}}),
        ([{"op": "remove", "path": "/parts/0"}], "parts", [SECOND]),
        (
            [{"op": "move", "from": "/parts/1", "path": "/parts/0"}, replace("/parts/0/a", "9")],
            "parts",
            [SECOND | {"a": "9"}, FIRST],
        ),
        ([{"op": "copy", "from": "/parts/1", "path": "/many/-"}], "many", [STORED, SECOND]),
        ([{"op": "move", "from": "/by_name/n", "path": "/by_name/m"}], "by_name", {"m": STORED}),
        (
            [{"op": "add", "path": "/parts/0", "value": {"a": "0", "secret": "N"}}],
            "parts",
            [{"a": "0", "secret": "sealed N", "code": "none"}, FIRST, SECOND],
        ),
        ({"part": {"state": "shut"}}, "piece", STORED),
        ({"title": "t"}, "piece", STORED),
    ],
)
async def test_what_a_patch_does_not_change_is_kept(
    running: Api, item: str, body: Any, column: str, expected: Any
) -> None:
    response = await patch(running, item, body)
    assert response.status == 200, response.body
    assert (await stored(running, item)) | {column: expected} == await stored(running, item)
    assert b"sealed" not in response.body
    assert b"new" not in response.body


@pytest.mark.parametrize("member", ["new", "secret", "inner/key", "inner/new"])
@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/part/{}", "value": "S"},
        {"op": "copy", "from": "/part/{}", "path": "/anything"},
        {"op": "move", "from": "/part/{}", "path": "/anything"},
        {"op": "remove", "path": "/part/{}"},
        {"op": "replace", "path": "/part/{}", "value": 1},
    ],
)
async def test_an_operation_finds_no_hidden_member(
    running: Api, item: str, member: str, operation: dict[str, Any]
) -> None:
    before = await stored(running, item)
    written = {key: text.format(member) if isinstance(text, str) else text for key, text in operation.items()}
    assert (await patch(running, item, [written])).status == 409
    assert await stored(running, item) == before


@pytest.mark.parametrize("body", [{"part": {"new": 1}}, [{"op": "add", "path": "/part/new", "value": 1}]])
async def test_a_patch_cannot_set_an_unknown_member(running: Api, item: str, body: Any) -> None:
    response = await patch(running, item, body)
    assert (response.status, response.json["errors"][0]["pointer"]) == (422, "/part/new")
    assert (await stored(running, item))["piece"] == STORED


async def test_an_object_copied_to_where_another_schema_shows_more_leaves_its_hidden_members(
    running: Api, item: str
) -> None:
    operations = [
        {"op": "copy", "from": "/part", "path": "/other"},
        {"op": "remove", "path": "/other/inner"},
        {"op": "remove", "path": "/other/state"},
    ]
    response = await patch(running, item, operations)
    assert (response.status, response.json["other"]) == (200, {"a": "1", "bee": "2"})
    response = await patch(running, item, [{"op": "copy", "from": "/part", "path": "/anything"}])
    assert response.json["anything"] == response.json["part"]
    assert (await stored(running, item))["anything"] == response.json["part"]


async def test_a_value_that_replaces_an_object_replaces_its_hidden_members(running: Api, item: str) -> None:
    value = {"a": "9", "secret": "T"}
    replaced = {"a": "9", "secret": "sealed T", "code": "none"}
    assert (await patch(running, item, [replace("/part", value)])).status == 200
    assert (await patch(running, item, {"parts": [value]})).status == 200
    row = await stored(running, item)
    assert (row["piece"], row["parts"]) == (replaced, [replaced])


async def test_the_validator_of_the_schema_is_called_with_hidden_members(running: Api) -> None:
    created = await running.post("/checked", {"part": {"a": "1", "secret": "S"}})
    response = await patch(running, created.headers["Location"], {"title": "1"})
    assert (response.status, response.json["errors"][0]["pointer"]) == (422, "/title")
