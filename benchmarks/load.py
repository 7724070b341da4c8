"""The load: connections in a separate process that each send the next request as soon as they have a response."""

from __future__ import annotations

import asyncio
import gc
import itertools
import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from time import perf_counter_ns
from types import TracebackType
from typing import cast

import uvloop

UNIQUE = b"0123456789unique"
"""A placeholder in a request for sixteen characters that differ each time it is sent."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_NO_BODY = (204, 304)


@dataclass(frozen=True, slots=True)
class Job:
    """Describe the requests to send, and the status that counts as success."""

    port: int
    requests: Sequence[bytes]
    status: int
    connections: int
    seconds: float
    warmup: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold the results of a measurement; latencies in seconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    slowest: float
    failures: dict[str, int]

    @property
    def rate(self) -> float:
        """Return the requests per second."""
        return self.requests / self.seconds


class Load:
    """Run one job in a child process: entering warms up, and `run` measures.

    No request is in progress in between, so counters read right before and after `run` include only its requests.
    """

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_child, args=(job, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Load:
        self._pipe.recv()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join()

    def run(self) -> Outcome:
        """Send requests for the duration of the job."""
        self._pipe.send("go")
        outcome: Outcome = self._pipe.recv()
        return outcome


class Framer:
    """Find the end of a response, by Content-Length or chunks."""

    __slots__ = ("_buffer", "_chunked", "_missing", "status")

    def __init__(self) -> None:
        self.status = 0
        self._buffer = b""
        self._missing = 0
        self._chunked = False

    def feed(self, data: bytes) -> bool:
        """Consume received data; return whether the response is complete. Raises `ValueError` for a malformed one."""
        if self._chunked:
            return self._chunks(data)
        if self._missing:
            return self._body(self._missing - len(data))
        if self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = data
            return False
        self._buffer = b""
        self.status = int(data[9:12])
        received = len(data) - end - 4
        if length := _LENGTH.search(data, 0, end + 2):
            return self._body(0 if self.status in _NO_BODY else int(length[1]) - received)
        if _CHUNKED.search(data, 0, end + 2):
            self._chunked = True
            return self._chunks(data[end + 4 :])
        if self.status not in _NO_BODY:
            raise ValueError("a response without length")
        return True

    def _body(self, missing: int) -> bool:
        if missing < 0:
            raise ValueError("a response longer than its length")
        self._missing = missing
        return not missing

    def _chunks(self, data: bytes) -> bool:
        # `_missing` is the number of outstanding bytes of the current chunk, including its CRLF.
        if self._missing >= len(data):
            self._missing -= len(data)
            return False
        data = self._buffer + data[self._missing :]
        self._missing = 0
        position = 0
        while (end := data.find(b"\r\n", position)) >= 0:
            size = int(data[position:end].partition(b";")[0], 16)
            following = end + size + 4
            if not size:
                # The last chunk, which must be complete; no service here sends trailers.
                if following > len(data):
                    break
                self._buffer, self._chunked = b"", False
                return True
            if following >= len(data):
                self._buffer, self._missing = b"", following - len(data)
                return False
            position = following
        self._buffer = data[position:]
        return False


class Connection(asyncio.Protocol):
    """Keep one connection busy from `start` until the deadline."""

    def __init__(self, requests: Iterator[bytes], status: int) -> None:
        self.latencies: list[int] = []
        self.failures: Counter[str] = Counter()
        self._requests = requests
        self._status = status
        self._framer = Framer()
        self._began = self._deadline = 0
        self._done: Callable[[], None] = _no_callback

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        # uvloop's transports implement asyncio.Transport, but are not subclasses of it.
        self._transport = cast(asyncio.Transport, transport)

    def start(self, deadline: int, done: Callable[[], None]) -> None:
        """Send until `deadline`, on the clock of `perf_counter_ns`; then call `done`."""
        self._deadline = deadline
        self._done = done
        self.latencies.clear()
        self.failures.clear()
        if self._transport.is_closing():
            self._fail("closed")
        else:
            self._send()

    def data_received(self, data: bytes) -> None:  # noqa: D102
        try:
            complete = self._framer.feed(data)
        except ValueError as error:
            self._transport.abort()
            self._fail(str(error))
            return
        if not complete:
            return
        now = perf_counter_ns()
        self.latencies.append(now - self._began)
        if self._framer.status != self._status:
            self.failures[str(self._framer.status)] += 1
        if now < self._deadline:
            self._send()
        else:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self._fail("closed")

    def _send(self) -> None:
        request = next(self._requests)
        self._began = perf_counter_ns()
        self._transport.write(request)

    def _fail(self, reason: str) -> None:
        if self._done is not _no_callback:
            self.failures[reason] += 1
            self._finish()

    def _finish(self) -> None:
        done, self._done = self._done, _no_callback
        done()


def _no_callback() -> None:
    """Do nothing: no callback is set."""


def _cycle(requests: Sequence[bytes]) -> Iterator[bytes]:
    prefix = os.urandom(4).hex().encode()
    parts = [request.partition(UNIQUE) for request in requests]
    numbers = itertools.count()
    for head, marker, tail in itertools.cycle(parts):
        yield b"%b%b%08x%b" % (head, prefix, next(numbers), tail) if marker else head


async def _phase(connections: Sequence[Connection], seconds: float) -> float:
    """Keep all connections busy for `seconds`; return the time until the last response."""
    finished = asyncio.Event()
    busy = len(connections)

    def done() -> None:
        nonlocal busy
        busy -= 1
        if not busy:
            finished.set()

    began = perf_counter_ns()
    for connection in connections:
        connection.start(began + int(seconds * 1e9), done)
    await finished.wait()
    return (perf_counter_ns() - began) / 1e9


async def _run(job: Job, pipe: Pipe) -> None:
    requests = _cycle(job.requests)
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: Connection(requests, job.status), "127.0.0.1", job.port))[1]
        for _ in range(job.connections)
    ]
    await _phase(connections, job.warmup)
    # Garbage collections in this process would add to the slowest latencies.
    gc.collect()
    gc.disable()
    pipe.send("warm")
    pipe.recv()
    seconds = await _phase(connections, job.seconds)
    pipe.send(_outcome(connections, seconds))


def _outcome(connections: Sequence[Connection], seconds: float) -> Outcome:
    latencies = sorted(latency / 1e9 for connection in connections for latency in connection.latencies)
    failures: Counter[str] = Counter()
    for connection in connections:
        failures.update(connection.failures)
    return Outcome(
        requests=len(latencies),
        seconds=seconds,
        p50=_percentile(latencies, 0.50),
        p99=_percentile(latencies, 0.99),
        slowest=_percentile(latencies, 1.0),
        failures=dict(failures),
    )


def _percentile(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")


def _child(job: Job, pipe: Pipe) -> None:
    uvloop.run(_run(job, pipe))
