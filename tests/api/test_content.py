"""Item content declared by a plugin, with and without a table: constant memory usage and size limits."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from pegboard import (
    Content,
    ContentResource,
    Context,
    Resource,
    Schema,
    Stored,
    TableResource,
    Upload,
    errors,
    fields,
    validate,
)
from pegboard.hosting.checks.declaration import problem
from tests.conftest import Api, Serve, basic, plugin

ALL = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"
SECRET = "a long password"
MIB = 1024 * 1024


class Picture(Schema):
    title = fields.String(required=True, validate=validate.Length(max=100))
    media_type = fields.String(dump_only=True)
    size = fields.Integer(dump_only=True)
    sha256 = fields.String(dump_only=True)


class Titled(Schema):
    title = fields.String(required=True, validate=validate.Length(max=100))


class Pictures(ContentResource):
    """Small pictures with an owner."""

    schema = Picture
    verbs = ALL
    owned = True
    needs_match = True
    content = Content(max_size=1000, types=("image/*", "application/pdf"))


class Films(ContentResource):
    """Large content."""

    schema = Picture
    verbs = ALL
    content = Content(max_size=64 * MIB)


class Report(Schema):
    lines = fields.Integer(required=True)


class Reports(Resource):
    """Reports generated while they are read."""

    schema = Report
    verbs = ("GET",)
    content = Content(verbs=("GET",), types=("text/csv",))
    closed: list[str] = []

    def parse_id(self, text: str) -> str | None:
        return text

    async def retrieve(self, context: Context, id: str) -> dict[str, Any]:
        return {"id": id, "lines": 3}

    async def read_content(self, context: Context, id: str) -> Stored | None:
        if id == "nothing":
            raise errors.NotFound
        if id == "empty" and id not in Kept.taken:
            return None

        async def read(start: int, stop: int) -> AsyncGenerator[bytes, None]:
            try:
                for number in range(start, min(stop, 3)):
                    if id == "broken" and number == 2:
                        raise OSError("it cannot be read on")
                    yield b"x"
            finally:
                self.closed.append(id)

        return Stored(4 if id == "short" else 3, "text/csv", b"\0" * 32, read)


class Kept(Reports):
    """Reports whose content can also be written."""

    content = Content()
    taken: dict[str, list[bytes]] = {}

    async def write_content(self, context: Context, id: str, upload: Upload) -> None:
        self.taken[id] = [part async for part in upload.read()]
        assert [part async for part in upload.read()] == self.taken[id]
        if id == "refused":
            raise errors.Conflict("Not this one.")


@pytest.fixture(scope="module")
async def api(serve: Serve) -> Api:
    resources: dict[str, type[Resource]] = {"pictures": Pictures, "films": Films, "reports": Reports, "kept": Kept}
    plugins = [plugin(name, resource) for name, resource in resources.items()]
    api = await serve(plugins, receive_timeout=0.5, max_body=2000)
    for name in ("ada", "bob"):
        await api.service.clients.add(name, SECRET, ["pictures:GET", "pictures:PUT", "pictures:POST"])
    return api


async def create_content_path(api: Api, name: str) -> str:
    response = await api.post(f"/{name}", {"title": "x"})
    assert response.status == 201, response.body
    return f"/{name}/{response.json['id']}/content"


PNG = {"Content-Type": "image/png"}


async def test_ownership_applies_to_content(api: Api) -> None:
    ada, bob = api.as_client("ada", SECRET), api.as_client("bob", SECRET)
    path = await create_content_path(ada, "pictures")
    assert (await ada.put(path, data=b"ada's", headers=PNG)).status == 201
    assert (await bob.get(path)).status == 404
    assert (await bob.put(path, data=b"bob's", headers=PNG | {"If-Match": "*"})).status == 404
    assert (await api.get(path)).body == b"ada's"


async def test_replacing_content_requires_if_match_if_declared(api: Api) -> None:
    path = await create_content_path(api, "pictures")
    tag = (await api.put(path, data=b"one", headers=PNG)).headers["ETag"]
    refused = await api.put(path, data=b"two", headers=PNG)
    assert (refused.status, refused.errors) == (428, [(13006, "If-Match")])
    assert (await api.put(path, data=b"two", headers=PNG | {"If-Match": tag})).status == 204


@pytest.mark.parametrize(
    ("media_type", "status"),
    [("image/png", 201), ("image/svg+xml", 201), ("Application/PDF", 201), ("text/html", 415), ("image/*", 415)],
)
async def test_only_declared_media_types_are_accepted(api: Api, media_type: str, status: int) -> None:
    path = await create_content_path(api, "pictures")
    response = await api.put(path, data=b"x", headers={"Content-Type": media_type})
    assert response.status == status
    if status == 415:
        assert response.headers["Accept"] == "image/*, application/pdf"


async def chunked(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_content_has_its_own_size_limit_with_and_without_content_length(api: Api) -> None:
    path = await create_content_path(api, "pictures")
    for data in (b"x" * 1001, chunked(b"x" * 1001)):
        response = await api.put(path, data=data, headers=PNG)
        assert (response.status, response.errors) == (413, [(10005, None)])
    assert (await api.put(path, data=chunked(b"x" * 1000), headers=PNG)).status == 201
    # The lower limit of other bodies does not apply.
    films = await create_content_path(api, "films")
    assert (await api.put(films, data=b"x" * 5000)).status == 201


async def test_a_body_that_never_arrives_is_408(api: Api) -> None:
    path = await create_content_path(api, "films")
    parts = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = (
        f"PUT {path} HTTP/1.1",
        "Host: x",
        "Content-Length: 99",
        "Authorization: " + basic("admin", "correct horse")["Authorization"],
    )
    writer.write("\r\n".join((*head, "", "half")).encode())
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_memory_usage_is_independent_of_content_size(api: Api) -> None:
    """The client runs in the same process, so it sends and reads in small chunks, too."""
    path = await create_content_path(api, "films")
    size, block = 24 * MIB, b"\x5a" * (64 * 1024)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(size // len(block)):
            yield block

    gc.collect()
    tracemalloc.start()
    try:
        assert (await api.put(path, data=body())).status == 201
        async with api.session.get(api.url + path, headers=api.headers) as response:
            received = 0
            async for part in response.content.iter_any():
                received += len(part)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert received == size
    assert peak < size / 3


async def test_any_resource_can_have_content(api: Api) -> None:
    response = await api.get("/reports/a/content")
    assert (response.status, response.body, response.headers["Content-Type"]) == (200, b"xxx", "text/csv")
    assert "Last-Modified" not in response.headers
    part = await api.get("/reports/a/content", headers={"Range": "bytes=-2"})
    assert (part.status, part.body, part.headers["Content-Range"]) == (206, b"xx", "bytes 1-2/3")
    for name, message in (("nothing", "Not found."), ("empty", "The item has no content yet.")):
        missing = await api.get(f"/reports/{name}/content")
        assert (missing.status, missing.json["errors"][0]["message"]) == (404, message)
    assert (await api.put("/reports/a/content", data=b"x")).headers["Allow"] == "GET, OPTIONS"
    assert (await api.get("/reports/a/contents")).status == 404
    assert (await api.get("/reports/a/content/x")).status == 404


@pytest.mark.parametrize("name", ["broken", "short"])
async def test_content_that_ends_early_is_an_incomplete_transfer(api: Api, name: str) -> None:
    Reports.closed.clear()
    with pytest.raises(Exception, match=r"(?i)reset|payload|disconnected"):
        await api.get(f"/reports/{name}/content")
    assert Reports.closed == [name]


async def test_uploaded_content_arrives_in_chunks(api: Api) -> None:
    data = b"y" * 3 * MIB
    assert (await api.put("/kept/a/content", data=chunked(data))).status == 204
    assert {len(part) for part in Kept.taken["a"]} == {256 * 1024}
    assert b"".join(Kept.taken["a"]) == data
    assert (await api.put("/kept/empty/content", data=b"")).status == 201
    assert (await api.put("/kept/refused/content", data=b"x")).status == 409
    assert (await api.put("/kept/nothing/content", data=b"x")).status == 404


async def test_an_existing_table_gets_columns_for_content(serve: Serve) -> None:
    class Before(TableResource):
        """Pictures without content."""

        schema = Titled
        verbs = ALL

    class After(ContentResource):
        """Pictures with content."""

        schema = Picture
        verbs = ALL

    item = (await (await serve([plugin("albums", Before)])).post("/albums", {"title": "old"})).json
    api = await serve([plugin("albums", After)])
    path = f"/albums/{item['id']}/content"
    assert (await api.put(path, data=b"new", headers=PNG)).status == 201
    assert (await api.get(path)).body == b"new"
    again = await serve([plugin("albums", After)])
    assert (await again.get(path)).body == b"new"
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await api.service.database.write.execute(
            "INSERT INTO albums.albums_content VALUES (gen_random_uuid(), 'x', 0, '')"
        )


def invalid_resource(**changes: Any) -> type[Resource]:
    return type("Unfit", (ContentResource,), {"schema": Picture, "verbs": ALL, "__doc__": "Unfit.", **changes})


class Unsized(Schema):
    title = fields.String()
    media_type = fields.String(dump_only=True)
    sha256 = fields.String(dump_only=True)


class Writable(Schema):
    media_type = fields.String()
    size = fields.Integer(dump_only=True)
    sha256 = fields.String(dump_only=True)


INVALID_DECLARATIONS: tuple[tuple[type[Resource], str], ...] = (
    (invalid_resource(schema=Unsized), "items with content need the field size = fields.Integer(dump_only=True): add it"),
    (invalid_resource(schema=Writable), "items with content need the field media_type = fields.String(dump_only=True): add it"),
    (invalid_resource(content=Content(verbs=("GET", "DELETE"))), "content has the verb 'DELETE'; use only GET, HEAD, PUT"),
    (invalid_resource(content=Content(name="nmae")), "content takes its name from the field nmae, which does not exist: add it"),
    (type("Bare", (Resource,), {**vars(Reports), "read_content": None}), "content is declared, but there is no action read_content: write it"),
    (type("Vague", (Reports,), {"content": Content(max_size="most", verbs=("GET",))}), "content takes its max_size from the setting most: add most = fields.Integer(...) to settings_schema"),
    (type("Mute", (Reports,), {"content": Content()}), "content is declared, but there is no action write_content: write it"),
)  # fmt: skip


@pytest.mark.parametrize(("resource", "message"), INVALID_DECLARATIONS)
def test_an_invalid_declaration_is_reported_with_its_fix(resource: type[Resource], message: str) -> None:
    assert problem(resource) == message
