"""The application as an aiohttp application: under the test client, runners and gunicorn, and embedded in another one."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from aiohttp.typedefs import Handler

from pegboard import Schema, TableResource
from pegboard.app import SERVICE, create_app
from pegboard.auth.passwords import Cost, Passwords
from pegboard.hosting import discovery, extensions
from pegboard.schema import fields
from pegboard.settings import Settings, SettingsError
from pegboard.telemetry.logs import AccessRecord
from pegboard.testing.client import ADMIN, PASSWORD, basic
from pegboard.testing.service import settings_for
from tests.conftest import AiohttpClient, plugin
from tests.projects import Site, site
from tests.servers import is_listening

__all__ = ("site",)

AUTH = basic(ADMIN, PASSWORD)
CHEAP = Passwords(Cost(memory=8, passes=1))
SCRIPT = """
import os

from aiohttp import web

from pegboard.app import create_app


async def application():
    return create_app()


if __name__ == "__main__":
    web.run_app(create_app(), host="127.0.0.1", port=int(os.environ["PORT"]))
"""


class Note(Schema):
    text = fields.String(required=True)


class Notes(TableResource):
    """Notes."""

    schema = Note
    verbs = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"


def settings(database_url: str, **changes: str) -> Settings:
    return settings_for(database_url, {f"PEGBOARD_{name.upper()}": value for name, value in changes.items()})


def application(database_url: str, **changes: str) -> web.Application:
    return create_app(settings(database_url, **changes), [plugin("notes", Notes)], CHEAP)


# Under aiohttp's own test client -----------------------------------------------------------------------------


async def test_the_application_runs_under_the_aiohttp_test_client(
    aiohttp_client: AiohttpClient, database_url: str
) -> None:
    client = await aiohttp_client(application(database_url), headers=AUTH)
    made = await client.post("/notes", json={"text": "one"})
    assert made.status == 201
    shown = await client.get(made.headers["Location"])
    assert (await shown.json())["text"] == "one"
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
    assert shown.headers["Server"] == "Pegboard"


async def test_every_path_is_a_named_resource_of_the_router(database_url: str) -> None:
    app = application(database_url)
    document = app[SERVICE].specification.document()
    routed = {resource.canonical for resource in app.router.resources()}
    assert document["paths"].keys() <= routed
    assert {path for path in routed if path.startswith("/notes")} == {"/notes", "/notes/{id}"}
    assert str(app.router["notes"].url_for()) == "/notes"
    assert str(app.router["notes.Id"].url_for(id="5")) == "/notes/5"
    assert all(route.method == "*" for route in app.router.routes())


async def test_middlewares_are_aiohttp_middlewares_and_a_plain_request_passes_few(
    database_url: str,
) -> None:
    plain = application(database_url).middlewares
    assert all(getattr(middleware, "__middleware_version__", None) == 1 for middleware in plain)
    assert len(plain) == 5
    assert len(application(database_url, cors_origins="*").middlewares) == 6


async def test_an_application_without_a_database_does_not_start(aiohttp_client: AiohttpClient) -> None:
    with pytest.raises(SettingsError, match="PEGBOARD_DATABASE_URL is not set"):
        await aiohttp_client(create_app(Settings(), []))


async def test_a_stopped_application_does_not_start_again(database_url: str) -> None:
    app = application(database_url)
    for again in (False, True):
        runner = web.AppRunner(app)
        try:
            if again:
                with pytest.raises(RuntimeError, match="create another with create_app"):
                    await runner.setup()
            else:
                await runner.setup()
        finally:
            await runner.cleanup()


async def test_a_request_target_in_absolute_form_may_omit_the_path(
    aiohttp_client: AiohttpClient, database_url: str
) -> None:
    client = await aiohttp_client(application(database_url))
    for line, status in (
        ("GET http://other", b"200"),
        ("GET http://other?x=1", b"200"),
        ("GET http://other/notes", b"200"),
        ("POST http://other", b"405"),
        ("CONNECT other:1", b"405"),
    ):
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(f"{line} HTTP/1.1\r\nHost: a\r\nAuthorization: {AUTH['Authorization']}\r\n\r\n".encode())
        assert (await asyncio.wait_for(reader.readline(), 10)).split()[1] == status, line
        writer.close()


# Embedded in another application -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def mounted(aiohttp_client: AiohttpClient, database_url: str) -> TestClient[Any, Any]:
    """Mount an application at `/api` of another one."""

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    parent = web.Application()
    parent.router.add_get("/hello", hello)
    parent.add_subapp("/api", application(database_url, max_body="3MiB"))
    return await aiohttp_client(parent, headers=AUTH)


async def test_the_prefix_is_in_the_catalogue_in_locations_and_in_links(mounted: TestClient[Any, Any]) -> None:
    assert [entry["path"] for entry in (await (await mounted.get("/api/")).json())["resources"]] == ["/api/notes"]
    made = await mounted.post("/api/notes", json=[{"text": str(number)} for number in range(5)])
    assert made.status == 201
    one = await mounted.post("/api/notes", json={"text": "one"})
    assert one.headers["Location"] == f"/api/notes/{(await one.json())['id']}"
    assert (await mounted.get(one.headers["Location"])).status == 200
    page = await mounted.get("/api/notes?limit=2")
    following = (await page.json())["next"]
    assert following.startswith("/api/notes?")
    assert f"<{following}>" in page.headers["Link"]
    assert len((await (await mounted.get(following)).json())["items"]) == 2


async def test_the_prefix_is_in_the_reference_and_in_the_openapi_document(mounted: TestClient[Any, Any]) -> None:
    document = await (await mounted.get("/api/openapi.json")).json()
    assert document["servers"][0]["url"] == "/api"
    for path in ("/api/docs", "/api/docs/notes"):
        page = await (await mounted.get(path)).text()
        assert 'href="/api/docs/notes"' in page
        style = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
        assert style.startswith("/api/docs/assets/")
        assert (await mounted.get(style)).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "location"),
    [
        ("GET", "/api", 308, "/api/"),
        ("GET", "/api/notes/", 308, "/api/notes"),
        ("GET", "/api/notes/?limit=1", 308, "/api/notes?limit=1"),
        ("GET", "/api/nothing", 404, None),
        ("GET", "/api/nothing/", 404, None),
        ("GET", "/api/notes/no-id", 404, None),
        ("PROPFIND", "/api/notes", 501, None),
        ("PUT", "/api/notes", 405, None),
        ("GET", "/api/health", 200, None),
        ("OPTIONS", "/api/notes", 204, None),
    ],
)
async def test_paths_below_a_prefix_work_as_usual(
    mounted: TestClient[Any, Any], method: str, path: str, status: int, location: str | None
) -> None:
    response = await mounted.request(method, path, allow_redirects=False)
    assert (response.status, response.headers.get("Location")) == (status, location)
    assert response.headers["X-Request-Id"]
    if status >= 400:
        assert [entry["code"] for entry in (await response.json())["errors"]]
    if status == 405:
        assert response.headers["Allow"] == "GET, HEAD, POST, OPTIONS"


async def test_credentials_bodies_and_streams_work_below_a_prefix(mounted: TestClient[Any, Any]) -> None:
    assert (await mounted.get("/api/notes", headers={"Authorization": ""})).status == 401
    # More than the megabyte that the parent application allows.
    large = io.BytesIO(b'{"text":"' + b"x" * 2_000_000 + b'"}')
    plain = {"Content-Type": "application/json"}
    assert (await mounted.post("/api/notes", data=large, headers=plain)).status == 201
    response = await mounted.post("/api/notes", data=io.BytesIO(b"[" + b" " * 3 * 1024 * 1024 + b"]"), headers=plain)
    assert (response.status, (await response.json())["errors"][0]["code"]) == (413, 10005)
    lines = await mounted.get("/api/notes", headers={"Accept": "application/x-ndjson"})
    assert (lines.status, lines.headers["Content-Type"]) == (200, "application/x-ndjson")
    assert (await lines.read()).endswith(b"\n")
    packed = await mounted.get("/api/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"


async def test_paths_outside_the_prefix_belong_to_the_parent(mounted: TestClient[Any, Any]) -> None:
    hello = await mounted.get("/hello", headers={"Authorization": ""})
    assert (await hello.text(), "X-Request-Id" in hello.headers) == ("hello", False)
    assert (await mounted.get("/contacts")).status == 404


async def test_the_prefix_of_a_proxy_precedes_that_of_the_application(
    aiohttp_client: AiohttpClient, database_url: str
) -> None:
    parent = web.Application()
    parent.add_subapp("/api", application(database_url, path_prefix="/outside"))
    client = await aiohttp_client(parent, headers=AUTH)
    made = await client.post("/api/notes", json={"text": "one"})
    assert made.headers["Location"].startswith("/outside/api/notes/")
    slash = await client.get("/api/notes/", allow_redirects=False)
    assert slash.headers["Location"] == "/outside/api/notes"


# With third-party code ---------------------------------------------------------------------------------------


@web.middleware
async def stamp(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    if not response.prepared:
        response.headers["X-Stamp"] = "1"
        response.set_cookie("seen", "yes")
    return response


@web.middleware
async def teapot(request: web.Request, handler: Handler) -> web.StreamResponse:
    if "X-Tea" in request.headers:
        raise web.HTTPConflict(text="tea")
    return await handler(request)


class Teapot(web.HTTPClientError):
    status_code = 418


@pytest.fixture(scope="module")
async def extended(aiohttp_client: AiohttpClient, database_url: str) -> TestClient[Any, Any]:
    """Add typical third-party code to an application."""
    app = application(database_url)
    app.middlewares.insert(0, stamp)
    app.middlewares.append(teapot)

    async def sign(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Signed"] = "yes"

    async def own(request: web.Request) -> web.Response:
        return web.json_response({"id": request.match_info["id"], "read": (await request.read()).decode()})

    async def lost(_: web.Request) -> web.Response:
        raise web.HTTPNotFound

    async def moved(_: web.Request) -> web.Response:
        raise web.HTTPFound("/elsewhere")

    async def teapot_itself(_: web.Request) -> web.Response:
        raise Teapot

    async def bad_gateway(_: web.Request) -> web.Response:
        raise web.HTTPBadGateway(text="secret")

    async def broken(_: web.Request) -> web.Response:
        raise LookupError("secret")

    async def streamed(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"a" * 10)
        if "break" in request.query:
            raise LookupError("secret")
        await response.write_eof()
        return response

    app.on_response_prepare.append(sign)
    app.router.add_post("/own/{id}", own)
    app.router.add_get("/lost", lost)
    app.router.add_get("/moved", moved)
    app.router.add_get("/broken", broken)
    app.router.add_get("/teapot", teapot_itself)
    app.router.add_get("/bad-gateway", bad_gateway)
    app.router.add_get("/streamed", streamed)
    return await aiohttp_client(app, headers=AUTH)


async def test_headers_and_cookies_set_by_third_party_code_are_kept(extended: TestClient[Any, Any]) -> None:
    for path, status in (("/notes", 200), ("/nothing", 404), ("/", 200), ("/docs", 200)):
        response = await extended.get(path)
        assert response.status == status
        assert (response.headers["X-Stamp"], response.headers["X-Signed"]) == ("1", "yes")
        assert response.headers.getall("Set-Cookie") == ["seen=yes; Path=/"]
        assert response.headers["Cache-Control"]
    lines = await extended.get("/notes", headers={"Accept": "application/x-ndjson"})
    # A stream has started before the middlewares get its response.
    assert (lines.headers["X-Signed"], "X-Stamp" in lines.headers) == ("yes", False)


async def test_a_plain_handler_requires_authentication_and_has_the_standard_headers(
    extended: TestClient[Any, Any],
) -> None:
    response = await extended.post("/own/7", data=b"body")
    assert (response.status, await response.json()) == (200, {"id": "7", "read": "body"})
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Request-Id"]
    assert (await extended.post("/own/7", headers={"Authorization": ""})).status == 401


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/own/7", 405, 13001),
        ("GET", "/lost", 404, 13000),
        ("GET", "/broken", 500, 15000),
        ("GET", "/teapot", 418, 10016),
        ("GET", "/bad-gateway", 502, 15000),
    ],
)
async def test_errors_raised_by_third_party_code_have_the_standard_body(
    extended: TestClient[Any, Any], method: str, path: str, status: int, code: int
) -> None:
    response = await extended.request(method, path)
    body = await response.json()
    assert (response.status, [entry["code"] for entry in body["errors"]]) == (status, [code])
    assert "secret" not in str(body)
    if status == 405:
        assert response.headers["Allow"] == "POST"


async def test_a_redirect_raised_by_third_party_code_is_sent(extended: TestClient[Any, Any]) -> None:
    response = await extended.get("/moved", allow_redirects=False)
    assert (response.status, response.headers["Location"], await response.read()) == (302, "/elsewhere", b"")


async def test_a_failing_third_party_stream_is_an_incomplete_transfer(extended: TestClient[Any, Any]) -> None:
    assert await (await extended.get("/streamed")).read() == b"a" * 10
    with pytest.raises(Exception, match=r"payload is not completed|reset by peer"):
        await (await extended.get("/streamed?break")).read()
    assert (await extended.get("/health")).status == 200


async def test_a_third_party_middleware_may_read_the_body_first(
    aiohttp_client: AiohttpClient, database_url: str
) -> None:
    seen: list[bytes] = []

    @web.middleware
    async def reads(request: web.Request, handler: Handler) -> web.StreamResponse:
        seen.append(await request.read())
        return await handler(request)

    app = application(database_url)
    app.middlewares.insert(0, reads)
    client = await aiohttp_client(app, headers=AUTH)
    made = await client.post("/notes", json={"text": "read twice"})
    assert (made.status, (await made.json())["text"]) == (201, "read twice")
    assert b"read twice" in seen[0]


async def test_a_response_compressed_by_third_party_code_is_written_by_aiohttp(
    aiohttp_client: AiohttpClient, database_url: str
) -> None:
    @web.middleware
    async def packs(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        response.enable_compression(web.ContentCoding.deflate)
        return response

    app = application(database_url)
    app.middlewares.insert(0, packs)
    client = await aiohttp_client(app, headers=AUTH)
    response = await client.get("/errors", headers={"Accept-Encoding": "deflate"})
    assert response.headers["Content-Encoding"] == "deflate"
    assert (await response.json())["items"][0]["code"] == 10000


# Responses and errors of third-party code ---------------------------------------------------------------------


@web.middleware
async def third_party(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Execute the action named in `X-Do`."""
    action = request.headers.get("X-Do", "")
    if action == "respond":
        return web.Response(text="mine")
    if action == "forbid":
        raise web.HTTPForbidden(text="no")
    if action == "read":
        await request.read()
    if action == "part":
        await request.content.read(5)
    if action == "chunks":
        async for _ in request.content.iter_chunked(4):
            pass
    if action == "none":
        return None  # type: ignore[return-value]  # a forgotten return statement
    if action == "cookie":
        error = web.HTTPUnauthorized()
        error.del_cookie("session")
        raise error
    if action == "found":
        found = web.HTTPFound("/")
        found.set_cookie("session", "1")
        raise found
    if action == "ok":
        raise web.HTTPOk(text="fine")
    if action in ("bytes", "bad bytes"):
        kind = web.HTTPOk if action == "bytes" else web.HTTPBadRequest
        raised = kind(content_type="image/png")
        raised.body = b"\xff\xfe"
        raise raised
    if action == "nothing":
        raise web.HTTPNoContent
    if action == "two":
        raise web.HTTPUnauthorized(headers=[("WWW-Authenticate", "Basic"), ("WWW-Authenticate", "Bearer")])
    response = await handler(request)
    if action == "raise":
        raise LookupError("secret")
    if action.startswith("header "):
        response.headers["X-Name"] = action.removeprefix("header ")
    if action.startswith("own "):
        response.headers[action.removeprefix("own ")] = "own"
    return response


