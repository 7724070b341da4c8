"""A replica that answers reads: whether it has all that was acknowledged, and how a write waits until it has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from time import monotonic
from typing import Any, TypeVar

import asyncpg
from asyncpg.exceptions import (
    AdminShutdownError,
    CannotConnectNowError,
    CrashShutdownError,
    InterfaceError,
    InternalClientError,
    PostgresConnectionError,
    SerializationError,
)

from pegboard import errors
from pegboard.errors import ApiError
from pegboard.postgres.connections import Connections
from pegboard.postgres.pool import Pool

T = TypeVar("T")

log = logging.getLogger("pegboard")

_LEASE = 0.25
_MARGIN = 0.01  # seconds by which the clocks of two machines may come apart within a lease
_PACE = _LEASE / 3
_FIRST_POLL, _LONGEST_POLL = 0.001, 0.02

# What a replica may raise that the primary would not: it is gone, or breaks off a read that holds up what it replays.
_FALLEN = (
    ApiError,
    SerializationError,
    AdminShutdownError,
    CrashShutdownError,
    CannotConnectNowError,
    PostgresConnectionError,
    InterfaceError,
    InternalClientError,
    OSError,
)

_POSITION = "SELECT pg_current_wal_flush_lsn()::text"
# A server that was promoted, or a primary that stands in for a replica, has all that it wrote itself.
_HAS = """
SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END
    >= $1::text::pg_lsn"""


class Replica(Connections):
    """Lend connections as a pool does: a replica's, as long as no read can miss what any process has acknowledged.

    Otherwise those of `reads` are lent, which lead to the primary. Whoever reads from the replica knows that it had,
    within a lease, all that was committed. Whoever writes answers once it has that write, or after a lease: by then,
    nobody reads from a replica that lacks it. So the processes need not know of each other. `primary` and `replica` are
    asked how far each server is; `own` lends the replica's connections.
    """

    def __init__(self, own: Pool, reads: Pool, primary: Pool, replica: Pool) -> None:
        self.most = own.most
        self.timeout = own.timeout
        self._own = own
        self._reads = reads
        self._primary = primary
        self._probe = replica
        self._until = 0.0
        self._has = 0.0
        self._writers = 0
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        self._behind = False
        self._watching: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Begin to watch how far the replica is."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def open(self) -> None:
        """Open the first connection to the primary, unless there is one: without the replica, reads go there."""
        await self._reads.open()

    async def close(self) -> None:
        """Stop watching, and close all connections."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await asyncio.gather(*(pool.close() for pool in (self._own, self._reads, self._primary, self._probe)))

    def is_current(self) -> bool:
        """Tell whether a read that begins now may go to the replica."""
        return monotonic() < self._until

    @property
    def size(self) -> int:
        """Return how many connections there are, to either server."""
        return self._own.size + self._reads.size

    @property
    def idle(self) -> int:
        """Return how many of them nobody uses."""
        return self._own.idle + self._reads.idle

    @property
    def waiting(self) -> int:
        """Return how many wait for a connection."""
        return self._own.waiting + self._reads.waiting

    @property
    def waits(self) -> int:
        """Return how often anybody had to wait."""
        return self._own.waits + self._reads.waits

    @property
    def timeouts(self) -> int:
        """Return how often anybody waited in vain."""
        return self._own.timeouts + self._reads.timeouts

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Run one statement and return its rows."""
        return await self._read(lambda pool: pool.fetch(sql, *args))

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """Run one statement and return its first row, or None."""
        return await self._read(lambda pool: pool.fetchrow(sql, *args))

    async def execute(self, sql: str, *args: Any) -> str:
        """Run one statement, or without `args` several, and return the status of the last."""
        return await self._read(lambda pool: pool.execute(sql, *args))

    def transaction(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Lend a connection inside a transaction: committed at the end, rolled back by an exception."""
        return self._pool().transaction()

    def snapshot(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Lend a connection inside a transaction that sees everything as it was when it began."""
        return self._pool().snapshot()

    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Lend a connection for anything; what was set in its session is taken back afterwards."""
        return self._pool().connection()

    def _pool(self) -> Pool:
        return self._own if self.is_current() else self._reads

    async def _read(self, work: Callable[[Pool], Awaitable[T]]) -> T:
        """Do a read; where the replica fails, do it again on the primary, and leave the replica until it is well."""
        if not self.is_current():
            return await work(self._reads)
        try:
            return await work(self._own)
        except _FALLEN as error:
            if isinstance(error, ApiError) and not isinstance(error, errors.DatabaseUnavailable):
                raise
            self._until = 0.0
            return await work(self._reads)

    async def settle(self) -> None:
        """Wait until no read can miss what was committed before this call: at most a lease."""
        committed = monotonic()
        self._writers += 1
        self._wanted.set()
        try:
            async with asyncio.timeout(_LEASE):
                while self._has < committed:
                    await self._news.wait()
        except TimeoutError:
            pass
        finally:
            self._writers -= 1

    async def _watch(self) -> None:
        while True:
            asked = monotonic()
            try:
                async with asyncio.timeout(_LEASE):
                    await self._reach()
            except (ApiError, asyncpg.PostgresError, InterfaceError, OSError) as error:
                self._note(error)
                await asyncio.sleep(_PACE)
                continue
            self._has, self._until = asked, asked + _LEASE - _MARGIN
            self._note(None)
            news, self._news = self._news, asyncio.Event()
            news.set()
            # Those who have waited go on now; whoever is left wrote while it was being asked.
            await asyncio.sleep(0)
            if not self._writers:
                self._wanted.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PACE):
                        await self._wanted.wait()

    async def _reach(self) -> None:
        """Wait until the replica has what the primary has now."""
        position, pause = await self._primary.fetchval(_POSITION), _FIRST_POLL
        while not await self._probe.fetchval(_HAS, position):
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL)

    def _note(self, error: Exception | None) -> None:
        """Tell once that the replica cannot be used, and once that it can again."""
        if error is not None and not self._behind and not self.is_current():
            said = (
                "is more than a quarter of a second behind" if isinstance(error, TimeoutError) else "does not respond"
            )
            log.warning("the replica %s: reads go to the primary, and responses to writes are delayed", said)
            self._behind = True
        elif error is None and self._behind:
            log.warning("the replica has caught up: reads go there again")
            self._behind = False
