"""Requests and responses: what is read from a connection, and how an answer is written to it."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from pegboard import errors, rendering
from pegboard.errors import ApiError, ErrorCode

log = logging.getLogger("pegboard")

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_BODILESS = frozenset((204, 304))
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_AT_ONCE = 64 * 1024
_BLOCK = 64 * 1024
_RESET = struct.pack("ii", 1, 0)


class BrokenBody(TimeoutError):
    """Say that the rest of a body will not come.

    A `TimeoutError`, as that is what aiohttp takes in silence while it waits for the rest of a body nobody has read.
    """


class Request(web.BaseRequest):
    """Hold one request; `client`, `plugin` and `template` are filled in on its way.

    `traceparent` says which trace it belongs to, as the header of that name does (W3C Trace Context).
    `fault` is what is wrong with its head, if anything is; `closing` says that its connection ends with its answer.
    `receiving` is set while its body is awaited, `flowing` while its answer is streamed; `since` is when its time began
    to run, `cancelled` how often it was cancelled as that was over.
    """

    id: str = ""
    client: Any = None
    plugin: str = ""
    template: str = ""
    received: float = 0.0
    receive_timeout: float = 30.0
    traceparent: str | None = None
    fault: ErrorCode | None = None
    closing: bool = False
    receiving: bool = False
    flowing: bool = False
    since: float = 0.0
    cancelled: int = 0
    _flowed: int = 0

    @property
    def raw_path(self) -> str:
        """Return the path as it was sent, percent-encoded and without the query; `*` for `OPTIONS *`."""
        return self._rel_url.raw_path or "/"

    @property
    def raw_query(self) -> str:
        """Return the query as it was sent, percent-encoded and without its `?`."""
        return self._rel_url.raw_query_string

    async def body(self) -> bytes:
        """Return the whole body, empty if there is none.

        Only now is a client that waits for it (`Expect: 100-continue`) told to send it.
        Raises `ApiError` 411 where the head has its type but no length (RFC 9110 §8.6), 413 for one that is too large,
        408 for one that is too slow and 400 for one that is framed wrongly; `ConnectionError` when the client is gone.
        """
        if self._read_bytes is None:
            self._read_bytes = await self._receive()
        return self._read_bytes

    async def blocks(self, most: int) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes, in blocks of 64 KiB and more but for the last; nothing of it is kept.

        Each block has the time that else a whole body has. Raises as `body` does, 413 for more than `most` bytes.
        """
        self._check_length(most)
        size = 0
        self._invite()
        while block := await self._block():
            size += len(block)
            if size > most:
                raise self._too_large(most)
            yield block

    async def _block(self) -> bytes:
        parts, size = [], 0
        self.receiving = True
        try:
            async with asyncio.timeout(self.receive_timeout):
                while size < _BLOCK and (part := await self._payload.readany()):
                    parts.append(part)
                    size += len(part)
        except (OSError, RuntimeError, web.RequestPayloadError) as error:
            raise self._broken(error) from error
        finally:
            self.receiving = False
        return b"".join(parts)

    def _check_length(self, most: int) -> None:
        length = self._message.headers.get(hdrs.CONTENT_LENGTH)
        if length is None:
            self._check_announced()
        elif int(length) > most:
            raise self._too_large(most)

    async def _receive(self) -> bytes:
        payload, most = self._payload, self._client_max_size
        self._check_length(most)
        if payload.is_eof() and payload.total_bytes <= most:
            return payload.read_nowait()
        blocks, size = [], 0
        self.receiving = True
        try:
            self._invite()
            async with asyncio.timeout(self.receive_timeout):
                while size <= most and (block := await payload.readany()):
                    blocks.append(block)
                    size += len(block)
        except (OSError, RuntimeError, web.RequestPayloadError) as error:
            raise self._broken(error) from error
        finally:
            self.receiving = False
        if size > most:
            raise self._too_large(most)
        return b"".join(blocks)

    def _check_announced(self) -> None:
        """Refuse a head that HTTP takes for one without a body, though its client means to send one."""
        headers = self._message.headers
        if hdrs.CONTENT_TYPE in headers and hdrs.TRANSFER_ENCODING not in headers:
            # What follows may be that body.
            self.closing = True
            raise ApiError(errors.LENGTH_REQUIRED, header="Content-Length")

    def _invite(self) -> None:
        """Tell a client that waits for it to send the body; one of HTTP/1.0 knows no such thing."""
        expects = hdrs.EXPECT in self._message.headers and self._version >= HttpVersion11
        transport = self.transport
        if expects and transport is not None and not self._payload.is_eof():
            transport.write(_CONTINUE)

    def _too_large(self, most: int) -> ApiError:
        self.closing = not self._payload.is_eof()
        return ApiError(errors.BODY_TOO_LARGE, f"The body is larger than {most} bytes.")

    def _broken(self, error: Exception) -> Exception:
        """Return what to raise for an `error` that ended the reading of the body."""
        if self.transport is None:
            return ConnectionResetError("The client went away.")
        self.closing = True
        if isinstance(error, BrokenBody) or not isinstance(error, TimeoutError):
            return ApiError(errors.BAD_REQUEST, "The body is not framed as HTTP asks.")
        self._payload.set_exception(BrokenBody())
        return ApiError(errors.TOO_SLOW)

    def stays_open(self) -> bool:
        """Return whether the connection can serve another request after this one.

        It cannot where the client awaits a word on its body that it never got: whether the body follows is unknown.
        """
        protocol = self._protocol
        if self._message.should_close or self.closing or protocol._close or protocol._force_close:
            return False
        return self._payload.is_eof() or hdrs.EXPECT not in self._message.headers

    @property
    def sent_bytes(self) -> int:
        """Return how many bytes were written so far, the head included."""
        return self._payload_writer.output_size

    def send(self, data: bytes) -> None:
        """Write `data`; raises `ConnectionError` when the client is gone."""
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("The client went away.")
        transport.write(data)
        self._payload_writer.output_size += len(data)

    async def sent(self) -> None:
        """Wait until the client has taken most of what was written; raises `ConnectionError` when it is gone."""
        if self._protocol.writing_paused:
            await self._protocol._drain_helper()

    def has_flowed(self) -> bool:
        """Tell whether something was written since this was last asked, or the client has yet to take what was."""
        before, self._flowed = self._flowed, self._payload_writer.output_size
        return self._flowed != before or self._protocol.writing_paused

    def half_close(self) -> None:
        """Tell a client that may still be sending that its answer is complete, before the connection ends."""
        transport = self.transport
        if transport is not None and not self._payload.is_eof() and transport.can_write_eof():
            transport.write_eof()

    def cut(self) -> None:
        """Reset the connection: closed in the usual way, half an answer could look whole."""
        transport = self.transport
        if transport is not None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()


