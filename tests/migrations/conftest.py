"""A database for migrations that is empty before each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest


@pytest.fixture
async def dsn(database_url: str) -> AsyncIterator[str]:
    """Give a database that is empty again after the test."""
    yield database_url
    connection = await asyncpg.connect(database_url)
    schemas = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_.*|information_schema|public)$'"
    for row in await connection.fetch(schemas):
        await connection.execute(f'DROP SCHEMA "{row["nspname"]}" CASCADE')
    await connection.close()


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()
