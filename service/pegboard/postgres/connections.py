"""What lends connections to a database: a pool, a replica with the primary behind it, a plugin's share of either."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import asyncpg


class Connections(Protocol):
    """Lend connections, for one statement or for as long as a block takes.

    Raises `ApiError` 503 where none is to be had in time, and what asyncpg raises.
    """

    @abstractmethod
    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Run one statement and return its rows."""

    @abstractmethod
    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """Run one statement and return its first row, or None."""

    async def fetchval(self, sql: str, *args: Any) -> Any:
        """Run one statement and return the first value of its first row, or None."""
        row = await self.fetchrow(sql, *args)
        return None if row is None else row[0]

    @abstractmethod
    async def execute(self, sql: str, *args: Any) -> str:
        """Run one statement, or without `args` several, and return the status of the last, such as `UPDATE 3`."""

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Lend a connection inside a transaction: committed at the end, rolled back by an exception."""

    @abstractmethod
    def snapshot(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Lend a connection inside a transaction that only reads, and sees everything as it was when it began."""

    @abstractmethod
    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Lend a connection for anything; what was set in its session is taken back afterwards."""
