"""Restoring the database of a running service to its state after the start."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import asyncpg

from pegboard.postgres import hosts
from pegboard.schema.column import quoted

# Without the service's own tables and those of extensions; a partitioned table is one with its partitions.
_TABLES = r"""
SELECT n.nspname, c.relname, ARRAY(
    SELECT a.attname::text FROM pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND n.nspname NOT IN ('pegboard', 'information_schema') AND n.nspname NOT LIKE 'pg\_%'
    AND NOT EXISTS (
        SELECT FROM pg_depend AS d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')"""
_SEQUENCES = """
SELECT format('SELECT setval(%L, %s, %L)', format('%I.%I', schemaname, sequencename),
    coalesce(last_value, start_value), last_value IS NOT NULL)
FROM pg_sequences WHERE schemaname <> 'pegboard'"""
# The responses to repeated requests would refer to items that no longer exist.
_RESPONSES = "DELETE FROM pegboard.idempotency"


class _Table(NamedTuple):
    schema: str
    name: str
    columns: Sequence[str]
    """Its columns, without those that PostgreSQL computes."""

    @property
    def sql_name(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"


class Cleaner:
    """Remember the rows and the sequences of all tables except the service's own, and restore them.

    Its connection needs the rights of a superuser: it runs no triggers and checks no foreign keys.
    """

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self._rows: list[tuple[_Table, bytes]] = []
        self._sequences: list[str] = []

    @classmethod
    async def start(cls, database_url: str) -> Cleaner:
        """Connect to the database and remember its state."""
        options = {"session_replication_role": "replica", "lock_timeout": "10s"}
        cleaner = cls(await hosts.connect(database_url, 60, options))
        await cleaner._remember()
        return cleaner

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def restore(self) -> None:
        """Restore all rows and sequences; rows of other tables that exist by now are deleted."""
        statements = [f"DELETE FROM {table.sql_name}" for table in await self._tables()]
        async with self._connection.transaction():
            await self._connection.execute("; ".join([*statements, _RESPONSES, *self._sequences]))
            for table, rows in self._rows:
                await self._connection.copy_to_table(
                    table.name,
                    schema_name=table.schema,
                    columns=table.columns,
                    source=BytesIO(rows),
                    format="binary",
                )

    async def _remember(self) -> None:
        for table in await self._tables():
            if await self._connection.fetchval(f"SELECT EXISTS (SELECT FROM {table.sql_name})"):
                columns, rows = ", ".join(map(quoted, table.columns)), BytesIO()
                query = f"SELECT {columns} FROM {table.sql_name}"
                await self._connection.copy_from_query(query, output=rows, format="binary")
                self._rows.append((table, rows.getvalue()))
        self._sequences = [row[0] for row in await self._connection.fetch(_SEQUENCES)]

    async def _tables(self) -> list[_Table]:
        return [_Table(*row) for row in await self._connection.fetch(_TABLES)]
