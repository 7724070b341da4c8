"""Where heads and bodies end in what a connection receives."""

from __future__ import annotations

from aiohttp import hdrs
from aiohttp.http import RawRequestMessage

_WORD = b"upgrade"
_KEPT = len(_WORD) - 1
_HEAD_END = b"\r\n\r\n"
_MAX_PIECES = 64
"""The pieces of a chunked body; each costs as much time as a small request."""


class Pieces:
    """Divide what a connection receives where a head or a body ends, once `Upgrade` has occurred in it.

    aiohttp's parser drops the data behind a request with an `Upgrade` that it does not support, such as the next
    request. A chunked body ends, as a head does, with an empty line. After too many of them it is not divided any more,
    and the connection must be closed after the response: `exhausted`.
    """

    __slots__ = ("_before", "_count", "_last", "_length", "_rest", "_start", "divides", "in_tunnel")

    def __init__(self) -> None:
        self.divides = False
        self.in_tunnel = False
        """Whether the last request was a CONNECT, which may be followed by anything."""
        self._length: int | None = None
        self._count = 0
        self._before = self._last = self._rest = b""
        self._start = 0

    def __bool__(self) -> bool:
        """Return whether there is data that `next` has not returned."""
        return self._start < len(self._rest)

    @property
    def exhausted(self) -> bool:
        """Return whether a body has too many pieces."""
        return self._count > _MAX_PIECES

    def add(self, data: bytes, received: int | None) -> None:
        """Add received data; `received` is how much there is before it of a body that is incomplete."""
        self._before = b"" if self._start < len(self._rest) else self._last
        self._last = data[-_KEPT:] if len(data) >= _KEPT else (self._last + data)[-_KEPT:]
        if not self.divides and self._may_have_head(data, received):
            self.divides = _WORD in (self._before + data).lower()
        if self.divides:
            self._rest, self._start = self._rest[self._start :] + data, 0

    def _may_have_head(self, data: bytes, received: int | None) -> bool:
        if received is None:
            return True
        if self._length is not None and received + len(data) <= self._length:
            return False
        return data.rfind(b" HTTP/1.") >= 0

    def next(self, received: int | None) -> bytes:
        """Return the data up to the next end; `received` is how much there is of a body that is incomplete."""
        start = self._start
        if self.exhausted:
            self._start = len(self._rest)
        elif received is not None and self._length is not None:
            self._start = start + max(1, self._length - received)
        else:
            self._start = self._after_empty_line(start)
            self._count += received is not None and bool(self)
        return self._rest[start : self._start]

    def follow(self, request: RawRequestMessage) -> None:
        """Continue behind the head of a request whose body is incomplete."""
        self._count = 0
        length = request.headers.get(hdrs.CONTENT_LENGTH)
        self._length = None if length is None else int(length)
        self.in_tunnel = request.method == hdrs.METH_CONNECT

    def _after_empty_line(self, start: int) -> int:
        before = self._before[1 - len(_HEAD_END) :] if start == 0 else b""
        crossing = (before + self._rest[: len(_HEAD_END) - 1]).find(_HEAD_END) if before else -1
        if crossing >= 0:
            return crossing + len(_HEAD_END) - len(before)
        found = self._rest.find(_HEAD_END, start)
        return len(self._rest) if found < 0 else found + len(_HEAD_END)
