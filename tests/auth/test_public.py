"""Methods that need no credentials: exactly the declared ones are public."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest

from pegboard import Context, Schema, TableResource, operation
from pegboard.hosting.checks.declaration import problem
from pegboard.schema import fields
from tests.conftest import Api, Serve, plugin

ALL = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"


class Author(Schema):
    name = fields.String(required=True)


class Post(Schema):
    title = fields.String(required=True)
    author = fields.Reference("authors", allow_none=True)
    editor = fields.Reference("editors", allow_none=True)


class Authors(TableResource):
    """Authors."""

    schema = Author
    verbs = "GET", "POST"
    public = ("GET",)


class Editors(TableResource):
    """Editors."""

    schema = Author
    verbs = "GET", "POST"


class Posts(TableResource):
    """Publicly readable posts."""

    schema = Post
    verbs = ALL
    public = ("GET",)
    me = ("GET",)

    @operation
    async def pin(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        """Pin a post."""
        return await self.retrieve(context, id)


class Word(Schema):
    text = fields.String(required=True)
    by = fields.String(dump_only=True, allow_none=True)


class Words(TableResource):
    """Publicly writable words."""

    schema = Word
    verbs = "GET", "POST"
    public = ("POST",)

    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        return await super().create(context, {**data, "by": context.client.username or "nobody"})


@pytest.fixture(scope="module")
async def api(serve: Serve) -> Api:
    resources = {"authors": Authors, "editors": Editors, "posts": Posts, "words": Words}
    return await serve([plugin(name, resource) for name, resource in resources.items()])


@pytest.fixture
def anonymous(api: Api) -> Api:
    return api.as_client("", "")


async def create(api: Api, path: str, **values: Any) -> Any:
    response = await api.post(path, values)
    assert response.status == 201, response.body
    return response.json


async def test_public_methods_need_no_credentials(api: Api, anonymous: Api) -> None:
    post = await create(api, "/posts", title="one")
    path = f"/posts/{post['id']}"
    assert (await anonymous.get(path)).json == post
    assert (await anonymous.head(path)).headers["ETag"] == (await api.head(path)).headers["ETag"]
    assert post in (await anonymous.get("/posts?title=one")).json["items"]
    assert b"one" in (await anonymous.get("/posts", headers={"Accept": "text/csv"})).body
    assert (await anonymous.get(f"/posts/{uuid4()}")).status == 404
    assert (await anonymous.get("/posts/no-id")).status == 404
    assert (await anonymous.get("/posts?x=1")).status == 400
    assert (await anonymous.get("/posts/")).status == 308


async def test_all_other_methods_require_credentials(api: Api, anonymous: Api) -> None:
    path = f"/posts/{(await create(api, '/posts', title='one'))['id']}"
    for verb in ("PUT", "PATCH", "DELETE"):
        assert (await anonymous.request(verb, path, {})).status == 401, verb
    for verb, target in (
        ("POST", "/posts"),
        ("POST", f"{path}/pin"),
        ("GET", f"{path}/pin"),
        ("GET", "/posts/me"),
        ("GET", "/words"),
        ("GET", "/editors"),
        ("GET", "/posts%2F"),
        ("GET", "/nothing"),
        ("GET", "/"),
        ("GET", "/plugins"),
        ("OPTIONS", path),
    ):
        response = await anonymous.request(verb, target)
        assert (response.status, response.errors[0][0]) == (401, 12000), (verb, target)
        assert response.headers["WWW-Authenticate"].startswith("Basic ")


async def test_credentials_are_checked_if_sent(api: Api, anonymous: Api) -> None:
    assert (await api.as_client("admin", "wrong password").get("/posts")).status == 401
    malformed = await anonymous.get("/posts", headers={"Authorization": "Basic ?"})
    assert (malformed.status, malformed.errors) == (401, [(12000, "Authorization")])
    assert (await anonymous.get("/posts", headers={"Authorization": ""})).status == 401
    await api.service.clients.add("poor", "a password", [])
    assert (await api.as_client("poor", "a password").get("/posts")).status == 200
    assert (await api.as_client("poor", "a password").post("/posts", {"title": "x"})).status == 403


async def test_expand_without_credentials_requires_a_public_target(api: Api, anonymous: Api) -> None:
    author = await create(api, "/authors", name="Ada")
    editor = await create(api, "/editors", name="Eve")
    post = await create(api, "/posts", title="one", author=author["id"], editor=editor["id"])
    assert (await anonymous.get(f"/posts/{post['id']}?expand=author")).json["author"] == author
    assert (await anonymous.get(f"/posts/{post['id']}?expand=editor")).errors == [(12002, "expand")]


async def test_an_item_created_without_credentials_has_no_client(api: Api, anonymous: Api) -> None:
    assert (await create(anonymous, "/words", text="hello"))["by"] == "nobody"
    assert (await create(api, "/words", text="hello"))["by"] == "admin"
    kept = await anonymous.post("/words", {"text": "again"}, headers={"Idempotency-Key": "k"})
    assert (kept.status, kept.errors) == (400, [(10015, "Idempotency-Key")])


async def test_the_openapi_document_marks_public_methods(api: Api) -> None:
    paths = (await api.get("/openapi.json")).json["paths"]
    for path, verb, is_public in (
        ("/posts", "get", True),
        ("/posts", "head", True),
        ("/posts", "post", False),
        ("/posts/{id}", "get", True),
        ("/posts/{id}", "delete", False),
        ("/posts/me", "get", False),
        ("/words", "post", True),
        ("/words", "get", False),
    ):
        security = paths[path][verb].get("security")
        assert security == ([{}, {"basic": []}] if is_public else None), (path, verb)


async def test_a_failed_public_plugin_is_503_without_credentials(serve: Serve) -> None:
    broken = plugin("posts", Posts)
    broken.fail("it is of no use")
    anonymous = (await serve([broken])).as_client("", "")
    assert (await anonymous.get("/posts")).status == 503
    assert (await anonymous.post("/posts")).status == 401


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"public": ("DELETE",)}, "public contains 'DELETE'; use only those of GET, HEAD, POST"),
        ({"public": ("GET",), "verbs": ("POST",)}, "public contains 'GET'"),
        ({"public": "GET"}, "public is a string, not a tuple"),
        ({"public": ("GET",), "owned": True}, "public and owned are both set"),
    ],
)
def test_invalid_public_declarations_are_rejected_at_startup(changes: Mapping[str, Any], message: str) -> None:
    wrong = type("Wrong", (Editors,), dict(changes))
    assert message in (problem(wrong) or "")