@pytest.fixture(scope="module", params=["first", "last", "parent"])
async def embedded_client(request: pytest.FixtureRequest, aiohttp_client: AiohttpClient, database_url: str) -> Any:
    """Insert a middleware before all of ours, after them, or into a parent; return the client and the prefix."""
    files = next(entry for entry in discovery.discover(discovery.installed()) if entry.name == "files")
    app = create_app(settings(database_url), [plugin("notes", Notes), files], CHEAP)
    if request.param == "parent":
        parent = web.Application(middlewares=[third_party], client_max_size=10 << 20)
        parent.add_subapp("/api", app)
        return await aiohttp_client(parent, headers=AUTH), "/api", request.param
    app.middlewares.insert(0 if request.param == "first" else len(app.middlewares), third_party)
    return await aiohttp_client(app, headers=AUTH), "", request.param


async def test_a_response_of_a_third_party_middleware_is_sent(embedded_client: Any) -> None:
    client, prefix, position = embedded_client
    response = await client.get(f"{prefix}/notes", headers={"X-Do": "respond"})
    assert (response.status, await response.text()) == (200, "mine")
    refused = await client.get(f"{prefix}/notes", headers={"X-Do": "forbid"})
    assert refused.status == 403
    if position == "last":
        assert (await refused.json())["errors"] == [{"message": "no", "code": 12002}]
    assert (await client.get(f"{prefix}/notes")).status == 200


