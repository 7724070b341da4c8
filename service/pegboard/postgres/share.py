"""A plugin's share of the connection pools: the limit on its connections, and the queue for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from pegboard import errors
from pegboard.errors import ApiError
from pegboard.postgres.connections import Connections
from pegboard.postgres.database import Database
from pegboard.postgres.waiting import Snapshots, Waiters

_MESSAGE = "All database connections available to the plugin are in use; try again later."


class Share(Connections):
    """Provide connections of `pool`, but at most `max_size` at once.

    Further calls wait for at most `timeout` seconds; then they raise `errors.Busy`. `used` is the number of connections
    that are in use or awaited from the pool, `waiting` the number of calls that wait for the share, and `waits` counts
    all calls that had to.
    """

    def __init__(self, pool: Connections, max_size: int, timeout: float) -> None:
        self.used = 0
        self._pool = pool
        self._max_size = max_size
        self._snapshots = Snapshots(max_size)
        self._waiters: Waiters[None] = Waiters(timeout, _busy)

    @property
    def waiting(self) -> int:
        """Return the number of calls waiting."""
        return len(self._waiters)

    @property
    def waits(self) -> int:
        """Return the number of calls that had to wait."""
        return self._waiters.waits

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Run one statement and return its rows."""
        if self.used >= self._max_size:
            await self._waiters.wait(self._leave)
        else:
            self.used += 1
        try:
            return await self._pool.fetch(sql, *args)
        finally:
            self._leave()

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """Run one statement and return its first row, or None."""
        if self.used >= self._max_size:
            await self._waiters.wait(self._leave)
        else:
            self.used += 1
        try:
            return await self._pool.fetchrow(sql, *args)
        finally:
            self._leave()

    async def execute(self, sql: str, *args: Any) -> str:
        """Run one statement, or several without `args`, and return the status of the last, such as `UPDATE 3`."""
        await self._enter()
        try:
            return await self._pool.execute(sql, *args)
        finally:
            self._leave()

    def transaction(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Provide a connection inside a transaction: committed at the end, rolled back by an exception."""
        return self._limited(self._pool.transaction())

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[asyncpg.Connection]:
        """Provide a connection inside a read-only transaction that sees one snapshot of the database.

        As snapshots may take long, they may use at most half of the share: raises `ApiError` 503 for further ones.
        """
        with self._snapshots.one_more():
            async with self._limited(self._pool.snapshot()) as connection:
                yield connection

    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Provide a connection for any use; its session is reset afterwards."""
        return self._limited(self._pool.connection())

    @asynccontextmanager
    async def _limited(
        self, manager: AbstractAsyncContextManager[asyncpg.Connection]
    ) -> AsyncIterator[asyncpg.Connection]:
        await self._enter()
        try:
            async with manager as connection:
                yield connection
        finally:
            self._leave()

    async def _enter(self) -> None:
        if self.used >= self._max_size:
            await self._waiters.wait(self._leave)
        else:
            self.used += 1

    def _leave(self, _: None = None) -> None:
        """Free a connection for the longest waiter."""
        if not self._waiters.hand_over(None):
            self.used -= 1


@dataclass(frozen=True, slots=True)
class Shares:
    """Hold one plugin's shares of the two pools, with the same interface as the pools."""

    read: Share
    write: Share

    @classmethod
    def of(cls, database: Database, percent: int) -> Shares:
        """Return shares of `percent` of the connections, at least one each."""
        read, write = (
            Share(pool, max(1, pool.max_size * percent // 100), pool.timeout)
            for pool in (database.read, database.write)
        )
        return cls(read, write)


def _busy() -> ApiError:
    return errors.Busy(_MESSAGE, headers={"Retry-After": "1"})
