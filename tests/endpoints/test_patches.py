"""PATCH in its three media types, and creating PUTs, with items of every shape."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import orjson
import pytest

from pegboard import Context, Schema, TableResource, Unique, ValidationError, validate, validates_schema
from pegboard.schema import fields
from tests.conftest import Api, Response, Serve, plugin

JSON, MERGE, OPERATIONS = "application/json", "application/merge-patch+json", "application/json-patch+json"


class Address(Schema):
    street = fields.String(required=True, validate=validate.Length(max=20))
    city = fields.String(allow_none=True)


class Profile(Schema):
    name = fields.String(required=True, validate=validate.Length(1, 50))
    email = fields.Email(required=True)
    nick = fields.String(allow_none=True)
    score = fields.Integer(load_default=7)
    level = fields.Integer()
    active = fields.Boolean(load_default=True)
    tags = fields.List(fields.String(), load_default=list)
    address = fields.Nested(Address, allow_none=True)
    extra = fields.Dict(load_default=dict)
    anything = fields.Raw(allow_none=True)
    seen = fields.DateTime(allow_none=True)
    secret = fields.String(load_only=True, validate=validate.Length(min=8))
    price = fields.Decimal(allow_none=True)
    starts = fields.Date(allow_none=True, data_key="from")


class Profiles(TableResource):
    """Profiles with fields of every type."""

    schema = Profile
    verbs = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"
    unique = (Unique("email"),)
    creates_by_put = True


class Span(Schema):
    begin = fields.Integer(required=True)
    end = fields.Integer(required=True)
    step = fields.Integer(load_default=1)
    label = fields.String(allow_none=True)
    secret = fields.String(load_only=True, required=True)

    @validates_schema
    def in_order(self, data: dict[str, Any], **_: Any) -> None:
        if data["begin"] > data["end"]:
            raise ValidationError("Must not end before it begins.", "end")


class Spans(TableResource):
    """Spans with interdependent fields."""

    schema = Span
    verbs = "GET", "POST", "PUT", "PATCH"


class Guarded(TableResource):
    """Items whose changes require If-Match."""

    schema = Address
    verbs = "GET", "POST", "PUT", "PATCH", "DELETE"
    needs_match = True
    creates_by_put = True


class Noted(TableResource):
    """Items whose actions add keys that no field has to the data."""

    schema = Address

    async def create(self, context: Context, data: Any) -> Any:
        return await super().create(context, {**data, "note": 1})

    async def update(self, context: Context, id: str, data: Any) -> Any:
        return await super().update(context, id, {**await self.retrieve(context, id), **data, "note": 1})


@pytest.fixture(scope="module")
async def api(serve: Serve) -> Api:
    api = await serve(
        [plugin("profiles", Profiles), plugin("spans", Spans), plugin("guarded", Guarded), plugin("noted", Noted)]
    )
    await api.service.clients.add("putter", "may only put", ["profiles:PUT", "profiles:GET"])
    return api


ADA = {
    "name": "Ada",
    "nick": "Countess",
    "score": 9,
    "active": False,
    "tags": ["a", "b"],
    "address": {"street": "Square 1", "city": "London"},
    "extra": {"deep": {"one": 1, "two": [1, 2]}, "flat": "x"},
    "anything": [1, {"x": None}],
    "seen": "2015-02-15T05:21:07Z",
    "price": "1.50",
    "from": "2015-02-15",
    "secret": "correct horse",
}


async def create_profile(api: Api, **changes: Any) -> str:
    response = await api.post("/profiles", {**ADA, "email": f"{uuid4().hex}@example.org", **changes})
    assert response.status == 201, response.body
    return str(response.headers["Location"])


async def patch_item(api: Api, item: str, body: Any, kind: str = JSON, **headers: str) -> Response:
    return await api.patch(item, body, headers={"Content-Type": kind, **headers})


# Merge patches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [JSON, MERGE])
@pytest.mark.parametrize(
    ("patch", "changes"),
    [
        ({"nick": "C"}, {"nick": "C"}),
        ({"nick": None}, {"nick": None}),
        ({"score": None}, {"score": 7}),
        ({"active": None, "tags": None, "extra": None}, {"active": True, "tags": [], "extra": {}}),
        ({"tags": ["c"]}, {"tags": ["c"]}),
        ({"address": {"city": "Rome"}}, {"address": {"street": "Square 1", "city": "Rome"}}),
        ({"address": {"city": None}}, {"address": {"street": "Square 1"}}),
        ({"address": None}, {"address": None}),
        ({"extra": {"flat": None}}, {"extra": {"deep": {"one": 1, "two": [1, 2]}}}),
        ({"extra": {"deep": {"one": {"x": 1}}}}, {"extra": {"deep": {"one": {"x": 1}, "two": [1, 2]}, "flat": "x"}}),
        ({"extra": {"flat": {"x": None, "y": 1}}}, {"extra": {**ADA["extra"], "flat": {"y": 1}}}),  # type: ignore[dict-item]
        ({"anything": {"a": {"b": None}}}, {"anything": {"a": {}}}),
        ({"anything": 5}, {"anything": 5}),
        ({"anything": None}, {"anything": None}),
        ({"seen": "2015-02-15T07:21:07.9+02:00"}, {}),
        ({"seen": "2015-02-15T07:21:08"}, {"seen": "2015-02-15T07:21:08Z"}),
        ({"price": 2.5}, {"price": "2.5"}),
        ({"from": None}, {"from": None}),
        ({"secret": "battery staple"}, {}),
        ({}, {}),
    ],
)
async def test_a_merge_patch_changes_only_its_fields(api: Api, kind: str, patch: Any, changes: Any) -> None:
    item = await create_profile(api)
    before = (await api.get(item)).json
    response = await patch_item(api, item, patch, kind)
    assert response.status == 200, response.body
    assert response.json == {**before, **changes, "updated_at": response.json["updated_at"]}
    assert (await api.get(item)).json == response.json


@pytest.mark.parametrize(
    ("patch", "errors"),
    [
        ({"name": None}, {(11003, "/name")}),
        ({"address": {"street": None}}, {(11001, "/address/street")}),
        ({"address": {"street": 5, "x": 1}}, {(11004, "/address/street"), (11002, "/address/x")}),
        ({"address": []}, {(11004, "/address")}),
        ({"extra": []}, {(11004, "/extra")}),
        ({"extra": {"deep": {"x": "\0"}}}, {(11013, "/extra")}),
        ({"anything": {"\0": 1}}, {(11013, "/anything")}),
        ({"secret": "short"}, {(11005, "/secret")}),
        ({"from": "x", "starts": "2015-02-15"}, {(11012, "/from"), (11002, "/starts")}),
        ({"extra": {"x": 1}, "name": "", "id": "x"}, {(11005, "/name"), (11000, "/id")}),
    ],
)
async def test_a_merge_patch_with_an_invalid_result_is_422(api: Api, patch: Any, errors: Any) -> None:
    item = await create_profile(api)
    before = await api.get(item)
    response = await patch_item(api, item, patch, MERGE)
    assert response.status == 422
    assert set(response.errors) == errors
    after = await api.get(item)
    assert (after.body, after.headers["ETag"]) == (before.body, before.headers["ETag"])


# JSON Patch --------------------------------------------------------------------------------------------------


def op(name: str, path: str, value: Any = ..., source: str | None = None) -> dict[str, Any]:
    operation = {"op": name, "path": path}
    return operation | ({} if value is ... else {"value": value}) | ({} if source is None else {"from": source})


@pytest.mark.parametrize(
    ("patch", "changes"),
    [
        ([], {}),
        ([op("replace", "/name", "Bob")], {"name": "Bob"}),
        ([op("remove", "/nick")], {"nick": None}),
        ([op("remove", "/score"), op("remove", "/tags")], {"score": 7, "tags": []}),
        ([op("add", "/tags/-", "c"), op("add", "/tags/0", "z")], {"tags": ["z", "a", "b", "c"]}),
        ([op("remove", "/tags/0")], {"tags": ["b"]}),
        ([op("test", "/score", 9.0), op("replace", "/score", 1)], {"score": 1}),
        ([op("move", "/nick", source="/tags/0")], {"nick": "a", "tags": ["b"]}),
        ([op("copy", "/extra/copy", source="/address")], {"extra": {**ADA["extra"], "copy": ADA["address"]}}),  # type: ignore[dict-item]
        ([op("remove", "/address/city")], {"address": {"street": "Square 1"}}),
        ([op("replace", "/anything", None)], {"anything": None}),
        ([op("add", "/secret", "battery staple")], {}),
        ([op("test", "/active", False), op("replace", "/active", True)], {"active": True}),
        ([op("add", "/extra/a~1b~0c", 1)], {"extra": {**ADA["extra"], "a/b~c": 1}}),  # type: ignore[dict-item]
        ([op("replace", "/anything/0", True)], {"anything": [True, {"x": None}]}),
        ([op("replace", "/created_at", "x")], {}),
        ([op("remove", "/updated_at")], {}),
    ],
)
async def test_a_json_patch_applies_its_operations(api: Api, patch: Any, changes: Any) -> None:
    item = await create_profile(api)
    before = (await api.get(item)).json
    response = await patch_item(api, item, patch, OPERATIONS)
    assert response.status == 200, response.body
    expected = {**before, **changes, "updated_at": response.json["updated_at"]}
    # Compared as bytes, since True equals 1.
    assert orjson.dumps(response.json, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        expected, option=orjson.OPT_SORT_KEYS
    )
    assert (await api.get(item)).json == response.json


@pytest.mark.parametrize(
    ("patch", "status", "errors"),
    [
        ([op("test", "/active", 0)], 409, {(13004, "/0")}),
        ([op("replace", "/name", "B"), op("test", "/name", "Ada")], 409, {(13004, "/1")}),
        ([op("remove", "/secret")], 409, {(13004, "/0")}),
        ([op("test", "/secret", "correct horse")], 409, {(13004, "/0")}),
        ([op("add", "/extra/x/y", 1)], 409, {(13004, "/0")}),
        ([op("remove", "/name")], 422, {(11003, "/name")}),
        ([op("replace", "/active", 0)], 422, {(11004, "/active")}),
        ([op("replace", "/id", "x")], 422, {(11000, "/id")}),
        ([op("remove", "/id")], 422, {(11000, "/id")}),
        ([op("replace", "", {})], 422, {(11000, "/id"), (11003, "/name"), (11003, "/email")}),
        ([op("replace", "", 5)], 422, {(11004, "")}),
        ([op("remove", "")], 422, {(11004, "")}),
    ],
)
async def test_a_json_patch_is_atomic(api: Api, patch: Any, status: int, errors: Any) -> None:
    item = await create_profile(api)
    before = await api.get(item)
    response = await patch_item(api, item, patch, OPERATIONS)
    assert response.status == status
    assert set(response.errors) == errors
    assert (await api.get(item)).headers["ETag"] == before.headers["ETag"]


@pytest.mark.parametrize(
    "patch",
    [
        [op("add", "/extra/x", {})] + [op("copy", "/extra/x/x", source="/extra/x")] * 200,
        [op("add", "/extra/x", {})] + [op("copy", "/extra/x/x", source="/extra/x")] * 440,
        [op("add", "/extra" + "/x" * 95 * n, orjson.loads('{"x":' * 95 + "{}" + "}" * 95)) for n in range(40)],
        [op("add", "/extra" + "/x" * 95 * n, orjson.loads('{"x":' * 95 + "{}" + "}" * 95)) for n in range(40)]
        + [op("test", "/extra", {}), op("copy", "/anything", source="/extra")],
    ],
)
async def test_the_nesting_depth_of_a_patch_is_bounded(api: Api, patch: Any) -> None:
    item = await create_profile(api)
    response = await patch_item(api, item, patch, OPERATIONS)
    assert response.status in (400, 409, 422), response.body
    assert (await api.get(item)).json["extra"] == ADA["extra"]


# Patches without changes, races, schema-level validation -------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        (JSON, {"name": "Ada", "seen": "2015-02-15T05:21:07.5Z", "price": "1.50"}),
        (JSON, {"extra": {"flat": "x"}, "address": {"city": "London"}}),
        (OPERATIONS, [op("test", "/name", "Ada")]),
        (OPERATIONS, [op("add", "/tags/-", "c"), op("remove", "/tags/2")]),
    ],
)
async def test_a_patch_without_changes_keeps_etag_and_last_modified(api: Api, kind: str, patch: Any) -> None:
    item = await create_profile(api)
    await api.service.database.write.execute("UPDATE profiles.profiles SET updated_at = '2015-02-15'")
    before = await api.get(item)
    response = await patch_item(api, item, patch, kind)
    assert (response.status, response.json) == (200, before.json)
    assert response.headers["ETag"] == before.headers["ETag"]


async def test_concurrent_patches_are_all_applied(api: Api) -> None:
    item = await create_profile(api, tags=[], extra={})
    responses = await asyncio.gather(
        *(patch_item(api, item, [op("add", "/tags/-", str(n))], OPERATIONS) for n in range(20)),
        *(patch_item(api, item, {"extra": {str(n): n}}, MERGE) for n in range(20)),
    )
    assert {response.status for response in responses} == {200}
    after = (await api.get(item)).json
    assert sorted(after["tags"], key=int) == [str(n) for n in range(20)]
    assert after["extra"] == {str(n): n for n in range(20)}


async def test_one_of_several_concurrent_patches_with_one_etag_succeeds(api: Api) -> None:
    item = await create_profile(api)
    tag = (await api.get(item)).headers["ETag"]
    responses = await asyncio.gather(
        *(patch_item(api, item, [op("replace", "/nick", str(n))], OPERATIONS, **{"If-Match": tag}) for n in range(10)),
        *(patch_item(api, item, {"extra": {str(n): n}}, MERGE, **{"If-Match": tag}) for n in range(10)),
    )
    assert sorted(response.status for response in responses) == [200] + [412] * 19


async def test_schema_level_validation_sees_the_complete_item(api: Api) -> None:
    new = await api.post("/spans", {"begin": 1, "end": 5, "secret": "x"})
    item = new.headers["Location"]
    assert (await patch_item(api, item, {"end": 3})).json["end"] == 3
    assert (await patch_item(api, item, {"label": "x"})).json["label"] == "x"
    assert (await patch_item(api, item, [op("replace", "/begin", 2)], OPERATIONS)).json["begin"] == 2
    for kind, patch in ((JSON, {"begin": 4}), (MERGE, {"end": 0}), (OPERATIONS, [op("replace", "/end", 0)])):
        response = await patch_item(api, item, patch, kind)
        assert (response.status, response.errors) == (422, [(11000, "/end")])
    assert (await patch_item(api, item, {"begin": 9, "end": 9, "step": None})).json["step"] == 1
    assert set((await patch_item(api, item, {"begin": "x", "y": 1})).errors) == {(11004, "/begin"), (11002, "/y")}
    assert (await patch_item(api, item, {"begin": None})).errors == [(11003, "/begin")]
    assert (await patch_item(api, item, {"label": None})).json["label"] is None
    assert (await patch_item(api, item, {"secret": None})).errors == [(11003, "/secret")]
    assert (await patch_item(api, item, {"secret": "new", "id": item.rpartition("/")[2]})).status == 200
    assert await api.service.database.read.fetchval("SELECT secret FROM spans.spans") == "new"
    assert (await api.put(item, {"begin": 9, "end": 1, "secret": "x"})).errors == [(11000, "/end")]


# Write-only fields -------------------------------------------------------------------------------------------


async def test_a_write_only_field_is_never_returned(api: Api) -> None:
    item = await create_profile(api)
    many = await api.post("/profiles", [{**ADA, "email": "many@example.org"}])
    responses = [
        many,
        await api.get(item),
        await api.get("/profiles"),
        await patch_item(api, item, {"secret": "battery staple"}),
        await patch_item(api, item, {"extra": {"x": 1}}),
        await api.put(item, {**ADA, "email": f"{uuid4().hex}@example.org"}),
    ]
    for response in responses:
        assert response.status in (200, 201)
        assert b"correct horse" not in response.body
        assert b"battery" not in response.body
        assert b'"secret"' not in response.body
        assert b"_version" not in response.body
    for query in ("secret=x", "sort=secret", "fields=secret", "secret__isnull=true"):
        assert (await api.get(f"/profiles?{query}")).status == 400
    assert list(many.json["items"][0]) == list((await api.get("/profiles")).json["items"][0])


async def test_fields_selects_the_fields_of_the_response_to_a_write(api: Api) -> None:
    item = await create_profile(api)
    body = {**ADA, "email": f"{uuid4().hex}@example.org"}
    for response in (
        await api.patch(item + "?fields=name", {"nick": "x"}),
        await api.put(item + "?fields=name", body),
        await api.post("/profiles?fields=name", {**body, "email": f"{uuid4().hex}@example.org"}),
    ):
        assert list(response.json) == ["id", "name"]
    many = await api.post("/profiles?fields=name", [{**body, "email": f"{uuid4().hex}@example.org"}])
    assert [list(one) for one in many.json["items"]] == [["id", "name"]]


async def test_items_created_by_an_array_are_returned_as_on_a_page(api: Api) -> None:
    many = await api.post("/guarded", [{"street": "a"}, {"street": "b"}])
    page = await api.get("/guarded")
    assert (
        list(many.json["items"][0])
        == list(page.json["items"][0])
        == ["id", "street", "city", "created_at", "updated_at"]
    )
    some = await api.post("/guarded?fields=city", [{"street": "a"}])
    assert list(some.json["items"][0]) == ["id", "city"]


async def test_an_item_that_was_read_can_be_sent_back_unchanged(api: Api) -> None:
    # An optional field that does not allow null is null until it is set.
    item = (await api.post("/profiles", {"name": "Ada", "email": f"{uuid4().hex}@example.org"})).json
    path = f"/profiles/{item['id']}"
    for method in ("PUT", "PATCH"):
        response = await api.request(method, path, item)
        assert (response.status, response.json) == (200, item)


# Creating PUTs -----------------------------------------------------------------------------------------------


def new_profile(name: str = "New") -> dict[str, Any]:
    return {"name": name, "email": f"{uuid4().hex}@example.org"}


async def test_put_creates_a_missing_item(api: Api) -> None:
    id = str(uuid4())
    response = await api.put(f"/profiles/{id.upper()}", new_profile())
    assert (response.status, response.headers["Location"]) == (201, f"/profiles/{id}")
    assert response.json["id"] == id
    assert response.headers["ETag"] == (await api.get(f"/profiles/{id}")).headers["ETag"]
    again = await api.put(f"/profiles/{id}", new_profile("Other"))
    assert (again.status, again.json["name"], "Location" in again.headers) == (200, "Other", False)


async def test_put_only_creates_if_put_is_create_only(api: Api) -> None:
    path, once = f"/profiles/{uuid4()}", {"If-None-Match": "*"}
    assert (await api.put(path, new_profile(), headers=once)).status == 201
    again = await api.put(path, new_profile(), headers=once)
    assert (again.status, again.errors) == (412, [(13005, "If-None-Match")])


async def test_put_with_if_match_creates_nothing(api: Api) -> None:
    path = f"/profiles/{uuid4()}"
    for tag in ("*", '"1"'):
        assert (await api.put(path, new_profile(), headers={"If-Match": tag})).status == 404
    assert (await api.get(path)).status == 404


async def test_put_that_creates_is_validated(api: Api) -> None:
    path = f"/profiles/{uuid4()}"
    assert set((await api.put(path, {"name": ""})).errors) == {(11005, "/name"), (11001, "/email")}
    assert (await api.put(path, {**new_profile(), "id": str(uuid4())})).errors == [(11000, "/id")]
    assert (await api.put(path, {**new_profile(), "id": path.rpartition("/")[2]})).status == 201


async def test_put_creates_only_with_the_post_grant(api: Api) -> None:
    putter = api.as_client("putter", "may only put")
    assert (await putter.put(f"/profiles/{uuid4()}", new_profile())).status == 404
    assert (await putter.put(await create_profile(api), new_profile())).status == 200


async def test_one_of_several_concurrent_puts_creates_the_item(api: Api) -> None:
    for headers, other in (({}, 200), ({"If-None-Match": "*"}, 412)):
        path = f"/profiles/{uuid4()}"
        responses = await asyncio.gather(*(api.put(path, new_profile(str(n)), headers=headers) for n in range(8)))
        assert sorted(response.status for response in responses) == sorted([201] + [other] * 7)


# Writes that require If-Match --------------------------------------------------------------------------------


async def test_a_write_without_a_required_if_match_is_428(api: Api) -> None:
    new = await api.post("/guarded", {"street": "a"})
    item, tag = new.headers["Location"], {"If-Match": new.headers["ETag"]}
    for method, body, kind in (
        ("PATCH", {"street": "b"}, JSON),
        ("PATCH", [op("replace", "/street", "b")], OPERATIONS),
        ("PUT", {"street": "b"}, JSON),
        ("DELETE", None, JSON),
    ):
        for headers in ({}, {"If-Unmodified-Since": "Mon, 01 Jan 2300 00:00:00 GMT"}):
            response = await api.request(method, item, body, headers={"Content-Type": kind, **headers})
            assert (response.status, response.errors) == (428, [(13006, "If-Match")])
    changed = await api.patch(item, {"street": "b"}, headers=tag)
    assert changed.status == 200
    assert (await api.delete(item, headers=tag)).status == 412
    assert (await api.delete(item, headers={"If-Match": "*"})).status == 204
    made = await api.put(item, {"street": "c"})
    assert made.status == 201
    assert (await api.put(item, {"street": "c"}, headers={"If-None-Match": "*"})).status == 412


async def test_keys_of_an_author_that_no_field_has_are_ignored(api: Api) -> None:
    created = await api.post("/noted", {"street": "a"})
    assert created.status == 201, created.body
    changed = await patch_item(api, created.headers["Location"], {"street": "b"})
    assert (changed.status, changed.json["street"]) == (200, "b")
    assert changed.json.keys() == created.json.keys()
    assert changed.json["created_at"] == created.json["created_at"]
