"""The runner of migrations: what each plugin's tables still need, applied once by whoever comes first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from pegboard.tables import ddl
from pegboard.tables.alteration import Change
from pegboard.tables.columns import quoted
from pegboard.tables.ddl import TableSpec
from pegboard.tables.inspection import absent_targets, lacking
from pegboard.tables.sqlfiles import MigrationError, SqlFile
from pegboard.tables.standing import (
    CORE,
    SCHEMA_ROW,
    Applied,
    Outcome,
    PluginMigrations,
    Records,
    ordered,
    standing,
    stands,
    steps_pending,
)

_LOCK = int.from_bytes(b"pegboard")  # one advisory lock of the database for all starters
_WAIT = 60.0
_POLLS = (0.02, 0.5)  # seconds between tries for that lock: at first, at most
_SESSION = {
    "application_name": "pegboard migrate",
    "TimeZone": "UTC",
    "statement_timeout": "0",
    "idle_session_timeout": "0",
    "default_transaction_read_only": "off",
}
_BOOTSTRAP = """
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
# Where someone dropped the schema by hand, nothing is applied any more.
_RECORDED = """
    SELECT plugin, version, name, checksum FROM pegboard.migration
    WHERE plugin IN (SELECT nspname FROM pg_namespace)
    ORDER BY plugin, version
"""
_FORGET = "DELETE FROM pegboard.migration WHERE plugin = $1"
_RECORD = """
    INSERT INTO pegboard.migration (plugin, version, name, checksum) VALUES ($1, $2, $3, $4)
    ON CONFLICT (plugin, version) DO UPDATE SET checksum = excluded.checksum, applied_at = excluded.applied_at
"""
_HOLDER = """
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (classid::bigint << 32) | objid::bigint = $1
"""


async def migrate(
    dsn: str, plugins: Sequence[PluginMigrations], *, wait: float = _WAIT, lock_timeout: float = 10.0
) -> dict[str, Outcome]:
    """Apply what is pending, the core's first, and return where each plugin stands, those no longer installed included.

    Starters that race take turns; one waits at most `wait` seconds. A plugin that fails has its `failure` told in one
    line and stops no other. A statement waits at most `lock_timeout` seconds for a table that someone holds.
    `dsn` must lead to the server itself, since a pooler in transaction mode loses the lock.
    Raises `MigrationError` when the wait is over or the core's own migrations fail, and what asyncpg raises when the
    database cannot be reached.
    """
    sources = ordered(plugins)
    async with _connection(dsn) as connection:
        outcomes = standing(sources, await _recorded(connection))
        if not any(outcome.pending for outcome in outcomes.values()):
            return _sound(outcomes)
        async with _turn(connection, wait):
            await connection.execute(_BOOTSTRAP)
            records = await _recorded(connection)
            outcomes = standing(sources, records)
            for source in sources:
                if outcomes[source.plugin].pending:
                    applied = records.get(source.plugin, {})
                    outcomes[source.plugin] = await _bring_up(dsn, source, applied, lock_timeout)
                _sound(outcomes)
    return outcomes


async def status(dsn: str, plugins: Sequence[PluginMigrations]) -> dict[str, Outcome]:
    """Return where each plugin stands and change nothing; plugins that are no longer installed come last."""
    async with _connection(dsn) as connection:
        return standing(ordered(plugins), await _recorded(connection))


async def preview(dsn: str, plugins: Sequence[PluginMigrations]) -> dict[str, str]:
    """Return the SQL that `migrate` would run for each plugin that has something pending, and change nothing.

    What would be refused, and why, stands in it as comments.
    """
    sources = ordered(plugins)
    async with _connection(dsn) as connection:
        records = await _recorded(connection)
        outcomes = standing(sources, records)
        return {
            source.plugin: await _preview(connection, source, records.get(source.plugin, {}))
            for source in sources
            if outcomes[source.plugin].pending or outcomes[source.plugin].failure
        }


async def drop(dsn: str, plugin: str, *, wait: float = _WAIT) -> None:
    """Drop a plugin's schema with all its data and forget its migrations, in one transaction.

    Raises `MigrationError` for a name that no plugin has migrated under, so that no other schema can be dropped.
    """
    async with _connection(dsn) as connection, _turn(connection, wait):
        if plugin == CORE or plugin not in await _recorded(connection):
            raise MigrationError(f"no plugin {plugin} has tables here")
        async with connection.transaction():
            await connection.execute(f"DROP SCHEMA IF EXISTS {quoted(plugin)} CASCADE")
            await connection.execute(_FORGET, plugin)


@asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn, timeout=10, server_settings=_SESSION)
    try:
        yield connection
    finally:
        # Closing waits for the server, which may be gone, or be busy with what was cancelled.
        try:
            await connection.close(timeout=2)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()


