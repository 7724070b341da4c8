"""Files and their content, as seen by a client of the API."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import AsyncIterator
from hashlib import sha256
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from yarl import URL

from pegboard.hosting import discovery
from pegboard.hosting.discovery import Plugin, State
from pegboard.http import digests
from tests.conftest import ADMIN, PASSWORD, Api, Response, Serve, basic

HELLO = b"Hello, files!"
BLOCK = 256 * 1024
LARGE = bytes(range(256)) * (3 * 1024) + b"end"
PNG = {"Content-Type": "image/png"}
SECRET = "a long password"


@pytest.fixture
async def api(running: Api) -> Api:
    """Return the running service with all files and contacts deleted."""
    await running.service.database.write.execute("TRUNCATE files.files CASCADE; TRUNCATE contacts.contacts")
    return running


async def create(api: Api, **fields: Any) -> Any:
    response = await api.post("/files", {"name": "hello.png", **fields})
    assert response.status == 201, response.body
    return response.json


async def put(api: Api, path: str, data: bytes = HELLO, **headers: str) -> Response:
    return await api.put(path, data=BytesIO(data), headers=PNG | {n.replace("_", "-"): v for n, v in headers.items()})


async def create_content(api: Api, data: bytes = HELLO, **fields: Any) -> str:
    """Create a file with content and return the path of the content."""
    path = f"/files/{(await create(api, **fields))['id']}/content"
    assert (await put(api, path, data)).status == 201
    return path


async def chunks(api: Api) -> int:
    return int(await api.service.database.write.fetchval("SELECT count(*) FROM files.files_content"))


async def test_a_file_is_created_uploaded_and_downloaded(api: Api) -> None:
    item = await create(api)
    path = f"/files/{item['id']}/content"
    assert (item["media_type"], item["size"], item["sha256"]) == (None, None, None)
    missing = await api.get(path)
    assert (missing.status, missing.errors) == (404, [(13000, None)])

    new = await put(api, path)
    assert (new.status, new.body, new.headers["Location"]) == (201, b"", path)
    item = (await api.get(f"/files/{item['id']}")).json
    assert (item["media_type"], item["size"], item["sha256"]) == ("image/png", 13, sha256(HELLO).hexdigest())

    response = await api.get(path)
    assert (response.status, response.body) == (200, HELLO)
    headers = {name.lower(): value for name, value in response.headers.items()}
    for varying in ("date", "etag", "last-modified", "x-request-id"):
        del headers[varying]
    assert headers == {
        "server": "Pegboard",
        "content-type": "image/png",
        "content-length": "13",
        "content-disposition": 'inline; filename="hello.png"',
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        "x-content-type-options": "nosniff",
        "cache-control": "private, no-cache",
        "vary": "Accept",
        "accept-ranges": "bytes",
        "repr-digest": digests.format_digest(sha256(HELLO).digest()),
    }
    assert response.headers["ETag"] == new.headers["ETag"]
    head = await api.head(path)
    assert (head.status, head.body) == (200, b"")
    assert {name: head.headers[name] for name in headers} == headers


async def test_large_content_is_stored_in_chunks_and_returned_completely(api: Api) -> None:
    path = await create_content(api, LARGE)
    assert await chunks(api) == 4
    assert (await api.get(path)).body == LARGE


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (0, BLOCK), (BLOCK - 1, BLOCK + 1), (BLOCK, 2 * BLOCK), (5, 3 * BLOCK + 3)]
)
async def test_a_range_may_be_anywhere(api: Api, start: int, stop: int) -> None:
    path = await create_content(api, LARGE)
    response = await api.get(path, headers={"Range": f"bytes={start}-{stop - 1}"})
    assert (response.status, response.body) == (206, LARGE[start:stop])
    assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(LARGE)}"
    assert response.headers["Content-Length"] == str(stop - start)


async def test_ranges_are_206_200_or_416(api: Api) -> None:
    path = await create_content(api)
    tag = (await api.get(path)).headers["ETag"]
    for headers, status, body in (
        ({"Range": "bytes=7-"}, 206, b"files!"),
        ({"Range": "bytes=-6"}, 206, b"files!"),
        ({"Range": "bytes=7-", "If-Range": tag}, 206, b"files!"),
        ({"Range": "bytes=7-", "If-Range": '"other"'}, 200, HELLO),
        ({"Range": "bytes=99-", "If-Range": '"other"'}, 200, HELLO),
        ({"Range": "bytes=0-1,3-4"}, 200, HELLO),
        ({"Range": "bytes=7-", "If-None-Match": tag}, 304, b""),
    ):
        response = await api.get(path, headers=headers)
        assert (response.status, response.body) == (status, body), headers
    assert (await api.head(path, headers={"Range": "bytes=7-"})).status == 200
    refused = await api.get(path, headers={"Range": "bytes=13-"})
    assert (refused.status, refused.errors) == (416, [(10017, "Range")])
    assert refused.headers["Content-Range"] == "bytes */13"


async def test_content_may_be_empty(api: Api) -> None:
    path = await create_content(api, b"")
    response = await api.get(path)
    assert (response.status, response.body, response.headers["Content-Length"]) == (200, b"", "0")
    assert (await api.get(path, headers={"Range": "bytes=0-"})).status == 416
    assert await chunks(api) == 0


async def test_preconditions_apply_to_content(api: Api) -> None:
    path = f"/files/{(await create(api))['id']}/content"
    assert (await put(api, path, If_Match='"none"')).status == 412
    tag = (await put(api, path, If_None_Match="*")).headers["ETag"]
    assert (await put(api, path, If_None_Match="*")).status == 412
    assert (await api.get(path, headers={"If-None-Match": tag})).status == 304
    assert (await api.get(path, headers={"If-Match": '"other"'})).status == 412
    stale = await put(api, path, b"new", If_Match='"other"')
    assert (stale.status, stale.errors, stale.headers["ETag"]) == (412, [(13005, "If-Match")], tag)
    changed = await put(api, path, b"new", If_Match=tag)
    assert (changed.status, changed.body) == (204, b"")
    assert changed.headers["ETag"] != tag
    again = await put(api, path, b"new", If_Match=changed.headers["ETag"])
    assert again.headers["ETag"] == changed.headers["ETag"]
    other = await api.put(path, data=b"new", headers={"Content-Type": "image/gif"})
    assert other.headers["ETag"] != changed.headers["ETag"]


async def test_exactly_one_of_several_concurrent_uploads_with_one_etag_succeeds(api: Api) -> None:
    path = await create_content(api)
    tag = (await api.get(path)).headers["ETag"]
    bodies = [bytes([65 + n]) * (BLOCK + n) for n in range(6)]
    responses = await asyncio.gather(*(put(api, path, body, If_Match=tag) for body in bodies))
    assert sorted(response.status for response in responses) == [204] + [412] * 5
    [winner] = [body for body, response in zip(bodies, responses, strict=True) if response.status == 204]
    assert (await api.get(path)).body == winner


async def test_concurrent_uploads_store_one_of_them_completely(api: Api) -> None:
    path = await create_content(api, LARGE)
    bodies = [LARGE, *(bytes([65 + n]) * (BLOCK + 1) for n in range(5)), LARGE]
    responses = await asyncio.gather(*(put(api, path, body) for body in bodies))
    assert {response.status for response in responses} == {204}
    left = (await api.get(path)).body
    assert left in bodies
    assert await chunks(api) == -(-len(left) // BLOCK)


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
async def test_a_digest_is_checked_against_the_content(api: Api, header: str) -> None:
    path = await create_content(api)
    wrong = await api.put(path, data=b"other", headers={header: digests.format_digest(sha256(HELLO).digest())})
    assert (wrong.status, wrong.errors) == (400, [(10018, header)])
    assert (await api.put(path, data=b"x", headers={header: "x"})).errors == [(10015, header)]
    assert (await api.get(path)).body == HELLO
    right = await api.put(path, data=b"other", headers={header: digests.format_digest(sha256(b"other").digest())})
    assert right.status == 204


@pytest.mark.parametrize(
    ("headers", "status", "error"),
    [
        ({"Content-Type": "x"}, 415, (10003, "Content-Type")),
        ({"Content-Type": "image/*"}, 415, (10003, "Content-Type")),
        ({"Content-Type": "a/b; x=" + "y" * 255}, 415, (10003, "Content-Type")),
        ({"Content-Encoding": "gzip"}, 415, (10003, "Content-Encoding")),
        ({"Content-Range": "bytes 0-1/2"}, 400, (10015, "Content-Range")),
        ({"If-Match": "x"}, 400, (10015, "If-Match")),
    ],
)
async def test_an_invalid_upload_is_rejected(api: Api, headers: Any, status: int, error: Any) -> None:
    path = f"/files/{(await create(api))['id']}/content"
    response = await api.put(path, data=HELLO, headers=headers)
    assert (response.status, response.errors) == (status, [error])
    assert (await api.get(f"{path}?x=1")).errors == [(10013, "x")]


async def test_the_media_type_is_stored_or_a_default_is_used(api: Api) -> None:
    path = await create_content(api)
    for sent in ("text/plain; charset=UTF-8", "application/vnd.some+json;v=1", "Text/HTML"):
        await api.put(path, data=HELLO, headers={"Content-Type": sent})
        response = await api.get(path)
        assert response.headers["Content-Type"] == sent
    assert response.headers["Content-Disposition"].startswith("attachment")
    await api.put(path, data=HELLO, skip_auto_headers=["Content-Type"])
    assert (await api.get(path)).headers["Content-Type"] == "application/octet-stream"


async def test_a_download_with_an_unacceptable_media_type_is_406(api: Api) -> None:
    path = await create_content(api)
    for accept, status in (("image/*", 200), ("image/png", 200), ("text/html", 406), ("*/*;q=0.1", 200)):
        assert (await api.get(path, headers={"Accept": accept})).status == status


async def test_content_is_never_compressed(api: Api) -> None:
    path = await create_content(api, LARGE)
    response = await api.get(path, headers={"Accept-Encoding": "gzip"})
    assert ("Content-Encoding" in response.headers, response.body) == (False, LARGE)


async def test_content_is_deleted_with_its_file(api: Api) -> None:
    path = await create_content(api, LARGE)
    item = path.removesuffix("/content")
    assert (await api.delete(item)).status == 204
    assert (await api.get(path)).status == 404
    assert (await put(api, path)).status == 404
    assert await chunks(api) == 0


async def test_metadata_of_a_file_can_change_without_its_content(api: Api) -> None:
    path = await create_content(api)
    item = path.removesuffix("/content")
    await api.put(item, {"name": "Übersicht.png", "size": 5, "sha256": "x"})
    response = await api.get(path)
    assert response.body == HELLO
    assert response.headers["Content-Disposition"] == (
        "inline; filename=\"Ubersicht.png\"; filename*=UTF-8''%C3%9Cbersicht.png"
    )
    assert (await api.get(item)).json["size"] == 13


async def test_methods_of_content_have_their_own_grants(api: Api) -> None:
    path = await create_content(api)
    await api.service.clients.add("reader", SECRET, ["files:GET"])
    reader = api.as_client("reader", SECRET)
    assert (await reader.get(path)).status == 200
    assert (await put(reader, path)).status == 403
    assert (await api.as_client("", "").get(path)).status == 401
    refused = await api.delete(path)
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD, PUT, OPTIONS")
    allowed = await api.request("OPTIONS", path)
    assert (allowed.status, allowed.headers["Allow"]) == (204, "GET, HEAD, PUT, OPTIONS")


async def test_a_file_can_be_attached_to_an_item_of_any_resource(api: Api) -> None:
    contact = (await api.post("/contacts", {"name": "Ada", "email": "ada@example.org"})).json["id"]
    file = await create(api, resource="contacts", item=contact.upper())
    assert (file["resource"], file["item"]) == ("contacts", contact)
    await create(api, name="other.png")
    found = (await api.get(f"/files?resource=contacts&item={contact}")).json["items"]
    assert [item["id"] for item in found] == [file["id"]]
    # The item it is attached to may be deleted; the file is kept, and can be found.
    assert (await api.delete(f"/contacts/{contact}")).status == 204
    assert (await api.patch(f"/files/{file['id']}", {"name": "still.png"})).status == 200
    assert len((await api.get(f"/files?resource=contacts&item={contact}")).json["items"]) == 1
    assert (await api.patch(f"/files/{file['id']}", {"resource": None, "item": None})).status == 200


async def test_a_file_cannot_be_attached_to_an_item_hidden_from_the_client(api: Api) -> None:
    contact = (await api.post("/contacts", {"name": "Ada", "email": "ada@example.org"})).json["id"]
    await api.service.clients.add("clerk", SECRET, ["files:*"])
    clerk = api.as_client("clerk", SECRET)
    for client, resource, item, pointer in (
        (api, "contacts", str(uuid4()), "/item"),
        (api, "contacts", "x", "/item"),
        (api, "nothing", contact, "/resource"),
        (clerk, "contacts", contact, "/item"),
    ):
        response = await client.post("/files", {"name": "x", "resource": resource, "item": item})
        assert (response.status, response.errors) == (422, [(11000, pointer)])
    for half, missing in (({"resource": "contacts"}, "/item"), ({"item": contact}, "/resource")):
        response = await api.post("/files", {"name": "x", **half})
        assert (response.status, response.errors) == (422, [(11001, missing)])
    file = await create(api, resource="contacts", item=contact)
    response = await api.patch(f"/files/{file['id']}", {"item": None})
    assert (response.status, response.errors) == (422, [(11001, "/item")])
    several = await api.post("/files", [{"name": "x"}, {"name": "y", "resource": "nothing", "item": "z"}])
    assert (several.status, several.errors) == (422, [(11000, "/1/resource")])


class Wire:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, api: Api) -> Wire:
        url = URL(api.url)
        return cls(*await asyncio.open_connection(url.host, url.port, limit=64 * 1024))

    def send(self, method: str, path: str, *headers: str) -> None:
        lines = (
            f"{method} {path} HTTP/1.1",
            "Host: x",
            f"Authorization: {basic('admin', 'correct horse')['Authorization']}",
        )
        self.writer.write("\r\n".join((*lines, *headers, "", "")).encode())

    async def status(self) -> int:
        async with asyncio.timeout(20):
            head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split(b" ")[1])

    def abort(self) -> None:
        self.writer.transport.abort()


@pytest.fixture
async def wire(api: Api) -> AsyncIterator[Wire]:
    wire = await Wire.open(api)
    yield wire
    wire.abort()


async def test_a_client_expecting_100_continue_gets_it_or_an_error(api: Api, wire: Wire) -> None:
    path = f"/files/{(await create(api))['id']}/content"
    wire.send("PUT", path, "Content-Length: 13", "Expect: 100-continue")
    assert await wire.status() == 100
    wire.writer.write(HELLO)
    assert await wire.status() == 201
    wire.send("PUT", path, "Content-Length: 13", "Expect: 100-continue", 'If-Match: "other"')
    assert await wire.status() == 412


async def test_an_interrupted_upload_keeps_the_previous_content(api: Api) -> None:
    path = await create_content(api)
    wire = await Wire.open(api)
    wire.send("PUT", path, "Content-Length: 1000000")
    wire.writer.write(LARGE[:400_000])
    await wire.writer.drain()
    wire.abort()
    half = await Wire.open(api)
    half.send("PUT", path, "Transfer-Encoding: chunked")
    half.writer.write(b"5\r\nhello\r\n")
    half.writer.write_eof()
    with pytest.raises(asyncio.IncompleteReadError):
        await half.status()
    half.abort()
    assert (await api.get(path)).body == HELLO
    assert await chunks(api) == 1


async def test_an_unfinished_download_holds_no_connection(api: Api) -> None:
    path = await create_content(api, LARGE * 16)
    pool = api.service.database.read
    wires = [await Wire.open(api) for _ in range(2 * 10)]
    for wire in wires:
        wire.send("GET", path)
        assert await wire.status() == 200
    # All of them are in progress, and wait for their clients.
    assert (await api.get(path.removesuffix("/content"))).status == 200
    for wire in wires:
        wire.abort()
    assert (await api.get(path)).body == LARGE * 16
    assert pool.idle > 0


async def test_a_download_is_aborted_if_its_content_is_replaced(api: Api) -> None:
    path = await create_content(api, LARGE * 16)
    wire = await Wire.open(api)
    wire.send("GET", path)
    assert await wire.status() == 200
    assert (await put(api, path)).status == 204
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        async with asyncio.timeout(20):
            await wire.reader.readexactly(len(LARGE) * 16)
    wire.abort()


def with_settings(**environ: str) -> list[Plugin]:
    points = [point for point in discovery.installed() if point.name in ("clients", "files")]
    return discovery.discover(points, environ={f"PEGBOARD_FILES_{name}": value for name, value in environ.items()})


async def test_the_maximum_file_size_is_a_setting(serve: Serve) -> None:
    small = await serve(with_settings(MAX_SIZE="10"))
    path = f"/files/{(await create(small))['id']}/content"
    assert (await put(small, path, b"x" * 11)).status == 413
    assert (await put(small, path, b"x" * 10)).status == 201
    body = (await small.get("/openapi.json")).json["paths"]["/files/{id}/content"]["put"]["requestBody"]
    assert body["description"] == "The content, of at most 10 bytes."


@pytest.mark.parametrize(
    ("environ", "error"),
    [
        ({"MAX_SIZE": "much"}, "PEGBOARD_FILES_MAX_SIZE: Not a valid integer"),
        ({"MAX_SIZE": "0"}, "PEGBOARD_FILES_MAX_SIZE: Must be greater than or equal to 1"),
        ({"MAXSIZE": "1"}, "PEGBOARD_FILES_MAXSIZE is not a setting of files; did you mean PEGBOARD_FILES_MAX_SIZE?"),
    ],
)
def test_an_invalid_maximum_size_disables_only_the_files_plugin(environ: dict[str, str], error: str) -> None:
    states = {plugin.name: (plugin.state, plugin.error) for plugin in with_settings(**environ)}
    assert error in str(states["files"][1])
    assert states["clients"] == (State.READY, None)


async def test_the_upload_example_of_the_reference_stores_every_byte(api: Api, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(100_000)
    (tmp_path / "FILE").write_bytes(data)
    item = await create(api)
    page = (await api.get("/docs/files", headers={"Accept": "text/html"})).body.decode()
    section = page.partition('id="put-files-id-content"')[2]
    sample = unescape(re.sub("<[^>]+>", "", section.partition("<pre>")[2].partition("</pre>")[0])).strip()
    assert sample.startswith("curl ")
    command = re.sub(r"https?://[^/]+(/files/)[^/]+", rf"{api.url}\g<1>{item['id']}", sample)
    environment = {**os.environ, "API_USER": ADMIN, "API_PASSWORD": PASSWORD}
    done = await asyncio.create_subprocess_shell(f"{command} -sf", cwd=tmp_path, env=environment)
    assert await done.wait() == 0, command
    assert (await api.get(f"/files/{item['id']}/content")).body == data
