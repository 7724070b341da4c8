"""Removal of a plugin's data: its PostgreSQL schema and its records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from pegboard.migrations import history
from pegboard.migrations.sqlfiles import MigrationError
from pegboard.migrations.status import CORE
from pegboard.schema.column import quoted

_TABLES = """
    SELECT relname FROM pg_class
    WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1) AND relkind IN ('r', 'p')
    ORDER BY relname
"""
_REFERRING = """
    SELECT DISTINCT own.nspname || '.' || referring.relname AS name
    FROM pg_constraint
    JOIN pg_class referring ON referring.oid = conrelid JOIN pg_namespace own ON own.oid = referring.relnamespace
    JOIN pg_class target ON target.oid = confrelid JOIN pg_namespace theirs ON theirs.oid = target.relnamespace
    WHERE contype = 'f' AND theirs.nspname = $1 AND own.nspname <> $1
    ORDER BY name
"""
# What can depend on another schema: columns (those of views too), defaults, constraints.
_OTHERS = """
    SELECT format('%I.%I.%I', nspname, relname, attname)
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname <> $1 AND nspname !~ '^pg_' AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT format('the default of %I.%I.%I', nspname, relname, attname)
    FROM pg_attrdef JOIN pg_attribute a ON (a.attrelid, attnum) = (adrelid, adnum)
    JOIN pg_class c ON c.oid = adrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname <> $1 AND nspname !~ '^pg_'
    UNION ALL
    SELECT format('%I.%I.%I', nspname, relname, conname)
    FROM pg_constraint JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname <> $1 AND nspname !~ '^pg_'
"""
_FORGET_RESPONSES = """
    DELETE FROM pegboard.idempotency
    WHERE path = $1 OR starts_with(path, $1 || '/') OR starts_with(path, $1 || '?')
"""


@dataclass(frozen=True, slots=True)
class PluginData:
    """Describe the data of a plugin: the number of rows by table, and the tables of other plugins that refer to it."""

    rows: Mapping[str, int]
    referring: tuple[str, ...]


async def plugin_data(dsn: str, plugin: str) -> PluginData:
    """Return the data of `plugin`; raises `MigrationError` if it is not a migrated plugin."""
    async with history.connection(dsn) as connection:
        await _find(connection, plugin)
        tables = [row["relname"] for row in await connection.fetch(_TABLES, plugin)]
        count = "SELECT count(*) FROM {}.{}"
        rows = {table: await connection.fetchval(count.format(quoted(plugin), quoted(table))) for table in tables}
        referring = await connection.fetch(_REFERRING, plugin)
    return PluginData(rows, tuple(row["name"] for row in referring))


async def drop(dsn: str, plugin: str, path: str) -> None:
    """Drop a plugin's schema with all data and delete its records, in one transaction.

    The records are its migrations, and the responses stored for retries of requests to `path`, where it is mounted.
    Raises `MigrationError` if `plugin` is not a migrated plugin, so that no other schema can be dropped, and if
    something in another schema would be dropped too.
    """
    async with history.connection(dsn) as connection, history.lock(connection, history.WAIT):
        await _find(connection, plugin)
        async with connection.transaction():
            others = await _others(connection, plugin)
            await connection.execute(f"DROP SCHEMA IF EXISTS {quoted(plugin)} CASCADE")
            lost = sorted(others - await _others(connection, plugin))
            if lost:
                raise MigrationError(f"{plugin} was not removed: that would also remove {', '.join(lost)}")
            await connection.execute(history.FORGET, plugin)
            await connection.execute(_FORGET_RESPONSES, path)


async def _find(connection: asyncpg.Connection, plugin: str) -> None:
    if plugin == CORE or plugin not in await history.recorded(connection):
        raise MigrationError(f"the plugin {plugin} has no tables in this database")


async def _others(connection: asyncpg.Connection, plugin: str) -> set[str]:
    return {row[0] for row in await connection.fetch(_OTHERS, plugin)}