async def test_content_read_by_a_third_party_middleware_is_stored(embedded_client: Any) -> None:
    client, prefix, _ = embedded_client
    made = await client.post(f"{prefix}/files", json={"name": "x"}, headers={"X-Do": "read"})
    assert made.status == 201
    path = f"{made.headers['Location']}/content"
    sent = {"Content-Type": "text/plain", "X-Do": "read"}
    assert (await client.put(path, data=b"0123456789", headers=sent)).status in (201, 204)
    assert await (await client.get(path)).read() == b"0123456789"


async def test_content_consumed_by_a_third_party_middleware_is_never_stored(embedded_client: Any) -> None:
    client, prefix, _ = embedded_client
    made = await client.post(f"{prefix}/files", json={"name": "x"})
    path = f"{made.headers['Location']}/content"
    assert (await client.put(path, data=b"before", headers={"Content-Type": "text/plain"})).status == 201
    for action in ("part", "chunks"):
        sent = {"Content-Type": "text/plain", "X-Do": action}
        assert (await client.put(path, data=b"0123456789", headers=sent)).status == 500
        assert (await client.post(f"{prefix}/notes", json={"text": "x"}, headers={"X-Do": action})).status == 500
    assert await (await client.get(path)).read() == b"before"


async def test_an_invalid_response_is_a_500_with_one_request_id(
    embedded_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client, prefix, position = embedded_client
    for action in ("none",) * (position == "last") + ("raise",):
        caplog.clear()
        response = await client.get(f"{prefix}/notes", headers={"X-Do": action})
        text = await response.text()
        assert response.status == 500
        assert "secret" not in text
        if position != "parent":
            request_id = response.headers["X-Request-Id"]
            assert request_id in text
            assert request_id in caplog.text


@pytest.mark.parametrize(("action", "status"), [("cookie", 401), ("found", 302), ("ok", 200)])
async def test_cookies_and_bodies_of_errors_raised_by_third_party_code_are_sent(
    embedded_client: Any, action: str, status: int
) -> None:
    client, prefix, _ = embedded_client
    response = await client.get(f"{prefix}/notes", headers={"X-Do": action}, allow_redirects=False)
    assert response.status == status
    assert ("session" in response.headers.get("Set-Cookie", "")) is (action != "ok")
    if action == "ok":
        assert await response.text() == "fine"


async def test_errors_raised_by_third_party_code_keep_body_and_headers(embedded_client: Any) -> None:
    client, prefix, _ = embedded_client
    for action, status, body in (("bytes", 200, b"\xff\xfe"), ("nothing", 204, b"")):
        response = await client.get(f"{prefix}/notes", headers={"X-Do": action})
        assert (response.status, await response.read()) == (status, body)
    assert (await client.get(f"{prefix}/notes", headers={"X-Do": "bad bytes"})).status == 400
    two = await client.get(f"{prefix}/notes", headers={"X-Do": "two"})
    assert (two.status, two.headers.getall("WWW-Authenticate")) == (401, ["Basic", "Bearer"])


async def test_an_invalid_third_party_header_is_one_500(
    aiohttp_client: AiohttpClient, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = application(database_url, cors_origins="https://a.example")
    app.middlewares.append(third_party)

    async def name(request: web.Request, response: web.StreamResponse) -> None:
        if "u" in request.query:
            response.headers[request.query.get("name", "X-User")] = request.query["u"]

    app.on_response_prepare.append(name)
    client = await aiohttp_client(app, headers=AUTH)
    broken = await client.get("/errors", params={"u": "a\nb"}, headers={"Origin": "https://a.example"})
    assert (broken.status, (await broken.json())["errors"][0]["code"]) == (500, 15000)
    assert broken.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert caplog.text.count("its response has a header that cannot be sent") == 1
    for header in ("X-Request-Id", "Vary", "Access-Control-Allow-Origin"):
        for text in ("a\nb", "中"):
            assert (await client.get("/errors", params={"u": text, "name": header})).status == 500
    assert "request a" not in caplog.text
    assert (await client.get("/errors")).status == 200
    for own, other in (("Date", "Server"), ("Server", "Date")):
        response = await client.get("/errors", headers={"X-Do": f"own {own}"})
        assert (response.headers[own], len(response.headers.getall(other))) == ("own", 1)


async def test_a_third_party_file_response_is_counted_by_its_final_status_and_size(
    aiohttp_client: AiohttpClient, database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "there").write_bytes(b"0123456789")
    app = application(database_url)

    async def file(request: web.Request) -> web.FileResponse:
        return web.FileResponse(tmp_path / request.match_info["name"])

    app.router.add_get("/static/{name}", file)
    client = await aiohttp_client(app, headers=AUTH)
    caplog.set_level("INFO", logger="pegboard.access")
    for name, sent, status, size in (
        ("there", {}, 200, 10),
        ("there", {"Range": "bytes=2-4"}, 206, 3),
        ("gone", {}, 404, 0),
    ):
        caplog.clear()
        assert (await client.get(f"/static/{name}", headers=sent)).status == status
        (record,) = [record for record in caplog.records if isinstance(record, AccessRecord)]
        assert (record.fields["status"], record.fields["bytes"]) == (status, size)


@pytest.mark.parametrize("position", ["first", "last"])
async def test_timeouts_and_framing_apply_to_bodies_read_by_third_party_code(
    aiohttp_client: AiohttpClient, database_url: str, position: str
) -> None:
    async def read(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app = application(database_url, receive_timeout="0.5")
    app.middlewares.insert(0 if position == "first" else len(app.middlewares), third_party)
    app.router.add_post("/read", read)
    client = await aiohttp_client(app)
    host = f"Host: a\r\nAuthorization: {AUTH['Authorization']}\r\nX-Do: read\r\n"
    for path in ("/read", "/notes"):
        for rest, status in (
            ("Content-Type: application/json\r\nContent-Length: 9\r\n\r\n1234", b"408"),
            ("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        ):
            reader, writer = await asyncio.open_connection(client.host, client.port)
            writer.write(f"POST {path} HTTP/1.1\r\n{host}{rest}".encode())
            if status == b"400":
                await asyncio.sleep(0.1)
                writer.write(b"nonsense\r\n")
            line = await asyncio.wait_for(reader.readline(), 10)
            assert line.split()[1] == status, (path, rest)
            writer.close()


async def test_a_long_upload_read_by_third_party_code_is_not_cut_and_gets_100_continue(
    aiohttp_client: AiohttpClient, database_url: str
) -> None:
    async def each(request: web.Request) -> web.StreamResponse:
        """Echo each line as it arrives."""
        response = web.StreamResponse()
        await response.prepare(request)
        while line := await request.content.readline():
            await response.write(line)
        return response

    async def slow(request: web.Request) -> web.Response:
        """Pause between the parts."""
        size = 0
        while part := await request.content.readany():
            size += len(part)
            await asyncio.sleep(0.7)
        return web.Response(text=str(size))

    async def large(request: web.Request) -> web.Response:
        size = 0
        async for part in request.content.iter_any():
            size += len(part)
        return web.Response(text=str(size))

    app = application(database_url, receive_timeout="0.4")
    app.middlewares.append(third_party)
    app.router.add_post("/each", each)
    app.router.add_post("/slow", slow)
    app.router.add_post("/large", large)
    client = await aiohttp_client(app, headers=AUTH)

    async def parts(part: bytes, number: int) -> Any:
        for _ in range(number):
            yield part
            await asyncio.sleep(0.2)

    assert await (await client.post("/each", data=parts(b"line\n", 6))).read() == b"line\n" * 6
    assert await (await client.post("/slow", data=parts(b"x" * 10, 3))).text() == "30"
    assert await (await client.post("/large", data=parts(b"x" * 70_000, 6))).text() == "420000"
    body = b'{"text":"asked for"}'
    reader, writer = await asyncio.open_connection(client.host, client.port)
    head = f"POST /notes HTTP/1.1\r\nHost: a\r\nAuthorization: {AUTH['Authorization']}\r\nX-Do: read\r\n"
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    writer.write((head + kind).encode())
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await asyncio.wait_for(reader.readline(), 5)).split()[1] == b"201"
    writer.close()


async def test_an_unknown_expectation_is_rejected_below_a_parent(mounted: TestClient[Any, Any]) -> None:
    response = await mounted.post("/api/notes", json={"text": "x"}, headers={"Expect": "nope"})
    assert (response.status, (await response.json())["errors"][0]["code"]) == (417, 10007)


# Middlewares of the operator ---------------------------------------------------------------------------------

TENANT = """
from aiohttp import web


@web.middleware
async def tenant(request, handler):
    if request.headers.get("X-Tenant") == "none":
        raise web.HTTPForbidden
    response = await handler(request)
    response.headers["X-Tenant"] = "one"
    return response


plain = "no middleware"
"""


async def test_middlewares_of_the_operator_are_configured_by_a_setting(
    site: Site, aiohttp_client: AiohttpClient, database_url: str
) -> None:
    package = site.install("pegboard-tenants", "tenant = pegboard_tenants:tenant\nplain = pegboard_tenants:plain")
    site.write(package, TENANT)
    about = next(package.parent.glob("pegboard_tenants*.dist-info")) / "entry_points.txt"
    about.write_text(about.read_text().replace("pegboard.resources", extensions.GROUP))
    client = await aiohttp_client(application(database_url, middlewares="tenant"), headers=AUTH)
    response = await client.get("/notes")
    assert (response.status, response.headers["X-Tenant"]) == (200, "one")
    refused = await client.get("/notes", headers={"X-Tenant": "none", "Authorization": ""})
    assert (refused.status, (await refused.json())["errors"][0]["code"]) == (403, 12002)
    assert refused.headers["X-Request-Id"]
    for names, reason in (
        ("tennant", r"names tennant, which no installed package has .* Did you mean tenant\?"),
        ("plain", "pegboard_tenants:plain is not a middleware: write @aiohttp.web.middleware above it"),
    ):
        with pytest.raises(SettingsError, match=reason):
            application(database_url, middlewares=names)


# Under other servers -----------------------------------------------------------------------------------------


@contextmanager
def serve_script(folder: Path, database_url: str, *command: str, **more: str) -> Iterator[int]:
    """Run the script of an embedding application."""
    (folder / "script.py").write_text(SCRIPT)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PEGBOARD_")}
    environment |= {
        "PEGBOARD_DATABASE_URL": database_url,
        "PEGBOARD_ADMIN_PASSWORD": PASSWORD,
        "PORT": str(port),
        "PYTHONPATH": str(folder),
        **more,
    }
    filled = [part.replace("{port}", str(port)) for part in command]
    process = subprocess.Popen(
        [sys.executable, *filled], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 30
        while not is_listening(port):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "command",
    [
        ("script.py",),
        (
            "-m",
            "gunicorn",
            "-b",
            "127.0.0.1:{port}",
            "-w",
            "2",
            "-k",
            "aiohttp.GunicornWebWorker",
            "script:application",
        ),
    ],
    ids=["run_app", "gunicorn"],
)
async def test_other_servers_use_the_protocol_of_the_service(
    tmp_path: Path, database_url: str, command: tuple[str, ...]
) -> None:
    def check() -> None:
        with serve_script(tmp_path, database_url, *command) as port:
            connection = HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/contacts", headers=AUTH)
            response = connection.getresponse()
            assert (response.status, response.headers["Server"]) == (200, "Pegboard")
            connection.close()
            # The protocol of the service responds to a malformed head in JSON.
            with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
                peer.sendall(b"GET / HTTP/9.9\r\nHost: a\r\n\r\n")
                assert b'"code":10011' in peer.recv(4096)

    await asyncio.to_thread(check)


# The page ----------------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "embedding.md"


def test_the_examples_of_the_page_work(tmp_path: Path, database_url: str) -> None:
    for name, text in re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with serve_script(tmp_path, database_url, "app.py") as port:
        assert fetch(port, "/hello") == (200, "Hello.\n")
        status, text = fetch(port, "/api/")
        assert (status, "/api/contacts" in text) == (200, True)
    environment = {**os.environ, "PEGBOARD_DATABASE_URL": database_url, "PYTHONPATH": str(tmp_path)}
    check = "import extended; app = extended.extended(); assert app.middlewares[0] is extended.measure; print(app.router['contacts.Id'])"
    assert subprocess.run([sys.executable, "-c", check], env=environment, check=False).returncode == 0
    text = (tmp_path / "test_app.py").read_text().replace("a password for tests", PASSWORD)
    test = text[text.index("async def") :]
    # Two tests of one file, each with its own application.
    (tmp_path / "test_app.py").write_text(f"{text}\n\n{test.replace('async def test_', 'async def test_again_')}")
    options = ("-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "test_app.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    # Laid out like an installed package.
    about = tmp_path / "tenants" / "tenants-1.0.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.4\nName: tenants\nVersion: 1.0.0\n")
    (about / "entry_points.txt").write_text("[pegboard.middlewares]\ntenant = tenants:tenant\n")
    paths = os.pathsep.join((str(tmp_path), str(tmp_path / "tenants")))
    with serve_script(tmp_path, database_url, "script.py", PEGBOARD_MIDDLEWARES="tenant", PYTHONPATH=paths) as port:
        assert fetch(port, "/health")[0] == 200
        status, text = fetch(port, "/contacts")
        assert (status, json.loads(text)["errors"]) == (400, [{"message": "X-Tenant is missing", "code": 10016}])
        assert fetch(port, "/contacts", {"X-Tenant": "one"})[0] == 200


def fetch(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=AUTH | (headers or {}))
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


@pytest.mark.parametrize("tool", ["mypy"])
def test_the_examples_of_the_page_pass_type_checking(tmp_path: Path, tool: str) -> None:
    for name, text in re.findall(
        r"^`([\w/.]+\.py)`:\n\n```\w+\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    ):
        if not name.startswith("test_"):
            (tmp_path / Path(name).name).write_text(text)
    command = [sys.executable, "-m", tool, "--strict", "--no-error-summary", *map(str, tmp_path.glob("*.py"))]
    done = subprocess.run(command, cwd=PAGE.parent.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
