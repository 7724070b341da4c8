"""The HTTP server over real sockets: accepted input, error responses and connection handling."""

import asyncio
import contextlib
import json
import logging
import random
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import web

from pegboard.endpoints.table import Table
from pegboard.errors import ApiError, NotFound
from pegboard.http import protocol
from pegboard.http.protocol import Response, error_response
from pegboard.http.request import (
    STATE,
    Limits,
    RequestIds,
    RequestState,
    awaits_continue,
    raw_path,
    raw_query,
    read_body,
)
from pegboard.http.streaming import send_stream
from pegboard.settings import Settings

SETTINGS = Settings(max_body=1000, max_head=4096, max_url=512, receive_timeout=5.0, shutdown_timeout=5.0)
HURRIED = replace(SETTINGS, receive_timeout=0.3)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: a\r\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Received:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        (entry,) = json.loads(self.body)["errors"]
        assert isinstance(entry, dict)
        return entry


class Peer:
    """A connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self, *, bodiless: bool = False) -> Received:
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *lines = head[:-4].split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            assert len(headers) == len(lines)
            body = b"" if bodiless else await self._body(headers)
        return Received(int(status_line.split(" ")[1]), headers, body)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("Transfer-Encoding") != "chunked":
            return await self.reader.readexactly(int(headers.get("Content-Length", "0")))
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readline()
        return body

    async def exchange(self, data: bytes) -> Received:
        await self.send(data)
        return await self.response()

    async def read_to_end(self) -> bytes:
        """Return everything up to the end of the connection."""
        async with asyncio.timeout(5):
            return await self.reader.read()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class Service:
    """A running server and its address."""

    def __init__(self, runner: web.AppRunner) -> None:
        self.runner = runner
        self.peers: list[Peer] = []

    async def connect(self) -> Peer:
        host, port = self.runner.addresses[0][:2]
        peer = Peer(*await asyncio.open_connection(host, port))
        self.peers.append(peer)
        return peer


@contextlib.asynccontextmanager
async def serving(respond: Handler, settings: Settings = SETTINGS) -> AsyncIterator[Service]:
    """Serve an application that passes every request to `respond`."""
    ids, limits = RequestIds(), Limits(settings.max_body, settings.receive_timeout)

    @web.middleware
    async def middleware(request: web.Request, handler: object) -> web.StreamResponse:
        request[STATE] = state = RequestState(ids.of(request.headers), limits, None)
        response = await respond(request)
        if not response.prepared and (state.closing or awaits_continue(request)):
            response.force_close()
        return response

    app = web.Application(middlewares=[middleware])
    Table((), {}).register(app.router)
    protocol.install(app, settings, ids, Counter())
    runner = web.AppRunner(app, shutdown_timeout=settings.shutdown_timeout, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service = Service(runner)
    try:
        yield service
    finally:
        for peer in service.peers:
            await peer.close()
        await runner.cleanup()


async def echo(request: web.Request) -> Response:
    """Receive the request like a handler, and respond with its parts or the error."""
    request_id = request[STATE].id
    try:
        if raw_path(request) == "/unread":
            return Response(401, {"X-Request-Id": request_id}, b"no")
        if raw_path(request) == "/slow":
            await asyncio.sleep(0.1)
        body = await read_body(request)
    except ApiError as error:
        return error_response(error, request_id)
    parts = {"method": request.method, "path": raw_path(request), "query": raw_query(request), "body": body.decode()}
    return Response(200, {"X-Request-Id": request_id}, json.dumps(parts).encode())


@pytest.fixture(scope="module")
async def service() -> AsyncIterator[Service]:
    async with serving(echo) as running:
        yield running


def head(*lines: str) -> bytes:
    return "".join(line + "\r\n" for line in (*lines, "")).encode("latin-1")


CHUNKED = head("POST /echo HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")
REFUSED: tuple[tuple[bytes, int, int], ...] = (
    (b"garbage\r\n\r\n", 400, 10016),
    (b"\x00\x01\x02\x03\r\n\r\n", 400, 10016),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, 10016),
    (b"SSH-2.0-OpenSSH_9.2\r\n", 400, 10016),
    (b"GET / HTTP/1.1\nHost: a\n\n", 400, 10016),
    (b"GET / HTTP/1.1\rHost: a\r\r", 400, 10016),
    (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, 10016),
    (head("F()O / HTTP/1.1", "Host: a"), 400, 10016),
    (head("GET"), 400, 10016),
    (head("GET /"), 505, 10011),
    (head("GET / HTTP/0.9"), 505, 10011),
    (head("GET / HTTP/1.2", "Host: a"), 505, 10011),
    (head("GET / HTTP/2.0", "Host: a"), 505, 10011),
    (head("GET / HTTP/3.0", "Host: a"), 505, 10011),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, 10011),
    (head("GET / HTTP/1", "Host: a"), 400, 10016),
    (head("GET / HTTP/11", "Host: a"), 400, 10016),
    (head("GET / http/1.1", "Host: a"), 400, 10016),
    (head("GET / FTP/1.1", "Host: a"), 400, 10016),
    (head("GET / HTTP/1.1 x", "Host: a"), 400, 10016),
    (head("GET /a b HTTP/1.1", "Host: a"), 400, 10016),
    (head("GET /\xff HTTP/1.1", "Host: a"), 400, 10016),
    (head("GET a HTTP/1.1", "Host: a"), 400, 10016),
    (head("GET * HTTP/1.1", "Host: a"), 400, 10016),
    (head("GET http:///a HTTP/1.1", "Host: a"), 400, 10016),
    (head("GET /" + "a" * 600 + " HTTP/1.1", "Host: a"), 414, 10006),
    (head("GET /?" + "a" * 600 + " HTTP/1.1", "Host: a"), 414, 10006),
    (head("GET / HTTP/1.1"), 400, 10016),
    (head("GET / HTTP/1.1", "Host: a", "Host: a"), 400, 10016),
    (head("GET / HTTP/1.1", "Host: a b"), 400, 10016),
    (head("GET / HTTP/1.1", "Host: a/b"), 400, 10016),
    (head("GET / HTTP/1.1", "Host : a"), 400, 10016),
    (head("GET / HTTP/1.1", "Host: a", "X"), 400, 10016),
    (head("GET / HTTP/1.1", "Host: a", ": x"), 400, 10016),
    (head("GET / HTTP/1.1", "Host: a", "X y: z"), 400, 10016),
    (head("GET / HTTP/1.1", "Host: a", "X\xe9: z"), 400, 10016),
    (head("GET / HTTP/1.1", "Host: a", " folded"), 400, 10016),
    (head("GET / HTTP/1.1", "Host: a", "X: a\0b"), 400, 10016),
    (head("GET / HTTP/1.1", "Host: a", "X: a\x01b"), 400, 10016),
    (head("GET / HTTP/1.1", "Host: a", "X: a\rb"), 400, 10016),
    (head("GET / HTTP/1.1", "Host: a", "X: " + "a" * 5000), 431, 10008),
    (head("GET / HTTP/1.1", "Host: a", "X" * 5000 + ": a"), 431, 10008),
    (head("GET / HTTP/1.1", "Host: a", *(f"X-{number}: {'a' * 100}" for number in range(60))), 431, 10008),
    (head("GET / HTTP/1.1", "Host: a", *(f"X-{number}: a" for number in range(140))), 431, 10008),
    (head(*[""] * 3000), 431, 10008),
    (head("POST / HTTP/1.1", "Host: a", "Content-Length: 1", "Transfer-Encoding: chunked"), 400, 10016),
    (head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Content-Length: 1"), 400, 10016),
    (head("POST / HTTP/1.1", "Host: a", "Content-Length: 1", "Content-Length: 1"), 400, 10016),
    (head("POST / HTTP/1.1", "Host: a", "Content-Length: 1, 1"), 400, 10016),
    (head("POST / HTTP/1.1", "Host: a", "Content-Length: -1"), 400, 10016),
    (head("POST / HTTP/1.1", "Host: a", "Content-Length: +1"), 400, 10016),
    (head("POST / HTTP/1.1", "Host: a", "Content-Length: 0x1"), 400, 10016),
    (head("POST / HTTP/1.1", "Host: a", "Content-Length:"), 400, 10016),
    (head("POST / HTTP/1.1", "Host: a", "Content-Length: " + "9" * 30), 400, 10016),
    (head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: gzip"), 400, 10016),
    (head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: gzip, chunked"), 400, 10016),
    (head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked, gzip"), 400, 10016),
    (head("POST / HTTP/1.0", "Host: a", "Transfer-Encoding: chunked"), 400, 10016),
    (CHUNKED + b"xyz\r\n", 400, 10016),
    (CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", 400, 10016),
    (CHUNKED + b"-1\r\na\r\n0\r\n\r\n", 400, 10016),
    (CHUNKED + b"1\na\n0\n\n", 400, 10016),
    (head("GET / HTTP/1.1", "Host: a", "Expect: miracles"), 417, 10007),
)


@pytest.mark.parametrize("pieces", [1, 2, 7])
@pytest.mark.parametrize(("data", "status", "code"), REFUSED, ids=range(len(REFUSED)))
async def test_malformed_requests_get_a_json_error_and_close_the_connection(
    service: Service, data: bytes, status: int, code: int, pieces: int, caplog: pytest.LogCaptureFixture
) -> None:
    peer = await service.connect()
    size = -(-len(data) // pieces)
    for start in range(0, len(data), size):
        peer.writer.write(data[start : start + size])
        await asyncio.sleep(0.002 if pieces > 1 else 0)
    response = await peer.response()
    assert (response.status, response.error["code"]) == (status, code)
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Connection"] == "close"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", response.headers["X-Request-Id"])
    assert await peer.read_to_end() == b""
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG or record.exc_info]
    assert (await (await service.connect()).exchange(GET)).status == 200


async def test_malformed_input_is_never_echoed(service: Service) -> None:
    for data in (
        b"<script>secret / HTTP/1.1\r\n\r\n",
        b"GET /<secret> HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nsecret\r\n\r\n",
    ):
        response = await (await service.connect()).exchange(data)
        assert b"secret" not in response.body


async def test_a_client_that_is_still_sending_receives_the_error(service: Service) -> None:
    peer = await service.connect()
    peer.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"a" * 2_000_000)
    assert (await peer.response()).status == 431


async def test_pending_responses_precede_the_error(service: Service) -> None:
    peer = await service.connect()
    await peer.send(head("GET /slow HTTP/1.1", "Host: a"))
    await asyncio.sleep(0.05)
    await peer.send(b"garbage\r\n\r\n")
    assert (await peer.response()).status == 200
    assert (await peer.response()).status == 400
    assert await peer.read_to_end() == b""


async def test_an_unknown_method_is_not_implemented(service: Service) -> None:
    for method in ("FOO", "get", "X-Y"):
        response = await (await service.connect()).exchange(head(f"{method} / HTTP/1.1", "Host: a"))
        assert (response.status, response.error["code"]) == (501, 15001)
        assert response.headers["Connection"] == "close"


# Request heads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "path", "query"),
    [
        ("GET / HTTP/1.1", "/", ""),
        ("GET /a%2Fb/%C3%A9?x=%20+&y HTTP/1.1", "/a%2Fb/%C3%A9", "x=%20+&y"),
        ("GET //a/../b/ HTTP/1.1", "//a/../b/", ""),
        ("GET /a?b?c HTTP/1.1", "/a", "b?c"),
        ("GET http://elsewhere:1/a?b HTTP/1.1", "/a", "b"),
        ("GET http://elsewhere HTTP/1.1", "/", ""),
        ("OPTIONS * HTTP/1.1", "*", ""),
        ("GET /" + "a" * 511 + " HTTP/1.1", "/" + "a" * 511, ""),
    ],
)
async def test_the_request_target_is_passed_unchanged(service: Service, line: str, path: str, query: str) -> None:
    response = await (await service.connect()).exchange(head(line, "Host: a"))
    received = json.loads(response.body)
    assert (received["path"], received["query"]) == (path, query)


@pytest.mark.parametrize("method", ["PROPFIND", "TRACE", "CONNECT"])
async def test_a_method_known_to_the_parser_reaches_the_handler(service: Service, method: str) -> None:
    target = "a:443" if method == "CONNECT" else "/"
    response = await (await service.connect()).exchange(head(f"{method} {target} HTTP/1.1", "Host: a"))
    assert json.loads(response.body)["method"] == method


async def test_a_request_head_at_the_limit_is_accepted(service: Service) -> None:
    fixed = len(head("GET / HTTP/1.1", "Host: a", "X: "))
    for size, status in ((4096, 200), (4097, 431)):
        data = head("GET / HTTP/1.1", "Host: a", "X: " + "a" * (size - fixed))
        assert len(data) == size
        assert (await (await service.connect()).exchange(data)).status == status


async def test_a_too_large_request_head_is_detected_after_another_request(service: Service) -> None:
    peer = await service.connect()
    large = head("GET / HTTP/1.1", "Host: a", *(f"X-{number}: {'a' * 100}" for number in range(50)))
    await peer.send(GET + large)
    assert (await peer.response()).status == 200
    assert (await peer.response()).status == 431


async def test_a_valid_request_id_is_kept_and_others_are_replaced(service: Service) -> None:
    peer = await service.connect()
    for supplied in ("a", "A-b.c_1", "x" * 128):
        assert (await peer.exchange(head("GET / HTTP/1.1", "Host: a", f"X-Request-Id: {supplied}"))).headers[
            "X-Request-Id"
        ] == supplied
    seen = set()
    for supplied in ("", "x" * 129, "a b", "\xe9", "a/b"):
        response = await peer.exchange(head("GET / HTTP/1.1", "Host: a", f"X-Request-Id: {supplied}"))
        seen.add(response.headers["X-Request-Id"])
    assert len(seen) == 5
    assert not seen & {"", "x" * 129, "a b", "\xe9", "a/b"}


async def test_a_slow_request_head_is_408() -> None:
    async with serving(echo, HURRIED) as service:
        slow, silent, second = await service.connect(), await service.connect(), await service.connect()
        assert (await second.exchange(GET)).status == 200
        await second.send(GET[:10])
        for number in range(12):
            await asyncio.sleep(0.03)
            if number < 8:
                await slow.send(GET[number : number + 1])
        for peer in (slow, silent, second):
            response = await peer.response()
            assert (response.status, response.error["code"]) == (408, 10009)
            assert await peer.read_to_end() == b""


async def test_an_idle_connection_is_closed_silently() -> None:
    async with serving(echo, replace(HURRIED, keepalive_timeout=0.2, receive_timeout=2.0)) as service:
        peer = await service.connect()
        assert (await peer.exchange(GET)).status == 200
        assert await peer.read_to_end() == b""


async def test_an_incomplete_request_head_is_not_subject_to_the_idle_timeout() -> None:
    async with serving(echo, replace(HURRIED, keepalive_timeout=0.2, receive_timeout=2.0)) as service:
        peer = await service.connect()
        assert (await peer.exchange(GET)).status == 200
        await peer.send(GET[:10])
        await asyncio.sleep(0.5)
        assert (await peer.exchange(GET[10:])).status == 200


# Bodies ------------------------------------------------------------------------------------------------------


async def test_a_body_is_complete_however_it_is_sent(service: Service) -> None:
    peer = await service.connect()
    fixed = POST + b"Content-Length: 10\r\n\r\n"
    for data in (fixed + b"0123456789", CHUNKED + b"4\r\n0123\r\n6;x=y\r\n456789\r\n0\r\nT: x\r\n\r\n"):
        for pieces in (1, 3, len(data)):
            size = -(-len(data) // pieces)
            for start in range(0, len(data), size):
                peer.writer.write(data[start : start + size])
                await asyncio.sleep(0)
            assert json.loads((await peer.response()).body)["body"] == "0123456789"
    assert json.loads((await peer.exchange(GET)).body)["body"] == ""


async def test_a_body_that_is_too_large_is_rejected(service: Service) -> None:
    chunked = b"".join(b"64\r\n" + b"a" * 100 + b"\r\n" for _ in range(11)) + b"0\r\n\r\n"
    for data in (
        POST + b"Content-Length: 1001\r\n\r\n",
        POST + b"Content-Length: 1001\r\n\r\n" + b"a" * 1001,
        POST + b"Content-Length: 100000000000\r\n\r\n" + b"a" * 300_000,
        CHUNKED + chunked,
        CHUNKED + chunked[:-20],
    ):
        response = await (await service.connect()).exchange(data)
        assert (response.status, response.error["code"]) == (413, 10005)
    assert (
        await (await service.connect()).exchange(POST + b"Content-Length: 1000\r\n\r\n" + b"a" * 1000)
    ).status == 200


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_content_type_without_a_length_is_411(service: Service, version: str) -> None:
    peer = await service.connect()
    typed = head(f"POST /echo HTTP/{version}", "Host: a", "Content-Type: application/json")
    response = await peer.exchange(typed)
    assert (response.status, response.error["code"], response.error["header"]) == (411, 10010, "Content-Length")
    # The following bytes may be a body or a request, so they are not parsed.
    assert response.headers["Connection"] == "close"
    await peer.send(GET)
    assert await peer.read_to_end() == b""


async def test_a_request_without_body_headers_has_no_body(service: Service) -> None:
    peer = await service.connect()
    for lines in ((), ("Content-Type: application/json", "Content-Length: 0")):
        response = await peer.exchange(head("POST /echo HTTP/1.1", "Host: a", *lines))
        assert (response.status, json.loads(response.body)["body"]) == (200, "")


async def test_100_continue_is_sent_only_if_the_body_is_read(service: Service) -> None:
    expecting = b"Expect: 100-continue\r\n"
    peer = await service.connect()
    await peer.send(POST + expecting + b"Content-Length: 2\r\n\r\n")
    assert (await peer.response(bodiless=True)).status == 100
    response = await peer.exchange(b"ok")
    assert json.loads(response.body)["body"] == "ok"
    assert "Connection" not in response.headers
    refused = POST.replace(b"/echo", b"/unread") + expecting + b"Content-Length: 2\r\n\r\n"
    for data in (refused, POST + expecting + b"Content-Length: 1001\r\n\r\n"):
        peer = await service.connect()
        response = await peer.exchange(data)
        assert response.status in (401, 413)
        assert response.headers["Connection"] == "close"
        assert await peer.read_to_end() == b""
    old = await service.connect()
    await old.send(POST.replace(b"1.1", b"1.0") + expecting + b"Content-Length: 2\r\n\r\nok")
    assert (await old.response()).status == 200


async def test_an_unread_body_does_not_close_the_connection(service: Service) -> None:
    peer = await service.connect()
    response = await peer.exchange(POST.replace(b"/echo", b"/unread") + b"Content-Length: 500\r\n\r\n" + b"a" * 100)
    assert response.status == 401
    assert (await peer.exchange(b"a" * 400 + GET)).status == 200


async def test_a_slow_body_is_408() -> None:
    async with serving(echo, HURRIED) as service:
        for data in (POST + b"Content-Length: 5\r\n\r\nab", CHUNKED + b"4\r\nab"):
            peer = await service.connect()
            response = await peer.exchange(data)
            assert (response.status, response.error["code"]) == (408, 10009)
            assert response.headers["Connection"] == "close"
            assert await peer.read_to_end() == b""


async def test_a_body_with_broken_framing_is_rejected_immediately(service: Service) -> None:
    peer = await service.connect()
    await peer.send(CHUNKED + b"4\r\nabcd\r\n")
    await asyncio.sleep(0.05)
    response = await peer.exchange(b"oops\r\n")
    assert (response.status, response.error["code"]) == (400, 10016)
    assert await peer.read_to_end() == b""


async def test_a_client_that_disconnects_during_the_body_is_not_logged(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        peer = await service.connect()
        await peer.send(POST + b"Content-Length: 5\r\n\r\nab")
        await asyncio.sleep(0.02)
        await peer.close()
    await asyncio.sleep(0.05)
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert (await (await service.connect()).exchange(GET)).status == 200


# Responses ---------------------------------------------------------------------------------------------------


async def response_and_rest(data: bytes, make: Callable[[], Response]) -> tuple[Received, bytes]:
    async def handler(_: web.Request) -> Response:
        return make()

    async with serving(handler) as service:
        peer = await service.connect()
        await peer.send(data)
        response = await peer.response(bodiless=data.startswith(b"HEAD"))
        # A second request shows where the first response ended.
        peer.writer.write(b"GET / HTTP/1.0\r\n\r\n")
        return response, await peer.read_to_end()


async def test_every_response_has_the_standard_headers() -> None:
    response, _ = await response_and_rest(
        GET, lambda: Response(200, {"Content-Type": "text/plain", "X": "\xe9"}, b"hello")
    )
    assert response.body == b"hello"
    expected = ["Server", "Date", "Content-Type", "X", "Content-Length"]
    assert list(response.headers) == expected
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", response.headers["Date"])
    assert response.headers["X"] == "\xe9"


async def test_head_has_the_length_of_get_and_no_body() -> None:
    response, read_to_end = await response_and_rest(GET.replace(b"GET", b"HEAD"), lambda: Response(200, {}, b"hello"))
    assert response.headers["Content-Length"] == "5"
    assert read_to_end.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("status", [204, 304])
async def test_some_responses_have_neither_body_nor_length(status: int) -> None:
    response, read_to_end = await response_and_rest(GET, lambda: Response(status, {"ETag": '"x"'}, b"ignored"))
    assert response.status == status
    assert "Content-Length" not in response.headers
    assert read_to_end.startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize(
    ("data", "connection"),
    [
        (GET, None),
        (head("GET / HTTP/1.1", "Host: a", "Connection: close"), "close"),
        (head("GET / HTTP/1.0"), "close"),
        (head("GET / HTTP/1.0", "Connection: keep-alive"), "keep-alive"),
        (head("GET / HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket"), None),
        (head("GET / HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: h2c"), None),
        (head("POST / HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 1") + b"x", None),
        (head("CONNECT a:443 HTTP/1.1", "Host: a"), "close"),
    ],
)
async def test_connections_are_kept_alive_if_the_client_expects_it(
    service: Service, data: bytes, connection: str | None
) -> None:
    peer = await service.connect()
    response = await peer.exchange(data)
    assert response.status == 200
    assert response.headers.get("Connection") == connection
    if connection == "close":
        assert await peer.read_to_end() == b""
    else:
        assert (await peer.exchange(GET)).status == 200


async def test_pipelined_requests_get_responses_in_order(service: Service) -> None:
    peer = await service.connect()
    lines = [head(f"GET /{number} HTTP/1.1", "Host: a") for number in range(100)]
    await peer.send(b"".join(lines))
    for number in range(100):
        assert json.loads((await peer.response()).body)["path"] == f"/{number}"


UPGRADES = (
    ("Connection: Upgrade", "Upgrade: h2c"),
    ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    ("Connection: keep-alive, upgrade", "UPGRADE: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13"),
    ("Connection: Upgrade", "Upgrade: TLS/1.0, HTTP/2.0"),
)
UPGRADING = (
    ("GET", b""),
    ("POST", b"Content-Length: 0\r\n\r\n"),
    ("POST", b"Content-Length: 13\r\n\r\nwith\r\n\r\na gap"),
    ("POST", b"Transfer-Encoding: chunked\r\n\r\n6\r\na\r\n\r\nb\r\n0\r\n\r\n"),
    ("POST", b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n0\r\nT: x\r\n\r\n"),
)


def upgrading(path: str, method: str, body: bytes, *lines: str) -> bytes:
    return head(f"{method} {path} HTTP/1.1", "Host: a", *lines)[: -2 if body else None] + body


async def paths_of(peer: Peer, count: int) -> list[str]:
    return [json.loads((await peer.response()).body)["path"] for _ in range(count)]


@pytest.mark.parametrize("lines", UPGRADES)
@pytest.mark.parametrize(("method", "body"), UPGRADING)
async def test_requests_behind_an_upgrade_get_responses_in_order(
    service: Service, method: str, body: bytes, lines: tuple[str, ...]
) -> None:
    first = upgrading("/first", method, body, *lines)
    data = GET + first + first.replace(b"/first", b"/second") + POST + b"Content-Length: 2\r\n\r\nok"
    paths = ["/", "/first", "/second", "/echo"]
    for cut in range(len(data)):
        peer = await service.connect()
        for part in (data[:cut], data[cut:]):
            peer.writer.write(part)
            await asyncio.sleep(0)
        assert await paths_of(peer, 4) == paths, data[:cut]
        await peer.close()
    peer = await service.connect()
    for index in range(len(data)):
        peer.writer.write(data[index : index + 1])
        await asyncio.sleep(0)
    assert await paths_of(peer, 4) == paths


async def test_more_upgrades_than_the_queue_takes_get_responses_in_order(service: Service) -> None:
    peer = await service.connect()
    await peer.send(
        b"".join(
            upgrading(f"/{number}", *UPGRADING[number % len(UPGRADING)], *UPGRADES[number % len(UPGRADES)])
            for number in range(200)
        )
    )
    assert await paths_of(peer, 200) == [f"/{number}" for number in range(200)]


async def test_a_large_body_of_an_upgrade_is_followed_by_the_next_request() -> None:
    async with serving(echo, replace(SETTINGS, max_body=3_000_000)) as service:
        content = b"\r\n\r\nGET /hidden HTTP/1.1\r\nUpgrade: h2c\r\n\r\n" + b"x" * 2_000_000
        for framing in (
            b"Content-Length: %d\r\n\r\n%s" % (len(content), content),
            b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(content), content),
        ):
            peer = await service.connect()
            await peer.send(upgrading("/first", "POST", framing, *UPGRADES[0]) + GET)
            first, second = await peer.response(), await peer.response()
            assert json.loads(first.body)["body"].encode() == content
            assert json.loads(second.body)["path"] == "/"


async def test_any_mix_of_requests_and_upgrades_in_any_segments_gets_responses_in_order() -> None:
    large = b"ab\r\n\r\n" * 16_667
    shapes = (*UPGRADING, ("POST", b"Content-Length: %d\r\n\r\n%s" % (len(large), large)))
    draw = random.Random(1)

    async with serving(echo, replace(SETTINGS, max_body=1_000_000)) as service:

        async def send(peer: Peer, data: bytes) -> None:
            while data:
                size = draw.choice((1, 3, 50, 400, 5000, 100_000))
                await peer.send(data[:size])
                data = data[size:]
                await asyncio.sleep(0)

        for _ in range(100):
            peer, count = await service.connect(), draw.randint(1, 60)
            requests = [
                upgrading(f"/{number}", *draw.choice(shapes), *draw.choice((*UPGRADES, (), ())))
                for number in range(count)
            ]
            sending = asyncio.create_task(send(peer, b"".join(requests)))
            assert await paths_of(peer, count) == [f"/{number}" for number in range(count)]
            await sending
            await peer.close()


async def test_a_chunked_body_of_empty_lines_behind_an_upgrade_ends_the_connection() -> None:
    async with serving(echo, replace(SETTINGS, max_body=1_000_000)) as service:
        peer = await service.connect()
        content = b"\r\n\r\n" * 200_000
        body = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
        response = await peer.exchange(upgrading("/first", "POST", body, *UPGRADES[0]) + GET)
        assert (response.status, response.headers["Connection"]) == (200, "close")
        assert json.loads(response.body)["body"].encode() == content
        assert await peer.read_to_end() == b""


@pytest.mark.parametrize(
    "first",
    [
        head("GET / HTTP/1.0", "Connection: Upgrade", "Upgrade: h2c"),
        head("GET / HTTP/1.1", "Host: a", "Connection: close, Upgrade", "Upgrade: h2c"),
        head("CONNECT a:443 HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: h2c"),
    ],
)
async def test_the_last_request_of_a_connection_ends_it_in_spite_of_an_upgrade(service: Service, first: bytes) -> None:
    peer = await service.connect()
    response = await peer.exchange(first + GET)
    assert (response.status, response.headers["Connection"]) == (200, "close")
    assert await peer.read_to_end() == b""


async def test_a_malformed_request_behind_an_upgrade_is_400_after_the_response(service: Service) -> None:
    peer = await service.connect()
    await peer.send(upgrading("/first", *UPGRADING[2], *UPGRADES[0]) + b"garbage\r\n\r\n")
    assert await paths_of(peer, 1) == ["/first"]
    assert (await peer.response()).status == 400
    assert await peer.read_to_end() == b""


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b", "\u20ac"])
async def test_an_invalid_response_header_is_500(value: str, caplog: pytest.LogCaptureFixture) -> None:
    response, _ = await response_and_rest(GET, lambda: Response(200, {"Location": value}, b""))
    assert (response.status, response.error["code"]) == (500, 15000)
    assert "Location" not in response.headers
    assert response.headers["X-Request-Id"] in caplog.text


async def test_an_error_in_a_handler_is_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(_: web.Request) -> Response:
        raise LookupError("secret")

    async with serving(handler) as service:
        peer = await service.connect()
        response = await peer.exchange(GET)
        assert (response.status, response.error["code"]) == (500, 15000)
        assert response.headers["X-Request-Id"] in response.error["message"]
        assert b"secret" not in response.body
        assert await peer.read_to_end() == b""
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert response.headers["X-Request-Id"] in record.getMessage()
    assert record.exc_info


async def test_a_connection_error_in_a_handler_is_not_a_client_disconnect() -> None:
    async def handler(_: web.Request) -> Response:
        raise ConnectionRefusedError("the database")

    async with serving(handler) as service:
        assert (await (await service.connect()).exchange(GET)).status == 500


async def test_error_headers_reach_the_client() -> None:
    response, _ = await response_and_rest(GET, lambda: error_response(NotFound(headers={"Allow": "GET"}), "x"))
    assert (response.status, response.headers["Allow"]) == (404, "GET")


async def test_a_client_that_does_not_read_is_disconnected() -> None:
    async def handler(_: web.Request) -> Response:
        return Response(200, {}, b"a" * 30_000_000)

    async with serving(handler, HURRIED) as service:
        peer = await service.connect()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # socket transports have it
        await peer.send(GET)
        await asyncio.sleep(0.2)
        server = service.runner.server
        assert server is not None
        assert server.connections
        async with asyncio.timeout(4):
            while server.connections:  # noqa: ASYNC110 - there is nothing to await
                await asyncio.sleep(0.05)


async def test_a_client_that_reads_slowly_gets_the_complete_response() -> None:
    async def handler(_: web.Request) -> Response:
        return Response(200, {}, b"a" * 20_000_000)

    async with serving(handler, HURRIED) as service:
        peer = await service.connect()
        await peer.send(GET)
        await peer.reader.readuntil(b"\r\n\r\n")
        for _ in range(20):
            await peer.reader.readexactly(1_000_000)
            await asyncio.sleep(0.05)


# Streams -----------------------------------------------------------------------------------------------------


@dataclass
class Source:
    """The chunks of a response, and whether the iterator was closed."""

    chunks: int
    size: int = 1000
    fails_at: int = -1
    closed: bool = False
    yielded: int = 0

    async def read(self) -> AsyncGenerator[bytes, None]:
        try:
            for number in range(self.chunks):
                if number == self.fails_at:
                    raise ConnectionResetError("the database")
                self.yielded += 1
                yield b"" if number == 1 else b"%x" % (number % 16) * self.size
        finally:
            self.closed = True


def stream(source: Source) -> Handler:
    async def response(request: web.Request) -> web.StreamResponse:
        return await send_stream(request, 200, {"Content-Type": "text/csv"}, source.read())

    return response


async def test_a_stream_is_chunked_and_keeps_the_connection() -> None:
    source = Source(5)
    async with serving(stream(source)) as service:
        peer = await service.connect()
        response = await peer.exchange(GET)
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert "Content-Length" not in response.headers
        assert response.body == b"0" * 1000 + b"2" * 1000 + b"3" * 1000 + b"4" * 1000
        assert source.closed
        assert (await peer.exchange(GET)).status == 200


async def test_a_stream_to_an_http_1_0_client_ends_with_the_connection() -> None:
    source = Source(3)
    async with serving(stream(source)) as service:
        peer = await service.connect()
        await peer.send(head("GET / HTTP/1.0", "Connection: keep-alive"))
        data = await peer.read_to_end()
        assert b"Transfer-Encoding" not in data
        assert b"Connection: close\r\n" in data
        assert data.endswith(b"\r\n\r\n" + b"0" * 1000 + b"2" * 1000)


async def test_head_of_a_stream_has_no_body() -> None:
    source = Source(3)
    async with serving(stream(source)) as service:
        peer = await service.connect()
        await peer.send(GET.replace(b"GET", b"HEAD"))
        assert (await peer.response(bodiless=True)).headers["Content-Type"] == "text/csv"
        assert source.closed
        assert (await peer.exchange(GET)).status == 200


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_failing_stream_is_an_incomplete_transfer(version: str, caplog: pytest.LogCaptureFixture) -> None:
    source = Source(10, fails_at=5)
    async with serving(stream(source)) as service:
        peer = await service.connect()
        await peer.send(head(f"GET / HTTP/{version}", "Host: a"))
        with pytest.raises(ConnectionResetError):
            await peer.read_to_end()
    assert source.closed
    assert "failed while its response was sent" in caplog.text


async def test_a_stream_that_fails_before_its_first_chunk_is_an_error() -> None:
    source = Source(10, fails_at=0)
    async with serving(stream(source)) as service:
        assert (await (await service.connect()).exchange(GET)).status == 500


async def test_a_stream_with_an_invalid_header_is_500() -> None:
    source = Source(3)

    async def handler(request: web.Request) -> web.StreamResponse:
        return await send_stream(request, 200, {"X": "a\nb"}, source.read())

    async with serving(handler) as service:
        assert (await (await service.connect()).exchange(GET)).status == 500
        assert source.closed


async def test_a_stream_has_backpressure_and_ends_with_its_client(caplog: pytest.LogCaptureFixture) -> None:
    source = Source(1_000_000, size=100_000)
    async with serving(stream(source)) as service:
        peer = await service.connect()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # socket transports have it
        await peer.send(GET)
        await asyncio.sleep(0.2)
        yielded = source.yielded
        await asyncio.sleep(0.1)
        assert source.yielded == yielded
        peer.writer.transport.abort()
        async with asyncio.timeout(2):
            while not source.closed:  # noqa: ASYNC110 - there is nothing to await
                await asyncio.sleep(0.01)
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


# Shutdown ----------------------------------------------------------------------------------------------------


async def stop_while_busy(settings: Settings, seconds: float) -> tuple[bytes, bytes, float]:
    """Return what a busy and an idle client read while the server stops, and how long stopping takes."""
    started = asyncio.Event()

    async def handler(request: web.Request) -> Response:
        if raw_path(request) == "/slow":
            started.set()
            await asyncio.sleep(seconds)
        return Response(200, {}, b"done")

    async with serving(handler, settings) as service:
        busy, idle = await service.connect(), await service.connect()
        address = service.runner.addresses[0]
        await idle.exchange(GET)
        await busy.send(head("GET /slow HTTP/1.1", "Host: a"))
        await started.wait()
        loop = asyncio.get_running_loop()
        start = loop.time()
        end = asyncio.create_task(service.runner.cleanup())
        idle_data = await idle.read_to_end()
        assert loop.time() - start < 0.2
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)
        busy_data = await busy.read_to_end()
        await end
        return busy_data, idle_data, loop.time() - start


async def test_the_server_waits_for_running_requests() -> None:
    busy_data, left, _ = await stop_while_busy(SETTINGS, 0.3)
    assert busy_data.endswith(b"done")
    assert b"Connection: close\r\n" in busy_data
    assert left == b""


REST = b"0123456789"
PARTIAL = (
    head("POST /echo HTTP/1.1", "Host: a", "Content-Length: 10") + REST,
    CHUNKED + b"4\r\n0123\r\n6;x=y\r\n456789\r\n0\r\nT: x\r\n\r\n",
    upgrading("/echo", "POST", b"Content-Length: 10\r\n\r\n" + REST, *UPGRADES[0]),
)


@pytest.mark.parametrize("data", PARTIAL, ids=("length", "chunked", "upgrade"))
@pytest.mark.parametrize("used", [False, True])
async def test_a_request_that_has_begun_is_served_while_the_server_stops(data: bytes, used: bool) -> None:
    async with serving(echo) as service:
        cuts = range(1, len(data), 3)
        peers = [await service.connect() for _ in cuts]
        for cut, peer in zip(cuts, peers, strict=True):
            if used:
                await peer.exchange(GET)
            await peer.send(data[:cut])
        idle = await service.connect()
        await idle.exchange(GET)
        end = asyncio.create_task(service.runner.cleanup())
        assert await idle.read_to_end() == b""
        for cut, peer in zip(cuts, peers, strict=True):
            await peer.send(data[cut:-1])
        for cut, peer in zip(cuts, peers, strict=True):
            response = await peer.exchange(data[max(cut, len(data) - 1) :])
            assert (response.status, json.loads(response.body)["body"]) == (200, REST.decode()), data[:cut]
            assert response.headers["Connection"] == "close"
            assert await peer.read_to_end() == b""
        await end


async def test_pipelined_requests_are_served_while_the_server_stops() -> None:
    started = asyncio.Event()

    async def handler(request: web.Request) -> Response:
        if raw_path(request) == "/0":
            started.set()
            await asyncio.sleep(0.1)
        return await echo(request)

    async with serving(handler) as service:
        peer = await service.connect()
        await peer.send(b"".join(head(f"GET /{number} HTTP/1.1", "Host: a") for number in range(5)) + PARTIAL[0][:-1])
        await started.wait()
        end = asyncio.create_task(service.runner.cleanup())
        assert await paths_of(peer, 5) == [f"/{number}" for number in range(5)]
        assert (await peer.exchange(PARTIAL[0][-1:])).headers["Connection"] == "close"
        await end


@pytest.mark.parametrize("data", PARTIAL, ids=("length", "chunked", "upgrade"))
async def test_a_request_whose_rest_does_not_arrive_is_408_when_the_server_has_waited(data: bytes) -> None:
    async with serving(echo, replace(SETTINGS, shutdown_timeout=0.4)) as service:
        peers = [await service.connect() for _ in range(len(data) - 1)]
        for cut, peer in enumerate(peers, 1):
            await peer.send(data[:cut])
        left = await service.connect()
        await left.send(data[:-1])
        end = asyncio.create_task(service.runner.cleanup())
        await left.close()
        for cut, peer in enumerate(peers, 1):
            response = await peer.response()
            assert (response.status, response.error["code"]) == (408, 10009), data[:cut]
            assert response.headers["Connection"] == "close"
            assert await peer.read_to_end() == b""
        await end


async def test_a_client_that_disconnects_does_not_keep_the_server_from_stopping() -> None:
    async with serving(echo, replace(SETTINGS, shutdown_timeout=60.0)) as service:
        for cut in (5, len(PARTIAL[0]) - 1):
            await (await service.connect()).send(PARTIAL[0][:cut])
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(service.runner.cleanup())
        await asyncio.sleep(0.05)
        assert not stopping.done()
        for peer in service.peers:
            await peer.close()
        async with asyncio.timeout(5):
            await stopping


async def test_a_request_that_exceeds_the_shutdown_timeout_is_aborted() -> None:
    busy_data, _, took = await stop_while_busy(replace(SETTINGS, shutdown_timeout=0.4), 30.0)
    assert busy_data == b""
    assert took < 1.0


async def test_an_application_starts_and_stops_with_its_runner() -> None:
    events: list[str] = []

    async def life(_: web.Application) -> AsyncIterator[None]:
        events.append("start")
        yield
        events.append("stop")

    app = web.Application()
    app.cleanup_ctx.append(life)
    protocol.install(app, SETTINGS, RequestIds(), Counter())
    runner = web.AppRunner(app)
    await runner.setup()
    assert events == ["start"]
    await runner.cleanup()
    assert events == ["start", "stop"]
