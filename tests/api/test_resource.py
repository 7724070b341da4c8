"""A resource without a table: the values returned by its actions are serialized like those of any resource."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest

from pegboard import ApiError, Context, Page, Resource, Schema, ValidationError, errors, validate
from pegboard.schema import fields
from tests.conftest import Api, Serve, plugin

TOKYO = timezone(timedelta(hours=9))


class Locked(ApiError, number=1, status=409, message="The book is locked."): ...


class Genre(Enum):
    NOVEL = "novel"


class Book(Schema):
    title = fields.String(required=True, validate=validate.Length(1, 100))
    published = fields.DateTime(allow_none=True)
    notes = fields.Dict(load_default=dict)
    seen = fields.Raw(dump_only=True)
    shout = fields.Function(lambda book: book["title"].upper(), dump_only=True)


class Books(Resource):
    """Books on a shelf in memory."""

    schema = Book
    verbs = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"
    error_codes = (Locked,)

    def __init__(self) -> None:
        self.shelf: dict[str, dict[str, Any]] = {}

    def _found(self, id: str) -> dict[str, Any]:
        if id not in self.shelf:
            raise errors.NotFound
        return self.shelf[id]

    async def list(self, context: Context) -> Any:
        return list(self.shelf.values())

    async def create(self, context: Context, data: dict[str, Any]) -> Any:
        if data["title"] == "locked":
            raise Locked(pointer="/title")
        if data["title"] == "refused":
            raise ValidationError({"title": ["Not this one."]})
        if data["title"] == "crash":
            raise LookupError("the shelf fell down")
        now = datetime.now(TOKYO)
        book = {"id": str(uuid4()), "created_at": now, "updated_at": now, "seen": now, **data}
        self.shelf[book["id"]] = book
        return book

    async def retrieve(self, context: Context, id: str) -> Any:
        return self._found(id)

    async def replace(self, context: Context, id: str, data: dict[str, Any]) -> Any:
        return await self.update(context, id, data)

    async def update(self, context: Context, id: str, data: dict[str, Any]) -> Any:
        book = self._found(id)
        book.update(data, updated_at=datetime.now(TOKYO))
        return book

    async def delete(self, context: Context, id: str) -> None:
        self._found(id)
        del self.shelf[id]


NAIVE = datetime(2015, 2, 15, 5, 21, 7, 999_999)


class Value(Schema):
    value = fields.Raw()


class Values(Resource):
    """Values of every type."""

    schema = Value
    verbs = "GET", "HEAD"
    values: dict[str, Any] = {
        "aware": NAIVE.replace(tzinfo=UTC),
        "elsewhere": datetime(2015, 2, 15, 14, 21, 7, 1, TOKYO),
        "naive": NAIVE,
        "nested": {"list": [NAIVE, (datetime(2015, 2, 15, 14, 21, 7, tzinfo=TOKYO),)], "key": {"deep": NAIVE}},
        "old": datetime(1, 1, 1, tzinfo=UTC),
        "day": date(2015, 2, 15),
        "exact": Decimal("1.50"),
        "uuid": UUID(int=7),
        "enum": Genre.NOVEL,
        "set": {5},
        "none": None,
        "infinite": float("inf"),
    }

    def parse_id(self, text: str) -> str | None:
        return text if text in self.values else None

    async def list(self, context: Context) -> Any:
        items = [{"id": name, "value": value, "updated_at": NAIVE} for name, value in self.values.items()]
        return Page(items, total=len(items))

    async def retrieve(self, context: Context, id: str) -> Any:
        return {"id": id, "value": self.values[id], "updated_at": NAIVE}


class Named(Schema):
    name = fields.String(required=True)


class Place(NamedTuple):
    id: str
    name: str


class Places(Resource):
    """Places as objects, identified by name."""

    schema = Named
    verbs = "GET", "POST"

    def parse_id(self, text: str) -> str | None:
        return text or None

    async def create(self, context: Context, data: dict[str, Any]) -> Any:
        return Place(data["name"], data["name"])

    async def retrieve(self, context: Context, id: str) -> Any:
        return Place(id, id)


class Odd(Resource):
    """Returns values that cannot be serialized."""

    schema = Value
    verbs = ("GET",)
    responses: dict[str, Any] = {
        "nothing": None,
        "object": {"id": "object", "value": object()},
        "surrogate": {"id": "surrogate", "value": "\ud800"},
        "nan": {"id": "nan", "value": Decimal("NaN")},
        "text": "text",
    }

    def parse_id(self, text: str) -> str | None:
        return text

    async def retrieve(self, context: Context, id: str) -> Any:
        if id in ("refused", "slow", "gone"):
            raise {"refused": ConnectionRefusedError, "slow": TimeoutError, "gone": KeyError}[id]("/etc/secret")
        return self.responses[id]


class Careless(Resource):
    """Returns invalid pages and items."""

    schema = Named
    verbs = "GET", "POST"
    pages: dict[int, Any] = {1: None, 2: "text", 3: [None], 4: [{"name": "no id"}], 5: Page(5), 6: 6}  # type: ignore[arg-type]  # deliberately invalid

    async def list(self, context: Context) -> Any:
        return self.pages[context.query.limit]

    async def create(self, context: Context, data: dict[str, Any]) -> Any:
        return {"none": None, "text": "text", "mapping": {"name": "no id"}}[data["name"]]


@pytest.fixture(scope="module")
async def api(serve: Serve) -> Api:
    resources = {"books": Books, "values": Values, "places": Places, "odd": Odd, "careless": Careless}
    return await serve([plugin(name, resource) for name, resource in resources.items()])


async def create_book(api: Api, **changes: Any) -> str:
    response = await api.post("/books", {"title": "Emma", **changes})
    assert response.status == 201, response.body
    return str(response.headers["Location"])


async def test_all_methods_work_without_a_table(api: Api) -> None:
    new = await api.post("/books", {"title": "Emma", "published": "1815-12-23T01:00:00+01:00"})
    item = new.headers["Location"]
    assert (new.status, item) == (201, f"/books/{new.json['id']}")
    assert list(new.json) == ["id", "title", "published", "notes", "seen", "shout", "created_at", "updated_at"]
    assert new.json["published"] == "1815-12-23T00:00:00Z"
    got, head = await api.get(item), await api.head(item)
    assert got.json == new.json
    assert (head.status, head.headers["Content-Length"], head.body) == (200, str(len(got.body)), b"")
    assert [book["id"] for book in (await api.get("/books")).json["items"]] == [new.json["id"]]
    put = await api.put(item, {"title": "Persuasion"})
    assert (put.status, put.json["title"], put.json["notes"]) == (200, "Persuasion", {})
    patch = await api.patch(item, {"title": "Emma"})
    assert (patch.status, patch.json["shout"]) == (200, "EMMA")
    assert (await api.delete(item)).status == 204
    for method in ("GET", "HEAD", "PATCH", "PUT", "DELETE"):
        assert (await api.request(method, item, {"title": "x"})).status == 404


async def test_all_patch_formats_work_without_a_table(api: Api) -> None:
    item = await create_book(api, notes={"a": 1, "b": 2})
    response = await api.patch(item, {"notes": {"a": None}}, headers={"Content-Type": "application/merge-patch+json"})
    assert response.json["notes"] == {"b": 2}
    patch = [{"op": "add", "path": "/notes/c", "value": 3}, {"op": "test", "path": "/notes/b", "value": 2}]
    response = await api.patch(item, patch, headers={"Content-Type": "application/json-patch+json"})
    assert response.json["notes"] == {"b": 2, "c": 3}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("aware", "2015-02-15T05:21:07Z"),
        ("elsewhere", "2015-02-15T05:21:07Z"),
        ("naive", "2015-02-15T05:21:07Z"),
        (
            "nested",
            {"list": ["2015-02-15T05:21:07Z", ["2015-02-15T05:21:07Z"]], "key": {"deep": "2015-02-15T05:21:07Z"}},
        ),
        ("old", "0001-01-01T00:00:00Z"),
        ("day", "2015-02-15"),
        ("exact", "1.50"),
        ("uuid", "00000000-0000-0000-0000-000000000007"),
        ("enum", "novel"),
        ("set", [5]),
        ("none", None),
        ("infinite", None),
    ],
)
async def test_returned_values_are_serialized_according_to_the_contract(api: Api, name: str, shown: Any) -> None:
    response = await api.get(f"/values/{name}")
    assert response.json == {"id": name, "value": shown, "updated_at": "2015-02-15T05:21:07Z"}
    assert response.headers["Last-Modified"] == "Sun, 15 Feb 2015 05:21:07 GMT"
    assert response.json in (await api.get("/values")).json["items"]


async def test_instants_in_any_time_zone_are_serialized_in_utc(api: Api) -> None:
    book = (await api.get(await create_book(api))).json
    for name in ("created_at", "updated_at", "seen"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", book[name])
        assert abs(datetime.fromisoformat(book[name]) - datetime.now(UTC)) < timedelta(seconds=10)


async def test_preconditions_are_checked_against_returned_items(api: Api) -> None:
    item = await create_book(api)
    before = await api.get(item)
    tag, modified = before.headers["ETag"], before.headers["Last-Modified"]
    assert (await api.get(item, headers={"If-None-Match": tag})).status == 304
    assert (await api.get(item, headers={"If-None-Match": f'"x", W/{tag}'})).status == 304
    assert (await api.get(item, headers={"If-Modified-Since": modified})).status == 304
    assert (await api.get(item, headers={"If-None-Match": '"x"', "If-Modified-Since": modified})).status == 200
    assert (await api.get(item + "?fields=title")).headers["ETag"] == tag
    unmodified = await api.patch(item, {"title": "A"}, headers={"If-Unmodified-Since": modified})
    assert unmodified.status == 200
    for headers in (
        {"If-Match": tag},
        {"If-Unmodified-Since": "Sun, 15 Feb 2015 05:21:07 GMT"},
        {"If-None-Match": "*"},
    ):
        for method in ("PUT", "PATCH", "DELETE"):
            response = await api.request(method, item, {"title": "B"}, headers=headers)
            assert (response.status, response.headers["ETag"]) == (412, unmodified.headers["ETag"])
    assert (await api.get(item)).json["title"] == "A"
    assert (await api.patch(item, {"title": "C"}, headers={"If-Match": unmodified.headers["ETag"]})).status == 200
    assert (await api.delete(item, headers={"If-Match": "*"})).status == 204


async def test_preconditions_work_for_naive_datetimes(api: Api) -> None:
    for headers, status in (
        ({"If-Modified-Since": "Sun, 15 Feb 2015 05:21:07 GMT"}, 304),
        ({"If-Modified-Since": "Sun, 15 Feb 2015 05:21:06 GMT"}, 200),
        ({"If-Unmodified-Since": "Sun, 15 Feb 2015 05:21:07 GMT"}, 200),
        ({"If-Unmodified-Since": "Sun, 15 Feb 2015 05:21:06 GMT"}, 412),
    ):
        assert (await api.get("/values/naive", headers=headers)).status == status


async def test_fields_selects_the_fields_of_the_response(api: Api) -> None:
    item = await create_book(api)
    assert list((await api.get(item + "?fields=title")).json) == ["id", "title"]
    for book in (await api.get("/books?fields=title")).json["items"]:
        assert list(book) == ["id", "title"]


@pytest.mark.parametrize("name", ["a b", "café", "50%", "a?b#c", "a&b=c;d", "é/x", "日本", "..", '"quoted"', "%2F"])
async def test_the_location_of_an_item_with_any_text_id_is_valid(api: Api, name: str) -> None:
    new = await api.post("/places", {"name": name})
    assert new.status == 201, new.body
    location = new.headers["Location"]
    assert re.fullmatch(r"/places/[A-Za-z0-9%._~!$&'()*+,;=:@-]+", location)
    if ".." not in name:
        assert (await api.get(location)).json == {"id": name, "name": name}


async def test_a_path_below_an_item_is_not_found(api: Api) -> None:
    assert (await api.get("/places/a/b")).status == 404


async def test_an_error_raised_by_a_plugin_is_the_response(api: Api) -> None:
    response = await api.post("/books", {"title": "locked"})
    assert (response.status, response.json) == (
        409,
        {"errors": [{"message": "The book is locked.", "code": 20001, "pointer": "/title"}]},
    )


async def test_an_action_can_raise_a_validation_error(api: Api) -> None:
    response = await api.post("/books", {"title": "refused"})
    assert (response.status, response.errors) == (422, [(11000, "/title")])


@pytest.mark.parametrize("name", ["nothing", "text", "refused", "gone", "unknown"])
async def test_an_invalid_return_value_is_a_500_without_details(api: Api, name: str) -> None:
    response = await api.get(f"/odd/{name}")
    assert (response.status, response.errors) == (500, [(15000, None)])
    assert response.json["errors"][0]["message"] == f"Internal error. Request ID: {response.headers['X-Request-Id']}."
    assert response.headers["Cache-Control"] == "no-store"
    assert (await api.get("/books")).status == 200


@pytest.mark.parametrize(("name", "value"), [("object", None), ("surrogate", None), ("nan", "NaN")])
async def test_a_value_that_json_cannot_represent_is_null(
    api: Api, name: str, value: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    response = await api.get(f"/odd/{name}")
    assert (response.status, response.json) == (200, {"id": name, "value": value})
    logged = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert logged == ([f"value of the item {name} of odd cannot be shown as declared"] if value is None else [])


async def test_a_timeout_in_a_plugin_has_its_own_error(api: Api) -> None:
    response = await api.get("/odd/slow")
    assert (response.status, response.errors) == (504, [(15005, None)])


async def test_a_resource_without_a_table_rejects_arrays(api: Api) -> None:
    response = await api.post("/books", [{"title": "Emma"}])
    assert (response.status, response.errors) == (400, [(10001, "")])


async def test_a_collection_without_list_cannot_be_read(api: Api) -> None:
    assert (await api.get("/places")).headers["Allow"] == "POST, OPTIONS"
    assert (await api.request("OPTIONS", "/places/x")).headers["Allow"] == "GET, OPTIONS"
    assert (await api.get("/odd")).status == 404
    assert (await api.request("OPTIONS", "/values")).headers["Allow"] == "GET, HEAD, OPTIONS"
    assert (await api.delete("/values/aware")).status == 405


async def test_an_idempotency_key_works_without_a_table(api: Api) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    first, second = [await api.post("/books", {"title": "Once"}, headers=headers) for _ in range(2)]
    assert first.body == second.body
    assert second.headers["Idempotency-Replayed"] == "true"
    crash = {"Idempotency-Key": uuid4().hex}
    assert (await api.post("/books", {"title": "crash"}, headers=crash)).status == 500
    assert (await api.post("/books", {"title": "Twice"}, headers=crash)).status == 201


async def test_invalid_pages_and_items_appear_only_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[tuple[str, str, Any]] = [("GET", f"/careless?limit={limit}", None) for limit in Careless.pages]
    asked += [("POST", "/careless", {"name": name}) for name in ("none", "text", "mapping")]
    for method, path, body in asked:
        caplog.clear()
        response = await api.request(method, path, body)
        assert (response.status, response.errors) == (500, [(15000, None)]), (method, path)
        assert [record.getMessage().rpartition(" ")[2] for record in caplog.records] == ["careless"], (method, path)
