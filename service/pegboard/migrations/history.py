"""The record of applied migrations in the database, and the lock that one process at a time holds to apply more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from pegboard.migrations.sqlfiles import MigrationError
from pegboard.migrations.status import Records
from pegboard.postgres import hosts

_LOCK = int.from_bytes(b"pegboard")  # one advisory lock of the database for all processes
WAIT = 60.0
_POLLS = (0.02, 0.5)  # seconds between tries for that lock: at first, at most
_SESSION = {
    "application_name": "pegboard migrate",
    "TimeZone": "UTC",
    "statement_timeout": "0",
    "idle_session_timeout": "0",
    "default_transaction_read_only": "off",
}
BOOTSTRAP = """
    CREATE SCHEMA IF NOT EXISTS pegboard;
    CREATE TABLE IF NOT EXISTS pegboard.migration (
        plugin text NOT NULL,
        version integer NOT NULL,
        name text NOT NULL,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT date_trunc('second', now()),
        PRIMARY KEY (plugin, version)
    )
"""
# If the schema was dropped by hand, none of its migrations are applied any more.
_RECORDED = """
    SELECT plugin, version, name, checksum FROM pegboard.migration
    WHERE plugin IN (SELECT nspname FROM pg_namespace)
    ORDER BY plugin, version
"""
FORGET = "DELETE FROM pegboard.migration WHERE plugin = $1"
RECORD = """
    INSERT INTO pegboard.migration (plugin, version, name, checksum) VALUES ($1, $2, $3, $4)
    ON CONFLICT (plugin, version) DO UPDATE SET checksum = excluded.checksum, applied_at = excluded.applied_at
"""
_HOLDER = """
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (classid::bigint << 32) | objid::bigint = $1
"""


@asynccontextmanager
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect to the database with the settings for migrations; raises the errors of asyncpg."""
    connection = await hosts.connect(dsn, 10, server_settings=_SESSION)
    try:
        yield connection
    finally:
        # Closing waits for the server, which may be unreachable, or still busy with a cancelled statement.
        try:
            await connection.close(timeout=2)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()


@asynccontextmanager
async def lock(connection: asyncpg.Connection, wait: float) -> AsyncIterator[None]:
    """Hold the lock of migrations; it is released with the connection.

    It is polled: a session that blocks in `pg_advisory_lock` holds a snapshot, and deadlocks with the
    `CREATE INDEX CONCURRENTLY` of the session that holds the lock.
    """
    give_up, pause = time.monotonic() + wait, _POLLS[0]
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
        if time.monotonic() >= give_up:
            holder = await connection.fetchval(_HOLDER, _LOCK)
            raise MigrationError(
                f"waited {wait:g} s for migrations that another process (PostgreSQL backend {holder}) is running"
            )
        await asyncio.sleep(min(pause, max(give_up - time.monotonic(), 0)))
        pause = min(pause * 2, _POLLS[1])
    yield
    await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def recorded(connection: asyncpg.Connection) -> Records:
    """Return the applied migrations of each plugin: names and checksums by number."""
    try:
        rows = await connection.fetch(_RECORDED)
    except asyncpg.UndefinedTableError:
        return {}
    records: dict[str, dict[int, tuple[str, str]]] = {}
    for row in rows:
        records.setdefault(row["plugin"], {})[row["version"]] = row["name"], row["checksum"]
    return records