@asynccontextmanager
async def _turn(connection: asyncpg.Connection, wait: float) -> AsyncIterator[None]:
    """Hold the lock that starters share; it goes with the connection.

    It is polled: a session that blocks in `pg_advisory_lock` holds a snapshot, and deadlocks with the
    `CREATE INDEX CONCURRENTLY` of the one that has it.
    """
    give_up, pause = time.monotonic() + wait, _POLLS[0]
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
        if time.monotonic() >= give_up:
            holder = await connection.fetchval(_HOLDER, _LOCK)
            raise MigrationError(
                f"waited {wait:g} s for migrations that another process (of PostgreSQL's backend {holder}) is running"
            )
        await asyncio.sleep(min(pause, max(give_up - time.monotonic(), 0)))
        pause = min(pause * 2, _POLLS[1])
    yield
    await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def _recorded(connection: asyncpg.Connection) -> Records:
    """Return what is applied: each plugin's names and checksums by number."""
    try:
        rows = await connection.fetch(_RECORDED)
    except asyncpg.UndefinedTableError:
        return {}
    records: dict[str, dict[int, tuple[str, str]]] = {}
    for row in rows:
        records.setdefault(row["plugin"], {})[row["version"]] = row["name"], row["checksum"]
    return records


def _sound(outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    if outcomes[CORE].failure:
        raise MigrationError(f"the core's own migrations failed: {outcomes[CORE].failure}")
    return outcomes


async def _bring_up(dsn: str, source: PluginMigrations, records: Applied, lock_timeout: float) -> Outcome:
    """Apply what is pending, on a connection of the plugin's own, so that nothing its files set reaches another."""
    before = stands(source, records)
    now: list[str] = []
    failure = None
    async with _connection(dsn) as connection:
        if not records:
            await connection.execute(_FORGET, source.plugin)
        for file in steps_pending(source, records)[1]:
            try:
                await _apply(connection, source, file, records, lock_timeout)
            except MigrationError as error:
                failure = f"{file.name}: {error}"
            except asyncpg.PostgresError as error:
                failure = f"{file.name}{_line(file, error)}: {error.message or type(error).__name__}"
            except (asyncpg.InterfaceError, OSError) as error:
                failure = f"{file.name}: {error}"
            if failure is not None:
                break
            now.append(file.name)
    return Outcome(
        applied=tuple(dict.fromkeys((*before.applied, *now))),
        now=tuple(now),
        pending=before.pending[len(now) :],
        missing=before.missing,
        failure=" ".join(failure.split()) if failure else None,
    )


async def _apply(
    connection: asyncpg.Connection, source: PluginMigrations, file: SqlFile, records: Applied, lock_timeout: float
) -> None:
    path = f"search_path TO {quoted(source.plugin)}, public"
    described = SCHEMA_ROW[0] in records
    if not file.in_transaction:
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(source.plugin)}; SET {path}")
        await _run(connection, file)
        await connection.execute(_RECORD, source.plugin, file.version, file.name, file.checksum)
        return
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)}; SET LOCAL {path}")
        if source.table is not None and file.version == SCHEMA_ROW[0]:
            await _make_table(connection, source.table, ours=described)
            await connection.execute(_RECORD, source.plugin, *SCHEMA_ROW, ddl.fingerprint(source.table))
            return
        if not (described and file.baseline):
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(source.plugin)}")
            await _run(connection, file)
        if not connection.is_in_transaction():
            raise MigrationError("it ends the transaction that it runs in, so it may be applied in part")
        await connection.execute(_RECORD, source.plugin, file.version, file.name, file.checksum)


async def _run(connection: asyncpg.Connection, file: SqlFile) -> None:
    if not file.is_empty:
        await connection.execute(file.text)


async def _make_table(connection: asyncpg.Connection, spec: TableSpec, *, ours: bool) -> None:
    for plugin, table in await absent_targets(connection, spec):
        raise MigrationError(f"it refers to {plugin}.{table}, which is not there: is the plugin {plugin} up?")
    change = await lacking(connection, spec, ours=ours, lock=True)
    if change.refused:
        raise MigrationError(_refusal(spec, change))
    for statement in change.additive:
        await connection.execute(statement)


def _refusal(spec: TableSpec, change: Change) -> str:
    reasons = "; ".join(refusal.reason for refusal in change.refused)
    sql = "; ".join(change.statements)
    return f"{spec.schema}.{spec.name} holds rows, and {reasons}. A migration that does it: {sql};"


def _line(file: SqlFile, error: asyncpg.PostgresError) -> str:
    position = getattr(error, "position", None)
    if not position or not file.text:
        return ""
    return f", line {file.text.count(chr(10), 0, int(position) - 1) + 1}"


async def _preview(connection: asyncpg.Connection, source: PluginMigrations, records: Applied) -> str:
    try:
        steps = steps_pending(source, records)[1]
    except (MigrationError, OSError) as error:
        return f"-- refused: {error}\n"
    described = SCHEMA_ROW[0] in records
    texts = []
    for file in steps:
        if source.table is not None and file.version == SCHEMA_ROW[0]:
            change = await lacking(connection, source.table, ours=described, lock=False)
            texts += [f"-- refused: {refusal.reason}" for refusal in change.refused]
            texts += [f"{statement};" for statement in change.statements]
        elif described and file.baseline:
            texts.append(f"-- {file.name}: made already")
        else:
            texts.append(f"-- {file.name}\n{file.text.rstrip()}")
    return "\n".join(texts) + "\n"
