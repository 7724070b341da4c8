"""The contacts resource, as seen by a client of the API."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tests.conftest import Api, Response

ADA = {"name": "Ada", "email": "ada@example.org"}


def stable_headers(response: Response) -> dict[str, str]:
    """Return the headers that do not vary between responses."""
    return {name: value for name, value in response.headers.items() if name.lower() not in ("date", "x-request-id")}


async def create(api: Api, **fields: Any) -> Any:
    response = await api.post("/contacts", {**ADA, **fields})
    assert response.status == 201, response.body
    return response.json


async def test_a_new_contact_has_every_field_and_a_location(api: Api) -> None:
    response = await api.post(
        "/contacts", {**ADA, "birthday": "1815-12-10", "last_contacted_at": "2015-02-15T06:21:07.9+01:00"}
    )
    item = response.json
    assert response.status == 201
    assert response.headers["Location"] == f"/contacts/{item['id']}"
    assert re.fullmatch(r'"[0-9a-f]+"', response.headers["ETag"])
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", item["id"])
    assert list(item) == [
        "id",
        "name",
        "email",
        "phone",
        "company",
        "notes",
        "birthday",
        "tags",
        "last_contacted_at",
        "created_at",
        "updated_at",
    ]
    assert item["last_contacted_at"] == "2015-02-15T05:21:07Z"
    assert (item["birthday"], item["tags"], item["phone"]) == ("1815-12-10", [], None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", item["created_at"])
    assert (await api.get(response.headers["Location"])).json == item


async def test_put_resets_absent_fields_to_their_defaults(api: Api) -> None:
    item = await create(api, phone="1", tags=["x"])
    response = await api.put(f"/contacts/{item['id']}", {"name": "B", "email": "b@example.org"})
    assert response.status == 200
    assert (response.json["phone"], response.json["tags"], response.json["name"]) == (None, [], "B")
    assert response.json["created_at"] == item["created_at"]


async def test_patch_changes_only_its_fields(api: Api) -> None:
    item = await create(api, phone="1", tags=["x"])
    response = await api.patch(f"/contacts/{item['id']}", {"phone": None})
    assert response.json == {**item, "phone": None, "updated_at": response.json["updated_at"]}


async def test_null_resets_a_non_nullable_field_to_its_default(api: Api) -> None:
    item = await create(api, tags=["x"])
    assert (await api.patch(f"/contacts/{item['id']}", {"tags": None})).json["tags"] == []
    refused = await api.patch(f"/contacts/{item['id']}", {"name": None})
    assert (refused.status, refused.errors) == (422, [(11003, "/name")])


async def test_a_patch_without_changes_keeps_the_etag(api: Api) -> None:
    item = await create(api, tags=["x"])
    before = await api.get(f"/contacts/{item['id']}")
    response = await api.patch(f"/contacts/{item['id']}", {"name": "Ada", "tags": ["x"]})
    assert response.headers["ETag"] == before.headers["ETag"]
    assert response.json == item


async def test_an_item_that_was_read_can_be_sent_back(api: Api) -> None:
    item = await create(api)
    for method in ("PUT", "PATCH"):
        response = await api.request(method, f"/contacts/{item['id'].upper()}", item)
        assert (response.status, response.json) == (200, item)


async def test_delete_is_204_and_then_404(api: Api) -> None:
    item = await create(api)
    assert (await api.delete(f"/contacts/{item['id']}")).status == 204
    assert (await api.delete(f"/contacts/{item['id']}")).status == 404
    assert (await api.get(f"/contacts/{item['id']}")).status == 404


async def test_head_has_the_headers_of_get(api: Api) -> None:
    item = await create(api)
    for path in ("/contacts", f"/contacts/{item['id']}"):
        get, head = await api.get(path), await api.head(path)
        assert stable_headers(head) == stable_headers(get)
        assert head.body == b""


@pytest.mark.parametrize(("path", "allow"), [("/contacts", "GET, HEAD, POST, OPTIONS"), ("/contacts/x", None)])
async def test_options_lists_allowed_methods(api: Api, path: str, allow: str | None) -> None:
    response = await api.request("OPTIONS", path)
    assert (response.status, response.headers.get("Allow")) == ((204, allow) if allow else (404, None))


async def test_options_of_an_item_lists_patch_formats(api: Api) -> None:
    item = await create(api)
    response = await api.request("OPTIONS", f"/contacts/{item['id']}")
    assert response.headers["Allow"] == "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"
    assert (
        response.headers["Accept-Patch"]
        == "application/json, application/merge-patch+json, application/json-patch+json"
    )


async def test_emails_are_unique_regardless_of_case(api: Api) -> None:
    await create(api)
    response = await api.post("/contacts", {"name": "B", "email": "ADA@example.org"})
    assert (response.status, response.errors) == (409, [(13002, "/email")])
    assert "ada@" not in response.body.decode().lower()


async def test_an_array_is_created_atomically(api: Api) -> None:
    people = [{"name": str(n), "email": f"p{n}@example.org"} for n in range(1000)]
    response = await api.post("/contacts", people)
    assert response.status == 201
    assert [item["name"] for item in response.json["items"]] == [str(n) for n in range(1000)]
    clash = await api.post(
        "/contacts", [{"name": "new", "email": "new@example.org"}, {"name": "x", "email": "P5@example.org"}]
    )
    assert (clash.status, clash.errors) == (409, [(13002, "/1/email")])
    assert (await api.get("/contacts?email=new@example.org")).json["items"] == []


async def test_every_error_of_an_array_is_reported(api: Api) -> None:
    response = await api.post("/contacts", [ADA, {"name": ""}, 5, {**ADA, "id": "x"}])
    assert response.status == 422
    assert set(response.errors) == {(11005, "/1/name"), (11001, "/1/email"), (11004, "/2"), (11000, "/3/id")}
    assert (await api.post("/contacts", [])).errors == [(11005, "")]
    assert (await api.post("/contacts", [ADA] * 1001)).status == 413


async def test_pages_are_linked_in_both_directions(api: Api) -> None:
    await api.post("/contacts", [{"name": str(n), "email": f"p{n}@example.org"} for n in range(25)])
    path, seen = "/contacts?limit=10", []
    while path:
        page = (await api.get(path)).json
        seen += [item["name"] for item in page["items"]]
        last, path = page, page["next"]
    assert seen == [str(n) for n in range(25)]
    back = (await api.get(last["prev"])).json
    assert [item["name"] for item in back["items"]] == [str(n) for n in range(10, 20)]
    assert (await api.get(back["prev"])).json["prev"] is None


async def test_exactly_one_of_many_concurrent_writes_with_one_etag_succeeds(api: Api) -> None:
    item = await create(api)
    tag = (await api.get(f"/contacts/{item['id']}")).headers["ETag"]
    responses = await asyncio.gather(
        *(api.patch(f"/contacts/{item['id']}", {"name": str(n)}, headers={"If-Match": tag}) for n in range(40))
    )
    assert sorted(response.status for response in responses) == [200] + [412] * 39
    current = (await api.get(f"/contacts/{item['id']}")).headers["ETag"]
    assert {response.headers["ETag"] for response in responses} == {current}
