"""A plugin's share of the pools: how many connections it may have at once, and how it waits for its turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from pegboard import errors
from pegboard.errors import ApiError
from pegboard.postgres.database import Database
from pegboard.postgres.pool import Pool
from pegboard.postgres.replica import Replica

_MESSAGE = "All connections to the database that the plugin may have are in use: try again later."


class Share:
    """Lend connections of `pool` as it does, but no more than `most` at once.

    Who is beyond waits, at most `timeout` seconds; then its request ends with BUSY. `used` says how many are lent or
    waited for in the pool, `waiting` how many wait for their turn, `waits` how often anybody had to.
    """

    def __init__(self, pool: Pool | Replica, most: int, timeout: float) -> None:
        self.used = 0
        self.waits = 0
        self._pool = pool
        self._most = most
        self._timeout = timeout
        self._snapshots = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Return how many wait for their turn."""
        return len(self._waiters)

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Run one statement and return its rows."""
        if self.used >= self._most:
            await self._turn()
        else:
            self.used += 1
        try:
            return await self._pool.fetch(sql, *args)
        finally:
            self._leave()

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """Run one statement and return its first row, or None."""
        if self.used >= self._most:
            await self._turn()
        else:
            self.used += 1
        try:
            return await self._pool.fetchrow(sql, *args)
        finally:
            self._leave()

    async def fetchval(self, sql: str, *args: Any) -> Any:
        """Run one statement and return the first value of its first row, or None."""
        row = await self.fetchrow(sql, *args)
        return None if row is None else row[0]

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
            raise ApiError(errors.BUSY, headers={"Retry-After": "5"})
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
            await self._turn()
        else:
            self.used += 1

    async def _turn(self) -> None:
        """Wait until a place is handed over."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        self.waits += 1
        timer = loop.call_later(self._timeout, _expire, waiter)
        try:
            await waiter
        except BaseException:
            if waiter.cancelled() or waiter.exception() is not None:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
            else:
                # Cancelled between the hand-over and here.
                self._leave()
            raise
        finally:
            timer.cancel()

    def _leave(self) -> None:
        """Hand the place over to whoever waits longest."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
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


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(ApiError(errors.BUSY, _MESSAGE, headers={"Retry-After": "1"}))
