"""Inspection of existing tables through PostgreSQL's catalogue."""

from __future__ import annotations

import re

import asyncpg

from pegboard.migrations.difference import Actual, Plan, difference
from pegboard.schema.column import Column, quoted
from pegboard.schema.ddl import (
    MAX_LENGTH,
    MIN_LENGTH,
    REFERENCE,
    SEARCH,
    TableSpec,
    content_name,
    create,
    create_content,
)

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
_WRITTEN_COLUMNS = """
    SELECT attname, concat_ws(
        ' ', format_type(atttypid, atttypmod),
        (SELECT format('COLLATE %I', collname) FROM pg_collation c, pg_type t
         WHERE c.oid = attcollation AND t.oid = atttypid AND attcollation <> typcollation),
        CASE WHEN attnotnull THEN 'NOT NULL' END,
        CASE WHEN attgenerated <> '' THEN format('GENERATED ALWAYS AS (%s) %s', pg_get_expr(adbin, adrelid),
                                                 CASE attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END)
             WHEN adbin IS NOT NULL THEN 'DEFAULT ' || pg_get_expr(adbin, adrelid) END
    ) AS definition
    FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
    WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum
"""
_WRITTEN_CONSTRAINTS = """
    SELECT conname, pg_get_constraintdef(oid) AS definition FROM pg_constraint
    WHERE conrelid = $1 AND contype IN ('p', 'u', 'c', 'f', 'x')
    ORDER BY contype <> 'p', conname
"""
_WRITTEN_INDEXES = """
    SELECT pg_get_indexdef(indexrelid) AS definition FROM pg_index
    WHERE indrelid = $1 AND indisvalid AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
    ORDER BY indexrelid
"""
_BOUND = re.compile(r"[<>]= (\d+)")
_SEARCHED = re.compile(r'COALESCE\(("(?:[^"]|"")+"|\w+),', re.IGNORECASE)


async def inspect(connection: asyncpg.Connection, spec: TableSpec) -> Actual | None:
    """Return the existing table that `spec` names, or None."""
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
            # The expression of a generated column is not a default.
            row["attname"]: Column(
                row["attname"], row["type"], row["nullable"], None if row["generated"] else row["expression"]
            )
            for row in columns
            if row["attname"] != SEARCH
        },
        lengths=lengths,
        references=references,
        indexes=frozenset(row["relname"] for row in indexes),
        search=tuple(_unquoted(name) for name in _SEARCHED.findall(search)),
    )


async def plan_for(connection: asyncpg.Connection, spec: TableSpec, *, managed: bool, lock: bool) -> Plan:
    """Return the steps that change the table to the declared one.

    A `managed` table (created from a declaration) that has no rows and no references to it is dropped and created again
    if it has manual steps: no data can be lost. With `lock`, no row can be added before the transaction ends.
    """
    actual = await inspect(connection, spec)
    if actual is None:
        return Plan(tuple(create(spec)))
    plan = difference(spec, actual)
    if spec.content and await connection.fetchval("SELECT to_regclass($1) IS NULL", content_name(spec)):
        plan = Plan((*plan.steps, *create_content(spec)))
    if not plan.manual or not managed:
        return plan
    if lock:
        await connection.execute(f"LOCK TABLE {spec.sql_name} IN ACCESS EXCLUSIVE MODE")
    if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {spec.sql_name})"):
        return plan
    if await connection.fetchval(_REFERRED, spec.sql_name):
        return plan
    return Plan((f"DROP TABLE {spec.sql_name}", *create(spec)))


async def definition(connection: asyncpg.Connection, spec: TableSpec) -> list[str]:
    """Return the statements that create the existing table, with its constraints and indexes."""
    table = await connection.fetchval("SELECT to_regclass($1)::oid", spec.sql_name)
    async with connection.transaction(readonly=True):
        # Then PostgreSQL writes every name with its schema.
        await connection.execute("SET LOCAL search_path TO pg_catalog")
        columns = await connection.fetch(_WRITTEN_COLUMNS, table)
        constraints = await connection.fetch(_WRITTEN_CONSTRAINTS, table)
        indexes = await connection.fetch(_WRITTEN_INDEXES, table)
    lines = [f"{quoted(row['attname'])} {row['definition']}" for row in columns]
    lines += [f"CONSTRAINT {quoted(row['conname'])} {row['definition']}" for row in constraints]
    body = ",\n    ".join(lines)
    return [f"CREATE TABLE {spec.sql_name} (\n    {body}\n)", *(row["definition"] for row in indexes)]


async def missing_targets(connection: asyncpg.Connection, spec: TableSpec) -> list[tuple[str, str]]:
    """Return the tables of other plugins that `spec` refers to and that do not exist."""
    targets = sorted({column.references for column in spec.columns if column.references})
    others = [target for target in targets if target != (spec.schema, spec.name)]
    names = [f"{quoted(schema)}.{quoted(table)}" for schema, table in others]
    found = await connection.fetch("SELECT to_regclass(name) IS NOT NULL AS there FROM unnest($1::text[]) name", names)
    return [target for target, row in zip(others, found, strict=True) if not row["there"]]


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
