"""Items owned by the client that created them: for other clients they do not exist."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

from pegboard import Schema, TableResource, Unique, validate
from pegboard.schema import fields
from tests.conftest import Api, Response, Serve, new_database, plugin

SECRET = "a password"
ALL = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
NOT_FOUND, CONFLICT, INVALID = 13000, 13002, 11000


class Note(Schema):
    text = fields.String(required=True, validate=validate.Length(max=200))
    slug = fields.String(allow_none=True)
    label = fields.String(allow_none=True)
    parent = fields.Reference("notes", allow_none=True)


class Notes(TableResource):
    """Private notes."""

    schema = Note
    verbs = ALL
    owned = True
    creates_by_put = True
    unique = (Unique("slug"), Unique("_owner", "label"))
    indexes = ("text", "-created_at,text")
    search_fields = ("text",)


class Strict(TableResource):
    """Notes whose writes require If-Match."""

    schema = Note
    verbs = ALL
    owned = True
    needs_match = True


class Comment(Schema):
    note = fields.Reference("notes", required=True)
    reply = fields.Reference("comments", allow_none=True)


class Comments(TableResource):
    """Public comments on private notes."""

    schema = Comment
    verbs = ALL


RESOURCES: dict[str, type[TableResource]] = {"notes": Notes, "strict": Strict, "comments": Comments}
OWN_GRANTS = ["notes:GET", "notes:POST", "notes:PUT", "notes:PATCH", "notes:DELETE"]
OTHERS = ["*:GET", "*:POST", "*:PUT", "*:PATCH", "*:DELETE"]
CLIENTS = {
    "ada": [*OWN_GRANTS, *OTHERS],
    "bob": [*OWN_GRANTS, *OTHERS],
    "any": [*OWN_GRANTS, "notes:any"],
    "star": ["notes:*"],
    "deaf": ["notes:any"],
}


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    running = await serve([plugin(name, resource) for name, resource in RESOURCES.items()])
    for name, grants in CLIENTS.items():
        await running.service.clients.add(name, SECRET, grants)
    return running


@pytest.fixture
async def api(running: Api) -> Api:
    """Return an empty service, authenticated as the administrator."""
    await running.service.database.write.execute("TRUNCATE notes.notes, strict.strict, comments.comments")
    return running


@pytest.fixture
def ada(api: Api) -> Api:
    return api.as_client("ada", SECRET)


@pytest.fixture
def bob(api: Api) -> Api:
    return api.as_client("bob", SECRET)


async def create(api: Api, path: str = "/notes", **values: Any) -> Any:
    response = await api.post(path, {"text": "hers", **values} if path != "/comments" else values)
    assert response.status == 201, response.body
    return response.json


async def texts(api: Api, query: str = "") -> list[str]:
    return [item["text"] for item in (await api.get(f"/notes?{query}")).json["items"]]


def comparable(response: Response) -> tuple[Any, ...]:
    """Return all of a response that could reveal whether an item exists."""
    varying = ("date", "x-request-id")
    return response.status, response.body, [(k, v) for k, v in response.headers.items() if k.lower() not in varying]


async def test_an_item_does_not_expose_its_owner(ada: Api) -> None:
    item = await create(ada)
    assert list(item) == ["id", "text", "slug", "label", "parent", "created_at", "updated_at"]
    for query in ("_owner=x", "sort=_owner", "fields=_owner", "_owner__isnull=true"):
        assert (await ada.get(f"/notes?{query}")).status == 400
    assert (await ada.post("/notes", {"text": "x", "_owner": str(uuid4())})).status == 422
    assert (await ada.patch(f"/notes/{item['id']}", {"_owner": str(uuid4())})).status == 422


async def test_only_the_owner_and_clients_with_the_any_grant_see_an_item(api: Api, ada: Api) -> None:
    path = f"/notes/{(await create(ada))['id']}"
    for name in ("any", "star"):
        other = api.as_client(name, SECRET)
        assert (await other.get(path)).status == 200
        assert (await other.patch(path, {"text": name})).status == 200
        assert await texts(other) == [name]
    assert (await api.get(path)).status == 200
    assert (await ada.get(path)).json["text"] == "star"
    assert (await api.as_client("bob", SECRET).get(path)).status == 404
    assert (await api.as_client("deaf", SECRET).get(path)).status == 403
    # A change by another client does not change the owner; new items belong to their creator.
    theirs = await create(api.as_client("any", SECRET), text="theirs")
    assert (await ada.get(f"/notes/{theirs['id']}")).status == 404
    assert (await api.as_client("star", SECRET).delete(f"/notes/{theirs['id']}")).status == 204


Attempt = Callable[[Api, str], Awaitable[Response]]
ITEM = {"text": "his"}
ATTEMPTS: dict[str, Attempt] = {
    "get": lambda api, path: api.get(path),
    "get expanded": lambda api, path: api.get(f"{path}?expand=parent"),
    "get if none match": lambda api, path: api.get(path, headers={"If-None-Match": "*"}),
    "get if match": lambda api, path: api.get(path, headers={"If-Match": '"0"'}),
    "head": lambda api, path: api.head(path),
    "put if match": lambda api, path: api.put(path, ITEM, headers={"If-Match": '"0"'}),
    "put if any": lambda api, path: api.put(path, ITEM, headers={"If-Match": "*"}),
    "put unmodified": lambda api, path: api.put(path, ITEM, headers={"If-Match": "*", "If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}),
    "put what is wrong": lambda api, path: api.put(path, {"text": 7}, headers={"If-Match": "*"}),
    "patch": lambda api, path: api.patch(path, ITEM),
    "patch nothing": lambda api, path: api.patch(path, {}),
    "patch what is wrong": lambda api, path: api.patch(path, {"text": 7}),
    "patch if match": lambda api, path: api.patch(path, ITEM, headers={"If-Match": '"0"'}),
    "patch if none": lambda api, path: api.patch(path, ITEM, headers={"If-None-Match": "*"}),
    "patch unmodified": lambda api, path: api.patch(path, ITEM, headers={"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}),
    "json patch": lambda api, path: api.patch(path, [{"op": "test", "path": "/text", "value": "hers"}], headers=JSON_PATCH),
    "delete": lambda api, path: api.delete(path),
    "delete if match": lambda api, path: api.delete(path, headers={"If-Match": '"0"'}),
    "delete if any": lambda api, path: api.delete(path, headers={"If-Match": "*"}),
}  # fmt: skip


@pytest.mark.parametrize("path", ["/notes", "/strict"])
@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
async def test_an_item_of_another_owner_responds_like_a_missing_item(
    ada: Api, bob: Api, attempt: Attempt, path: str
) -> None:
    item = await create(ada, path)
    hidden, missing = await attempt(bob, f"{path}/{item['id']}"), await attempt(bob, f"{path}/{uuid4()}")
    assert hidden.status == 404
    assert comparable(hidden) == comparable(missing)
    assert (await ada.get(f"{path}/{item['id']}")).json == item


async def test_put_cannot_use_the_id_of_an_item_of_another_owner(ada: Api, bob: Api) -> None:
    item = await create(ada)
    for headers in ({}, {"If-None-Match": "*"}, {"If-Match": "*"}):
        response = await bob.put(f"/notes/{item['id']}", ITEM, headers=headers)
        assert (response.status, response.errors) == (404, [(NOT_FOUND, None)])
    assert (await ada.get(f"/notes/{item['id']}")).json == item
    path = f"/notes/{uuid4()}"
    assert (await bob.put(path, ITEM)).status == 201
    assert (await bob.put(path, {"text": "again"})).status == 200
    assert (await bob.put(path, ITEM, headers={"If-None-Match": "*"})).status == 412
    assert (await ada.put(path, ITEM)).status == 404


async def test_one_of_several_concurrent_puts_gets_the_id(ada: Api, bob: Api) -> None:
    for _ in range(5):
        path = f"/notes/{uuid4()}"
        responses = await asyncio.gather(*(who.put(path, {"text": str(n)}) for n, who in enumerate([ada, bob] * 4)))
        statuses = [[response.status for response in responses[start::2]] for start in (0, 1)]
        assert sorted(map(set, statuses), key=len) == [{404}, {200, 201}]


async def test_lists_counts_searches_and_exports_contain_only_own_items(api: Api, ada: Api, bob: Api) -> None:
    for number in range(5):
        await create(ada, text=f"word {number}")
    await create(bob, text="word 9")
    own, everyones = [f"word {number}" for number in range(5)], [*(f"word {number}" for number in range(5)), "word 9"]
    for client, expected in (
        (ada, own),
        (bob, ["word 9"]),
        (api, everyones),
        (api.as_client("any", SECRET), everyones),
    ):
        for query in ("", "sort=text", "q=word&sort=text", "text__prefix=word&sort=text", "text__contains=or"):
            assert await texts(client, query) == expected
        assert sorted(await texts(client, "q=word")) == expected
        for count in ("exact", "estimated"):
            response = await client.get(f"/notes?count={count}&limit=1")
            assert (response.json["total"], response.headers["X-Total-Count"]) == (len(expected), str(len(expected)))
            assert (await client.head(f"/notes?count={count}")).headers["X-Total-Count"] == str(len(expected))
        lines = await client.get("/notes?sort=text&count=exact", headers={"Accept": "application/x-ndjson"})
        assert lines.body.count(b"\n") == len(expected)
        assert lines.headers["X-Total-Count"] == str(len(expected))
        table = await client.get("/notes?fields=text&sort=text", headers={"Accept": "text/csv"})
        assert [line.partition(",")[2] for line in table.body.decode().splitlines()] == ["text", *expected]


async def test_own_items_can_be_paged_in_both_directions(ada: Api, bob: Api) -> None:
    for number in range(6):
        await create(ada, text=f"a{number}")
        await create(bob, text=f"b{number}")
    found, url = [], "/notes?limit=2&sort=-text"
    pages = []
    while url:
        page = (await ada.get(url)).json
        found += [item["text"] for item in page["items"]]
        pages.append(url)
        url = page["next"]
    assert found == [f"a{number}" for number in reversed(range(6))]
    assert len(pages) == 3
    back = (await ada.get((await ada.get(pages[-1])).json["prev"])).json
    assert [item["text"] for item in back["items"]] == ["a3", "a2"]
    # The cursor of another client is a position; the page after it contains own items only.
    assert [item["text"] for item in (await bob.get(pages[1])).json["items"]] == []


async def test_an_estimated_count_excludes_items_of_other_owners(api: Api, bob: Api) -> None:
    await api.service.database.write.execute(
        "INSERT INTO notes.notes (id, text, _owner, _version) SELECT gen_random_uuid(), 'x', gen_random_uuid(), 1 "
        "FROM generate_series(1, 20000)"
    )
    await api.service.database.write.execute("ANALYZE notes.notes")
    assert (await api.get("/notes?count=estimated")).json["total"] > 10_000
    assert (await bob.get("/notes?count=estimated")).json["total"] == 0


async def test_queries_for_own_items_use_an_index(api: Api) -> None:
    rows = await api.service.database.write.fetch("SELECT indexdef FROM pg_indexes WHERE schemaname = 'notes'")
    definitions = [row["indexdef"].partition("USING ")[2] for row in rows]
    assert {"btree (_owner, id)", "btree (_owner, text, id)", "btree (_owner, created_at DESC, text, id)"} <= {
        *definitions
    }


async def test_unique_values_are_unique_across_owners_and_conflicts_reveal_nothing_else(ada: Api, bob: Api) -> None:
    await create(ada, slug="taken", label="mine")
    response = await bob.post("/notes", {"text": "his", "slug": "taken"})
    assert (response.status, response.errors) == (409, [(CONFLICT, "/slug")])
    assert b"taken" not in response.body
    # Unless uniqueness is declared per owner.
    assert (await bob.post("/notes", {"text": "his", "label": "mine"})).status == 201
    assert (await bob.post("/notes", {"text": "his", "label": "mine"})).errors == [(CONFLICT, "/label")]


async def test_a_reference_to_an_item_of_another_owner_is_rejected(api: Api, ada: Api, bob: Api) -> None:
    hers, his = await create(ada), await create(bob)
    for reference in (hers["id"], str(uuid4())):
        for response in (
            await bob.post("/comments", {"note": reference}),
            await bob.post("/comments", {"note": reference}, headers={"Idempotency-Key": str(uuid4())}),
        ):
            assert (response.status, response.errors) == (422, [(INVALID, "/note")])
        response = await bob.post("/comments", [{"note": his["id"]}, {"note": reference}])
        assert (response.status, response.errors) == (422, [(INVALID, "/1/note")])
        response = await bob.post("/comments", [{"note": reference}])
        assert (response.status, response.errors) == (422, [(INVALID, "/0/note")])
        comment = await create(bob, "/comments", note=his["id"])
        for response in (
            await bob.patch(f"/comments/{comment['id']}", {"note": reference}),
            await bob.put(f"/comments/{comment['id']}", {"note": reference}),
            await bob.patch(f"/notes/{his['id']}", {"parent": reference}),
        ):
            assert (response.status, response.errors[0][0]) == (422, INVALID)
    assert (await create(api, "/comments", note=hers["id"]))["note"] == hers["id"]
    assert (await create(bob, parent=his["id"]))["parent"] == his["id"]


async def test_references_to_hidden_and_missing_items_are_reported_together(ada: Api, bob: Api) -> None:
    hers, his = await create(ada), await create(bob)
    for reply in (str(uuid4()), hers["id"]):
        comment = {"note": hers["id"], "reply": reply}
        assert (await bob.post("/comments", comment)).errors == [(INVALID, "/note"), (INVALID, "/reply")]
        array = [{"note": his["id"], "reply": reply}, {"note": hers["id"]}]
        assert (await bob.post("/comments", array)).errors == [(INVALID, "/0/reply"), (INVALID, "/1/note")]


async def test_an_item_of_another_owner_is_expanded_to_null(api: Api, ada: Api, bob: Api) -> None:
    hers = await create(ada)
    comment = await create(ada, "/comments", note=hers["id"])
    path = f"/comments/{comment['id']}?expand=note"
    assert (await ada.get(path)).json["note"] == hers
    assert (await api.get(path)).json["note"] == hers
    assert (await bob.get(path)).json["note"] is None
    assert [item["note"] for item in (await bob.get("/comments?expand=note")).json["items"]] == [None]
    lines = await bob.get("/comments?expand=note", headers={"Accept": "application/x-ndjson"})
    assert b'"note":null' in lines.body
    assert (await bob.patch(f"/comments/{comment['id']}?expand=note", {})).json["note"] is None


async def test_idempotency_keys_are_separate_for_each_client(ada: Api, bob: Api) -> None:
    headers = {"Idempotency-Key": "the same"}
    hers, his = (
        await ada.post("/notes", {"text": "x"}, headers=headers),
        await bob.post("/notes", {"text": "x"}, headers=headers),
    )
    assert (hers.status, his.status) == (201, 201)
    assert hers.json["id"] != his.json["id"]
    again = await bob.post("/notes", {"text": "x"}, headers=headers)
    assert (again.headers["Idempotency-Replayed"], again.body) == ("true", his.body)
    assert (await ada.get(f"/notes/{his.json['id']}")).status == 404


async def test_items_created_in_bulk_belong_to_the_client(ada: Api, bob: Api) -> None:
    items = (await ada.post("/notes", [{"text": "a"}, {"text": "b"}])).json["items"]
    assert [(await bob.get(f"/notes/{item['id']}")).status for item in items] == [404, 404]
    assert await texts(ada) == ["a", "b"]


async def test_a_changed_any_grant_applies_immediately(api: Api, ada: Api) -> None:
    await create(ada)
    await api.service.clients.add("late", SECRET, ["notes:GET"])
    late = api.as_client("late", SECRET)
    assert await texts(late) == []
    await api.service.clients.set_grants("late", ["notes:GET", "notes:any"])
    async with asyncio.timeout(1):
        while True:
            if await texts(late) == ["hers"]:
                return
            await asyncio.sleep(0.01)


# Existing tables.


class Text(Schema):
    text = fields.String(required=True)


class Plain(TableResource):
    """Texts without an owner."""

    schema = Text
    verbs = ALL


class Owned(Plain):
    """Texts with an owner."""

    owned = True


async def test_adding_an_owner_to_a_table_with_rows_requires_a_manual_migration(postgres: str, serve: Serve) -> None:
    url = await new_database(postgres)
    before = await serve([plugin("texts", Plain)], database_url=url)
    await create(before, "/texts", text="whose?")
    after = await serve([plugin("texts", Owned)], database_url=url)
    assert (await after.get("/texts")).status == 503
    [row] = (await after.get("/plugins")).json["items"]
    assert "the column _owner is new" in row["fault"]
    assert 'ADD COLUMN "_owner" uuid' in row["fault"]


async def test_adding_an_owner_to_an_empty_table_recreates_it(postgres: str, serve: Serve) -> None:
    url = await new_database(postgres)
    await serve([plugin("texts", Plain)], database_url=url)
    after = await serve([plugin("texts", Owned)], database_url=url)
    assert (await after.post("/texts", {"text": "mine"})).status == 201