class Response:
    """Hold one answer.

    `Date`, `Server`, `X-Content-Type-Options`, `Connection` and `Content-Length` are added as it is written, all of it
    in one piece.
    """

    __slots__ = ("body", "headers", "keep_alive", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.keep_alive = False

    async def prepare(self, request: Request) -> None:
        """Write the answer to `request`; one with a header that cannot be sent is replaced by 500."""
        self.keep_alive = keep_alive = request.stays_open()
        try:
            head = self._head(request, keep_alive)
        except ValueError as error:
            await self._replace(request, error)
            return
        body = b"" if request._method == "HEAD" or self.status in _BODILESS else self.body
        if len(body) <= _AT_ONCE:
            request.send(head + body)
        else:
            request.send(head)
            request.send(body)
        if not keep_alive:
            request.half_close()
        # Asked here too, as it is rarely so and a coroutine more would be made for every answer.
        if request._protocol._paused:
            await request.sent()

    async def write_eof(self) -> None:
        """Do nothing: `prepare` has written everything."""

    def _head(self, request: Request, keep_alive: bool) -> bytes:
        framing = "" if self.status in _BODILESS else f"Content-Length: {len(self.body)}\r\n"
        if not keep_alive or request._version is not HttpVersion11:
            framing = _connection(request, keep_alive) + framing
        return encode_head(self.status, self.headers, framing)

    async def _replace(self, request: Request, error: ValueError) -> None:
        log.error("request %s: its answer has a header that cannot be sent", request.id, exc_info=error)
        await error_response(ApiError(errors.INTERNAL), request.id).prepare(request)


class Stream(Response):
    """Hold an answer whose body is made while it is sent.

    A fault on the way resets the connection, so that what was sent never looks whole. `chunks` is closed in any case.
    `length` is how many bytes there will be, where that is known. `ended` is called when all is done.
    """

    __slots__ = ("_chunks", "_first", "_length", "ended")

    def __init__(
        self,
        status: int,
        headers: dict[str, str],
        chunks: AsyncGenerator[bytes, None],
        first: bytes = b"",
        length: int | None = None,
    ) -> None:
        super().__init__(status, headers, b"")
        self.ended: Callable[[], object] | None = None
        self._chunks = chunks
        self._first = first
        self._length = length

    @classmethod
    async def begin(
        cls, status: int, headers: dict[str, str], chunks: AsyncGenerator[bytes, None], length: int | None = None
    ) -> Stream:
        """Return a stream whose first chunk is at hand: what fails before it is still told as an error."""
        return cls(status, headers, chunks, await anext(chunks, b""), length)

    async def prepare(self, request: Request) -> None:
        """Write the answer to `request`, no faster than the client takes it."""
        chunked = request.version >= HttpVersion11 and self._length is None
        self.keep_alive = (chunked or self._length is not None) and request.stays_open()
        framing = _connection(request, self.keep_alive) + ("Transfer-Encoding: chunked\r\n" if chunked else "")
        if self._length is not None:
            framing += f"Content-Length: {self._length}\r\n"
        try:
            request.send(encode_head(self.status, self.headers, framing))
            if request.method != "HEAD":
                await self._pump(request, chunked)
            if not self.keep_alive:
                request.half_close()
        except ValueError as error:
            await self._replace(request, error)
        finally:
            try:
                await self._chunks.aclose()
            finally:
                if self.ended is not None:
                    self.ended()

    async def _pump(self, request: Request, chunked: bool) -> None:
        try:
            sent = len(self._first)
            await _write_chunk(request, self._first, chunked)
            async for chunk in self._chunks:
                sent += len(chunk)
                await _write_chunk(request, chunk, chunked)
            if self._length not in (None, sent):
                raise EOFError(f"the answer has {sent} bytes, not {self._length}")
            if chunked:
                request.send(b"0\r\n\r\n")
        except BaseException as error:
            if request.transport is not None and isinstance(error, Exception):
                log.error("request %s failed while its answer was sent", request.id, exc_info=error)
            request.cut()
            if isinstance(error, Exception):
                raise ConnectionResetError("The answer was broken off.") from error
            raise


async def _write_chunk(request: Request, chunk: bytes, chunked: bool) -> None:
    # An empty chunk would be the last one.
    if chunk:
        request.send(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
        await request.sent()


def error_response(error: ApiError, request_id: str) -> Response:
    """Return the answer that tells `error`; one of 500 and above names the request, for whoever looks into the log."""
    entries = [fault.as_json() for fault in error.faults]
    if error.status >= 500:
        for entry in entries:
            entry["message"] = f"{entry['message']} The request was {request_id}."
    headers = {
        "Content-Type": "application/json",
        "X-Request-Id": request_id,
        "Cache-Control": "no-store",
        **error.headers,
    }
    return Response(error.status, headers, rendering.dumps({"errors": entries}))


def encode_head(status: int, headers: dict[str, str], framing: str) -> bytes:
    """Return the head of an answer; raises `ValueError` for a header that would break it."""
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    lines = len(headers)
    if fields.count("\n") != lines or fields.count("\r") != lines or "\0" in fields:
        raise ValueError("a header holds a line break or a NUL")
    status_line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"
    return f"{status_line}{_stamp(int(time()))}{fields}{framing}\r\n".encode("latin-1")


def _connection(request: Request, keep_alive: bool) -> str:
    if not keep_alive:
        return "Connection: close\r\n"
    return "" if request._version >= HttpVersion11 else "Connection: keep-alive\r\n"


@lru_cache(maxsize=2)
def _stamp(second: int) -> str:
    """Return the headers that are the same for every answer of one second."""
    return f"Server: Pegboard\r\nDate: {formatdate(second, usegmt=True)}\r\nX-Content-Type-Options: nosniff\r\n"
