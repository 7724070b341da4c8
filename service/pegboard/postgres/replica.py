"""Reads from a replica, as long as it has all acknowledged writes, and how writes wait for it."""

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
_MARGIN = 0.01  # seconds by which the clocks of two machines may drift apart within a lease
_CHECK_INTERVAL = _LEASE / 3
_FIRST_POLL, _LONGEST_POLL = 0.001, 0.02

# Errors of a replica that the primary would not raise: it is unavailable, or cancels a read that blocks its replay.
_REPLICA_ERRORS = (
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
# A server that was promoted, or a primary in the role of a replica, has all that it wrote itself.
_HAS_POSITION = """
SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END
    >= $1::text::pg_lsn"""


class Replica(Connections):
    """Provide connections to a replica, as long as its reads see all writes that any process has acknowledged.

    Otherwise, provide those of `reads`, which are to the primary. A process reads from the replica only if, within a
    lease, the replica had everything that was committed. A process responds to a write once the replica has it, or
    after a lease: by then, no process reads from a replica that does not have it. Therefore the processes need not
    communicate. `primary` and `replica` are used to query the position of each server; `own` has the replica's
    connections.
    """

    def __init__(self, own: Pool, reads: Pool, primary: Pool, replica: Pool) -> None:
        self.max_size = own.max_size
        self.timeout = own.timeout
        self._own = own
        self._reads = reads
        self._primary = primary
        self._probe = replica
        self._lease_until = 0.0
        self._current_at = 0.0
        self._writers = 0
        self._writer_waits = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._behind = False
        self._watching: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Start watching the position of the replica."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def open(self) -> None:
        """Open the first connection to the primary, unless there is one, as reads go there without the replica."""
        await self._reads.open()

    async def close(self) -> None:
        """Stop watching, and close all connections."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await asyncio.gather(*(pool.close() for pool in (self._own, self._reads, self._primary, self._probe)))

    def is_current(self) -> bool:
        """Return whether a read that begins now may go to the replica."""
        return monotonic() < self._lease_until

    @property
    def size(self) -> int:
        """Return the number of connections to both servers."""
        return self._own.size + self._reads.size

    @property
    def idle(self) -> int:
        """Return the number of idle connections."""
        return self._own.idle + self._reads.idle

    @property
    def waiting(self) -> int:
        """Return the number of calls waiting for a connection."""
        return self._own.waiting + self._reads.waiting

    @property
    def waits(self) -> int:
        """Return the number of calls that had to wait."""
        return self._own.waits + self._reads.waits

    @property
    def timeouts(self) -> int:
        """Return the number of waits that timed out."""
        return self._own.timeouts + self._reads.timeouts

    @property
    def retries(self) -> int:
        """Return the number of retries of statements."""
        return self._own.retries + self._reads.retries

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Run one statement and return its rows."""
        return await self._read(lambda pool: pool.fetch(sql, *args))

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """Run one statement and return its first row, or None."""
        return await self._read(lambda pool: pool.fetchrow(sql, *args))

    async def execute(self, sql: str, *args: Any) -> str:
        """Run one statement, or several without `args`, and return the status of the last."""
        return await self._read(lambda pool: pool.execute(sql, *args))

    def transaction(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Provide a connection inside a transaction: committed at the end, rolled back by an exception."""
        return self._pool().transaction()

    def snapshot(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Provide a connection inside a transaction that sees one snapshot of the database."""
        return self._pool().snapshot()

    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Provide a connection for any use; its session is reset afterwards."""
        return self._pool().connection()

    def _pool(self) -> Pool:
        return self._own if self.is_current() else self._reads

    async def _read(self, work: Callable[[Pool], Awaitable[T]]) -> T:
        """Run a read; if the replica fails, retry on the primary, and avoid the replica until it works again."""
        if not self.is_current():
            return await work(self._reads)
        try:
            return await work(self._own)
        except _REPLICA_ERRORS as error:
            if isinstance(error, ApiError) and not isinstance(error, errors.DatabaseUnavailable):
                raise
            self._lease_until = 0.0
            return await work(self._reads)

    async def wait_until_visible(self) -> None:
        """Wait until all reads see what was committed before this call: for a lease at most."""
        committed = monotonic()
        self._writers += 1
        self._writer_waits.set()
        try:
            async with asyncio.timeout(_LEASE):
                while self._current_at < committed:
                    await self._caught_up.wait()
        except TimeoutError:
            pass
        finally:
            self._writers -= 1

    async def _watch(self) -> None:
        while True:
            started = monotonic()
            try:
                async with asyncio.timeout(_LEASE):
                    await self._catch_up()
            except (ApiError, asyncpg.PostgresError, InterfaceError, OSError) as error:
                self._report(error)
                await asyncio.sleep(_CHECK_INTERVAL)
                continue
            self._current_at, self._lease_until = started, started + _LEASE - _MARGIN
            self._report(None)
            caught_up, self._caught_up = self._caught_up, asyncio.Event()
            caught_up.set()
            # The waiting writers continue now; any that are left wrote during the check.
            await asyncio.sleep(0)
            if not self._writers:
                self._writer_waits.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_CHECK_INTERVAL):
                        await self._writer_waits.wait()

    async def _catch_up(self) -> None:
        """Wait until the replica has what the primary has now."""
        position, pause = await self._primary.fetchval(_POSITION), _FIRST_POLL
        while not await self._probe.fetchval(_HAS_POSITION, position):
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL)

    def _report(self, error: Exception | None) -> None:
        """Log once that the replica cannot be used, and once that it can again."""
        if error is not None and not self._behind and not self.is_current():
            reason = (
                "is more than a quarter of a second behind" if isinstance(error, TimeoutError) else "does not respond"
            )
            log.warning("the replica %s: reads go to the primary, and responses to writes are delayed", reason)
            self._behind = True
        elif error is None and self._behind:
            log.warning("the replica has caught up: reads go there again")
            self._behind = False
