"""The interface of everything that provides database connections: pools, replicas, and plugins' shares of them."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import asyncpg


class Connections(Protocol):
    """Provide connections, for one statement or for the duration of a block.

    Methods raise `ApiError` 503 if no connection becomes available in time, and the exceptions of asyncpg.
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
        """Run one statement, or several without `args`, and return the status of the last, such as `UPDATE 3`."""

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Provide a connection inside a transaction: committed at the end, rolled back by an exception."""

    @abstractmethod
    def snapshot(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Provide a connection inside a read-only transaction that sees one snapshot of the database."""

    @abstractmethod
    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Provide a connection for any use; its session is reset afterwards."""
