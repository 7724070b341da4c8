"""The order of errors: of two errors in one request, the complete response of the earlier stage is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import uuid4

import orjson
import pytest
from yarl import URL

from pegboard import Schema, TableResource, Unique
from pegboard.schema import fields
from tests.conftest import Api, Response, Serve, plugin


class Thing(Schema):
    name = fields.String(required=True)
    rank = fields.Integer(allow_none=True)


class Things(TableResource):
    """Things whose writes require If-Match."""

    schema = Thing
    verbs = "GET", "POST", "PUT", "PATCH", "DELETE"
    unique = (Unique("name"),)
    needs_match = True


class RequestSpec:
    """A request into which errors of any stage can be introduced."""

    def __init__(self, item: str, tag: str) -> None:
        self.method, self.path, self.query = "PATCH", f"/things/{item}", ""
        self.body: Any = {"rank": 1}
        self.client = "admin"
        self.headers = {"Content-Type": "application/json", "If-Match": tag}

    def head(self) -> None:
        self.headers["Content-Length"] = "x"

    def nobody(self) -> None:
        self.client = ""

    def no_path(self) -> None:
        self.path = self.path.replace("/things/", "/nothings/")

    def malformed_id(self) -> None:
        self.path = "/things/5"

    def no_verb(self) -> None:
        self.method = "POST"

    def no_grant(self) -> None:
        self.client = "reader"

    def not_acceptable(self) -> None:
        self.headers["Accept"] = "text/html"

    def not_json(self) -> None:
        self.headers["Content-Type"] = "text/plain"

    def bad_query(self) -> None:
        self.query = "?x=1"

    def bad_body(self) -> None:
        self.body = b"{]"

    def no_object(self) -> None:
        self.body = []

    def bad_tag(self) -> None:
        self.headers["If-Match"] = "x"

    def no_item(self) -> None:
        self.path = f"/things/{uuid4()}"

    def changed(self) -> None:
        self.headers["If-Match"] = '"0"'

    def no_match(self) -> None:
        self.headers.pop("If-Match")

    def invalid(self) -> None:
        self.body = {"rank": "first"}

    def taken(self) -> None:
        self.body = {"name": "taken"}


Mutation = Callable[[RequestSpec], None]


class Stage(NamedTuple):
    status: int
    mutations: tuple[Mutation, ...]


STAGES = (
    Stage(400, (RequestSpec.head,)),
    Stage(401, (RequestSpec.nobody,)),
    Stage(404, (RequestSpec.no_path, RequestSpec.malformed_id)),
    Stage(405, (RequestSpec.no_verb,)),
    Stage(403, (RequestSpec.no_grant,)),
    Stage(406, (RequestSpec.not_acceptable,)),
    Stage(415, (RequestSpec.not_json,)),
    Stage(400, (RequestSpec.bad_query, RequestSpec.bad_body, RequestSpec.no_object, RequestSpec.bad_tag)),
    Stage(404, (RequestSpec.no_item,)),
    Stage(412, (RequestSpec.changed,)),
    Stage(428, (RequestSpec.no_match,)),
    Stage(422, (RequestSpec.invalid,)),
    Stage(409, (RequestSpec.taken,)),
)

EXCLUSIVE = (
    {RequestSpec.no_path, RequestSpec.malformed_id, RequestSpec.no_item},
    {RequestSpec.bad_body, RequestSpec.no_object, RequestSpec.invalid, RequestSpec.taken},
    {RequestSpec.bad_tag, RequestSpec.changed, RequestSpec.no_match},
    {RequestSpec.nobody, RequestSpec.no_grant},
)
"""Mutations of the same part of a request, which exclude each other."""

PAIRS = [
    pytest.param(first, second, stage.status, id=f"{first.__name__}-{second.__name__}")
    for index, stage in enumerate(STAGES)
    for first in stage.mutations
    for later in STAGES[index + 1 :]
    for second in later.mutations
    if not any({first, second} <= group for group in EXCLUSIVE)
]
SINGLES = [
    pytest.param(mutation, stage.status, id=mutation.__name__) for stage in STAGES for mutation in stage.mutations
]


@pytest.fixture(scope="module")
async def things(serve: Serve) -> Api:
    api = await serve([plugin("things", Things)])
    await api.service.clients.add("reader", "only reading", ["things:GET"])
    await api.post("/things", {"name": "taken"})
    await api.post("/things", {"name": "thing"})
    return api


@pytest.fixture(scope="module")
async def item(things: Api) -> str:
    return str((await things.get("/things?name=thing")).json["items"][0]["id"])


async def send(api: Api, item: str, *mutations: Mutation) -> Response:
    tag = (await api.get(f"/things/{item}")).headers["ETag"]
    spec = RequestSpec(item, tag)
    for mutation in mutations:
        mutation(spec)
    clients = {"admin": api, "reader": api.as_client("reader", "only reading"), "": api.as_client("", "")}
    body = spec.body if isinstance(spec.body, bytes) else orjson.dumps(spec.body)
    lines = {"Host": "test", "Content-Length": str(len(body)), **clients[spec.client].headers, **spec.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in {**lines, "Connection": "close"}.items())
    url = URL(api.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"{spec.method} {spec.path}{spec.query} HTTP/1.1\r\n{head}\r\n".encode() + body)
    async with asyncio.timeout(10):
        response, _, content = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return Response(int(response.split(b" ")[1]), {}, content)


async def test_the_valid_request_succeeds(things: Api, item: str) -> None:
    assert (await send(things, item)).status == 200


@pytest.mark.parametrize(("mutation", "status"), SINGLES)
async def test_each_error_alone_has_its_status(things: Api, item: str, mutation: Mutation, status: int) -> None:
    assert (await send(things, item, mutation)).status == status


@pytest.mark.parametrize(("first", "second", "status"), PAIRS)
async def test_of_two_errors_the_earlier_one_is_reported(
    things: Api, item: str, first: Mutation, second: Mutation, status: int
) -> None:
    alone, both = await send(things, item, first), await send(things, item, second, first)
    assert both.status == status
    if status != 400 or first is RequestSpec.head:
        assert both.errors == alone.errors
    else:
        assert set(alone.errors) <= set(both.errors)


async def test_a_method_without_an_item_keeps_the_order(things: Api) -> None:
    reader = things.as_client("reader", "only reading")
    assert (await reader.post("/things?x=1", {})).status == 403
    assert (await things.post("/things", {"name": 5}, headers={"Accept": "text/html"})).status == 406
    assert (await things.post("/things?x=1", {"name": 5})).status == 400
    assert (await things.post("/things", {"name": 5})).status == 422
    assert (await things.post("/things", {"name": "taken", "rank": "x"})).errors == [(11004, "/rank")]
    assert (await things.post("/things", {"name": "taken"})).status == 409


async def test_a_missing_grant_does_not_reveal_existing_items(things: Api, item: str) -> None:
    await things.service.clients.add("stranger", "without grants", [])
    stranger = things.as_client("stranger", "without grants")
    responses = [await stranger.get(f"/things/{id}") for id in (item, uuid4())]
    assert [(response.status, response.body) for response in responses] == [(403, responses[0].body)] * 2


# All errors of a stage together ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "body", "headers", "query", "errors"),
    [
        ("GET", None, {"If-None-Match": "x"}, "?a=1&b=2", {(10013, "a"), (10013, "b"), (10015, "If-None-Match")}),
        ("PATCH", b"{]", {"If-Match": "x"}, "?a=1", {(10013, "a"), (10015, "If-Match"), (10000, None)}),
        ("PATCH", b"[]", {"If-Match": "x"}, "?a=1", {(10013, "a"), (10015, "If-Match"), (10001, "")}),
        ("PUT", b"[]", {"If-Match": "x"}, "?a=1", {(10013, "a"), (10015, "If-Match"), (10001, "")}),
        ("PUT", b"", {"If-Match": "x"}, "?a=1", {(10013, "a"), (10015, "If-Match"), (10002, None)}),
        ("DELETE", None, {"If-Match": "x"}, "?a=1", {(10013, "a"), (10015, "If-Match")}),
        ("GET", None, {"If-Match": "x", "If-None-Match": "y"}, "", {(10015, "If-Match"), (10015, "If-None-Match")}),
        (
            "PATCH",
            b'[{"op": "x"}, {"op": "remove"}]',
            {"Content-Type": "application/json-patch+json"},
            "?a=1",
            {(10013, "a"), (10001, "/0/op"), (10001, "/1/path")},
        ),
    ],
)
async def test_all_errors_of_the_request_format_are_reported(
    things: Api,
    item: str,
    method: str,
    body: bytes | None,
    headers: dict[str, str],
    query: str,
    errors: set[tuple[int, str | None]],
) -> None:
    all_headers = {"Content-Type": "application/json", **headers}
    response = await things.request(method, f"/things/{item}{query}", data=body, headers=all_headers)
    assert response.status == 400
    assert set(response.errors) == errors


async def test_all_errors_of_a_new_item_are_reported(things: Api) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "é"}
    form = await things.request("POST", "/things?a=1", data=b"5", headers=headers)
    assert set(form.errors) == {(10013, "a"), (10015, "Idempotency-Key"), (10001, "")}
    response = await things.post("/things", {"id": 1, "rank": "x", "x": 1})
    assert set(response.errors) == {(11000, "/id"), (11001, "/name"), (11004, "/rank"), (11002, "/x")}
