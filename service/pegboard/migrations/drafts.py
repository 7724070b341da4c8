"""The next SQL files of a package, drafted from what its schema declares and what the database has."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import asyncpg

from pegboard.migrations import history
from pegboard.migrations.difference import Change, Refusal, difference
from pegboard.migrations.inspection import inspect, written
from pegboard.migrations.sqlfiles import MigrationError
from pegboard.migrations.status import SCHEMA_ROW, Applied, PluginMigrations, stands
from pegboard.schema import ddl
from pegboard.schema.ddl import TableSpec

_WIDTH = 117


@dataclass(frozen=True, slots=True)
class Draft:
    """Hold the text of one SQL file; a `first` one makes the table, any other changes it.

    `warnings` are the comments in it that its author has to read: where rows could be lost, or stop it.
    """

    version: int
    first: bool
    text: str
    warnings: tuple[str, ...] = ()


async def draft(dsn: str, source: PluginMigrations) -> list[Draft]:
    """Return the files that lead from what a plugin's package and the database have to what its schema declares.

    Where the package has no files, the first makes the table as it is and is marked as its baseline, so that it is not
    run where the table is there. Returns nothing where nothing is to be done, and raises `MigrationError` where that
    cannot be told.
    """
    spec = source.table
    if spec is None:
        raise MigrationError(f"{source.plugin} has no table that is created from its schema")
    async with history.connection(dsn) as connection:
        records = (await history.recorded(connection)).get(source.plugin, {})
        stand = stands(source, records)
        if stand.failure or stand.missing:
            raise MigrationError(
                stand.failure
                or f"the database has {', '.join(stand.missing)}, which is missing from the package: add it again"
            )
        if stand.pending and stand.pending != SCHEMA_ROW[1:]:
            raise MigrationError(f"{stand.pending[0]} is not applied yet: run pegboard migrate first")
        files = [name for name in stand.applied if name != SCHEMA_ROW[1]]
        if not files:
            return await _takeover(connection, spec, records)
        return await _change(connection, spec, len(files) + 1)


async def _takeover(connection: asyncpg.Connection, spec: TableSpec, records: Applied) -> list[Draft]:
    made_from = records.get(SCHEMA_ROW[0], ("", ""))[1]
    there = await inspect(connection, spec) is not None
    if there and not made_from:
        raise MigrationError(
            f"the table {spec.schema}.{spec.name} was not created by Pegboard: run pegboard migrate first"
        )
    declared = ddl.fingerprint(spec)
    if made_from in ("", declared):
        return [_first(declared, ddl.create(spec)[1:])]
    return [_first(made_from, await written(connection, spec)), *await _change(connection, spec, 2)]


def _first(fingerprint: str, statements: list[str]) -> Draft:
    head = (
        f"-- pegboard: baseline {fingerprint}\n"
        "-- This is the table as its schema created it. Where it already exists, this file is not run.\n\n"
    )
    return Draft(1, first=True, text=head + "".join(f"{statement};\n" for statement in statements))


async def _change(connection: asyncpg.Connection, spec: TableSpec, version: int) -> list[Draft]:
    actual = await inspect(connection, spec)
    if actual is None:
        raise MigrationError(f"the table {spec.schema}.{spec.name} does not exist: a migration file must create it")
    change = difference(spec, actual)
    if not change.steps:
        return []
    warnings = tuple(f"{refusal.reason[0].upper()}{refusal.reason[1:]}. {refusal.effect}" for refusal in change.refused)
    return [Draft(version, first=False, text=_text(change), warnings=warnings)]


def _text(change: Change) -> str:
    parts = []
    for step in change.steps:
        if isinstance(step, Refusal):
            told = textwrap.wrap(f"{step.reason[0].upper()}{step.reason[1:]}. {step.effect}", _WIDTH)
            parts.append("\n".join(f"-- {line}" for line in ("READ THIS.", *told)))
            parts.append(f"{step.sql};\n")
        else:
            parts.append(f"{step};\n")
    return "\n".join(parts)
