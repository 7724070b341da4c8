"""Inspection of tables through PostgreSQL's catalogue: existing ones, and those that a declaration would create."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg

from pegboard.migrations.actual import Actual, ActualColumn, ActualIndex, Constraint, Trigger
from pegboard.schema import ddl
from pegboard.schema.column import quoted
from pegboard.schema.ddl import TableSpec

TableName = tuple[str, str]
"""A schema and a table in it."""

_TABLES = """
SELECT n.nspname, c.relname, c.relkind, pg_relation_is_updatable(c.oid, true) AS accepts,
    ARRAY(SELECT event FROM unnest(ARRAY['INSERT', 'UPDATE']) event WHERE has_any_column_privilege(c.oid, event))
        || CASE WHEN has_table_privilege(c.oid, 'DELETE') THEN ARRAY['DELETE'] ELSE '{}' END AS allowed,
    c.relrowsecurity AND row_security_active(c.oid) AS hides_rows,
    EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid) AS policies,
    c.relpersistence = 'u' AS unlogged,
    EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgisinternal AND tgenabled = 'D') AS unchecked,
    ARRAY(SELECT inhrelid::regclass::text FROM pg_inherits
          WHERE inhparent = c.oid AND c.relkind = 'r' ORDER BY 1) AS heirs,
    (SELECT json_agg(json_build_object(
        'name', attname, 'type', format_type(atttypid, atttypmod), 'nullable', NOT attnotnull,
        'default', pg_get_expr(adbin, adrelid), 'generated', attgenerated::text, 'identity', attidentity::text,
        'collation', (SELECT collname FROM pg_collation WHERE oid = attcollation),
        'domain', CASE WHEN typnotnull THEN format_type(atttypid, NULL) END,
        'base', CASE WHEN typtype = 'd' THEN format_type(typbasetype, typtypmod) END,
        'readable', has_column_privilege(attrelid, attnum, 'SELECT')
    ) ORDER BY attnum) FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
        LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
        WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns,
    (SELECT json_agg(json_build_object(
        'name', conname, 'kind', contype::text, 'definition', pg_get_constraintdef(con.oid),
        'columns', ARRAY(SELECT attname FROM unnest(conkey) WITH ORDINALITY AS k (attnum, place)
                         JOIN pg_attribute USING (attnum) WHERE attrelid = conrelid ORDER BY place),
        'target', (SELECT ARRAY[nspname, relname] FROM pg_class JOIN pg_namespace t ON t.oid = relnamespace
                   WHERE pg_class.oid = confrelid),
        'target_columns', ARRAY(SELECT attname FROM unnest(confkey) WITH ORDINALITY AS k (attnum, place)
                                JOIN pg_attribute USING (attnum) WHERE attrelid = confrelid ORDER BY place)
    ) ORDER BY conname) FROM pg_constraint con
        WHERE conrelid = c.oid AND contype IN ('c', 'f', 'p', 'u', 'x')) AS constraints,
    (SELECT json_agg(json_build_object(
        'name', i.relname, 'definition', pg_get_indexdef(indexrelid), 'unique', indisunique,
        'valid', indisvalid AND indisready, 'partial', indpred IS NOT NULL,
        'keys', ARRAY(SELECT pg_get_indexdef(indexrelid, n, true) FROM generate_series(1, indnkeyatts) n),
        'columns', ARRAY(SELECT attname FROM unnest(indkey::smallint[]) WITH ORDINALITY AS k (attnum, place)
                         LEFT JOIN pg_attribute a ON attrelid = indrelid AND a.attnum = k.attnum
                         WHERE place <= indnkeyatts ORDER BY place)
    ) ORDER BY i.relname) FROM pg_index JOIN pg_class i ON i.oid = indexrelid WHERE indrelid = c.oid) AS indexes,
    (SELECT json_agg(json_build_object(
        'name', tgname, 'enabled', tgenabled IN ('O', 'A'),
        'definition', replace(replace(pg_get_triggerdef(t.oid), format(' ON %I.%I ', n.nspname, c.relname),
                                      ' ON {table} '), format(' ON pg_temp.%I ', c.relname), ' ON {table} ')
    ) ORDER BY tgname) FROM pg_trigger t WHERE tgrelid = c.oid AND NOT tgisinternal) AS triggers
FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
JOIN pg_namespace n ON n.nspname = wanted.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""
_EVENTS = {8: "INSERT", 4: "UPDATE", 16: "DELETE"}
"""The bits of `pg_relation_is_updatable`."""
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
_INDEX_HEAD = re.compile(r"CREATE (?:UNIQUE )?INDEX .*? ON .*? USING ", re.DOTALL)
_INDEX_STORAGE = re.compile(r" WITH \([^)]*\)")


async def inspect(connection: asyncpg.Connection, names: Iterable[TableName]) -> dict[TableName, Actual]:
    """Return the existing tables of those named."""
    wanted = sorted(set(names))
    async with _full_names(connection):
        rows = await connection.fetch(_TABLES, [schema for schema, _ in wanted], [name for _, name in wanted])
    return {(row["nspname"], row["relname"]): _actual(row) for row in rows}


async def declared_table(connection: asyncpg.Connection, spec: TableSpec) -> Actual:
    """Return the table that `spec` would create, without its references, as PostgreSQL describes it.

    It is created as a temporary table, which is rolled back: so PostgreSQL itself writes types, defaults and
    expressions in the form in which its catalogue has them. Raises the errors of asyncpg.
    """
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"SET LOCAL search_path TO {quoted(spec.schema)}, public")
        await connection.execute(";\n".join(ddl.create_table(replace(spec, schema="pg_temp"))))
        schema = await connection.fetchval("SELECT pg_my_temp_schema()::regnamespace::text")
        return (await inspect(connection, [(schema, spec.name)]))[schema, spec.name]
    finally:
        await transaction.rollback()


