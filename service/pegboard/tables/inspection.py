"""What the database has of a table, read from PostgreSQL's catalogue, and what it lacks."""

from __future__ import annotations

import re

import asyncpg

from pegboard.tables.alteration import Actual, ActualColumn, Change, difference
from pegboard.tables.columns import quoted
from pegboard.tables.ddl import MAX_LENGTH, MIN_LENGTH, REFERENCE, SEARCH, TableSpec, create

_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod) AS type, NOT attnotnull AS nullable,
           attgenerated <> '' AS generated, pg_get_expr(adbin, adrelid) AS expression
    FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
    WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum
"""
_CONSTRAINTS = """
    SELECT conname, contype = 'f' AS reference, pg_get_constraintdef(c.oid) AS definition, nspname, relname
    FROM pg_constraint c LEFT JOIN pg_class t ON t.oid = confrelid LEFT JOIN pg_namespace n ON n.oid = relnamespace
    WHERE conrelid = $1 AND contype IN ('c', 'f')
"""
_INDEXES = "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = $1 AND indisvalid"
_REFERRED = "SELECT EXISTS (SELECT FROM pg_constraint WHERE confrelid = $1::regclass AND conrelid <> confrelid)"
_BOUND = re.compile(r"[<>]= (\d+)")
_SEARCHED = re.compile(r'COALESCE\(("(?:[^"]|"")+"|\w+),', re.IGNORECASE)


async def inspect(connection: asyncpg.Connection, spec: TableSpec) -> Actual | None:
    """Return what the database has of the table that `spec` names; None when there is no such table."""
    table = await connection.fetchval("SELECT to_regclass($1)::oid", spec.sql_name)
    if table is None:
        return None
    columns = await connection.fetch(_COLUMNS, table)
    constraints = await connection.fetch(_CONSTRAINTS, table)
    indexes = await connection.fetch(_INDEXES, table)
    lengths = {
        row["conname"]: int(bound[1])
        for row in constraints
        if row["conname"].endswith((MAX_LENGTH, MIN_LENGTH)) and (bound := _BOUND.search(row["definition"]))
    }
    references = {
        row["conname"]: (row["nspname"], row["relname"])
        for row in constraints
        if row["reference"] and row["conname"].endswith(REFERENCE)
    }
    search = next((row["expression"] for row in columns if row["attname"] == SEARCH and row["generated"]), "")
    return Actual(
        columns={
            row["attname"]: ActualColumn(row["type"], row["nullable"], row["expression"])
            for row in columns
            if row["attname"] != SEARCH
        },
        lengths=lengths,
        references=references,
        indexes=frozenset(row["relname"] for row in indexes),
        search=tuple(_unquoted(name) for name in _SEARCHED.findall(search)),
    )


async def lacking(connection: asyncpg.Connection, spec: TableSpec, *, ours: bool, lock: bool) -> Change:
    """Return the steps that make the table as declared.

    A table of `ours` (made from a description before) without a row, and that none refers to, is made anew where
    its rows would forbid a step: there is nothing to lose. With `lock`, no row can come before the transaction ends.
    """
    actual = await inspect(connection, spec)
    if actual is None:
        return Change(tuple(create(spec)))
    change = difference(spec, actual)
    if not change.refused or not ours:
        return change
    if lock:
        await connection.execute(f"LOCK TABLE {spec.sql_name} IN ACCESS EXCLUSIVE MODE")
    if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {spec.sql_name})"):
        return change
    if await connection.fetchval(_REFERRED, spec.sql_name):
        return change
    return Change((f"DROP TABLE {spec.sql_name}", *create(spec)))


async def absent_targets(connection: asyncpg.Connection, spec: TableSpec) -> list[tuple[str, str]]:
    """Return the tables of other plugins that `spec` refers to and that are not there."""
    targets = sorted({column.references for column in spec.columns if column.references})
    others = [target for target in targets if target != (spec.schema, spec.name)]
    names = [f"{quoted(schema)}.{quoted(table)}" for schema, table in others]
    found = await connection.fetch("SELECT to_regclass(name) IS NOT NULL AS there FROM unnest($1::text[]) name", names)
    return [target for target, row in zip(others, found, strict=True) if not row["there"]]


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
