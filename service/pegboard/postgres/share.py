"""A plugin's share of the pools: how many connections it may have at once, and how it waits for its turn."""

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
from pegboard.postgres.waiting import Waiters

_MESSAGE = "All database connections available to the plugin are in use; try again later."


class Share(Connections):
    """Lend connections of `pool` as it does, but no more than `most` at once.

    Who is beyond waits, at most `timeout` seconds; then its request ends with BUSY. `used` says how many are lent or
    waited for in the pool, `waiting` how many wait for their turn, `waits` how often anybody had to.
    """

    def __init__(self, pool: Connections, most: int, timeout: float) -> None:
        self.used = 0
        self._pool = pool
        self._most = most
        self._snapshots = 0
        self._waiters: Waiters[None] = Waiters(timeout, _busy)

    @property
    def waiting(self) -> int:
        """Return how many wait for their turn."""
        return len(self._waiters)

    @property
    def waits(self) -> int:
        """Return how often anybody had to."""
        return self._waiters.waits

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Run one statement and return its rows."""
        if self.used >= self._most:
            await self._waiters.wait(self._leave)
        else:
            self.used += 1
        try:
            return await self._pool.fetch(sql, *args)
        finally:
            self._leave()

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """Run one statement and return its first row, or None."""
        if self.used >= self._most:
            await self._waiters.wait(self._leave)
        else:
            self.used += 1
        try:
            return await self._pool.fetchrow(sql, *args)
        finally:
            self._leave()

    async def execute(self, sql: str, *args: Any) -> str:
        """Run one statement, or without `args` several, and return the status of the last, such as `UPDATE 3`."""
        await self._enter()
        try:
            return await self._pool.execute(sql, *args)
        finally:
            self._leave()

    def transaction(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Lend a connection inside a transaction: committed at the end, rolled back by an exception."""
        return self._lent(self._pool.transaction())

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection inside a transaction that only reads, and sees everything as it was when it began.

        As it may be lent for long, no more than half of the share is: raises `ApiError` 503 for one beyond.
        """
        if self._snapshots >= max(1, self._most // 2):
            raise errors.Busy(headers={"Retry-After": "5"})
        self._snapshots += 1
        try:
            async with self._lent(self._pool.snapshot()) as connection:
                yield connection
        finally:
            self._snapshots -= 1

    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Lend a connection for anything; what was set in its session is taken back afterwards."""
        return self._lent(self._pool.connection())

    @asynccontextmanager
    async def _lent(self, lent: AbstractAsyncContextManager[asyncpg.Connection]) -> AsyncIterator[asyncpg.Connection]:
        await self._enter()
        try:
            async with lent as connection:
                yield connection
        finally:
            self._leave()

    async def _enter(self) -> None:
        if self.used >= self._most:
            await self._waiters.wait(self._leave)
        else:
            self.used += 1

    def _leave(self, _: None = None) -> None:
        """Hand the place over to whoever waits longest."""
        if not self._waiters.hand(None):
            self.used -= 1


@dataclass(frozen=True, slots=True)
class Shares:
    """Hold one plugin's shares of the two pools, which look to it as the pools do."""

    read: Share
    write: Share

    @classmethod
    def of(cls, database: Database, percent: int) -> Shares:
        """Return shares of so many percent, of one connection at the least."""
        read, write = (
            Share(pool, max(1, pool.most * percent // 100), pool.timeout) for pool in (database.read, database.write)
        )
        return cls(read, write)


def _busy() -> ApiError:
    return errors.Busy(_MESSAGE, headers={"Retry-After": "1"})