async def definition(connection: asyncpg.Connection, spec: TableSpec) -> list[str]:
    """Return the statements that create the existing table, with its constraints and indexes."""
    table = await connection.fetchval("SELECT to_regclass($1)::oid", spec.sql_name)
    async with _full_names(connection):
        columns = await connection.fetch(_WRITTEN_COLUMNS, table)
        constraints = await connection.fetch(_WRITTEN_CONSTRAINTS, table)
        indexes = await connection.fetch(_WRITTEN_INDEXES, table)
    lines = [f"{quoted(row['attname'])} {row['definition']}" for row in columns]
    lines += [f"CONSTRAINT {quoted(row['conname'])} {row['definition']}" for row in constraints]
    body = ",\n    ".join(lines)
    return [f"CREATE TABLE {spec.sql_name} (\n    {body}\n)", *(row["definition"] for row in indexes)]


@asynccontextmanager
async def _full_names(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Let PostgreSQL write every name with its schema."""
    async with connection.transaction():
        before = await connection.fetchval("SELECT current_setting('search_path')")
        await connection.execute("SET LOCAL search_path TO pg_catalog")
        yield
        # The end of a savepoint would keep it.
        await connection.execute("SELECT set_config('search_path', $1, true)", before)


def _actual(row: asyncpg.Record) -> Actual:
    columns, constraints, indexes, triggers = (
        json.loads(row[part] or "[]") for part in ("columns", "constraints", "indexes", "triggers")
    )
    return Actual(
        kind=row["relkind"].decode(),
        columns={part["name"]: ActualColumn(**part) for part in columns},
        constraints={
            part["name"]: Constraint(
                part["name"],
                part["kind"],
                tuple(part["columns"]),
                part["definition"],
                (part["target"][0], part["target"][1]) if part["target"] else None,
                tuple(part["target_columns"]),
            )
            for part in constraints
        },
        indexes={part["name"]: _index(part) for part in indexes},
        triggers={part["name"]: Trigger(**part) for part in triggers},
        accepts=tuple(event for bit, event in _EVENTS.items() if row["accepts"] & bit),
        allowed=tuple(row["allowed"]),
        hides_rows=row["hides_rows"],
        policies=row["policies"],
        unlogged=row["unlogged"],
        unchecked=row["unchecked"],
        heirs=tuple(row["heirs"]),
    )


def _index(part: Mapping[str, Any]) -> ActualIndex:
    """Return an index; how it is stored is not part of its definition."""
    definition = _INDEX_STORAGE.sub("", _INDEX_HEAD.sub("", part["definition"], count=1))
    lists = {"keys": tuple(part["keys"]), "columns": tuple(part["columns"])}
    return ActualIndex(**{**part, **lists, "definition": definition})
