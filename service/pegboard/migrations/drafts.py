"""Drafts of the next SQL files of a package, from the difference of its schema and the database."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import asyncpg

from pegboard.migrations import history
from pegboard.migrations.difference import ManualStep, Plan, difference
from pegboard.migrations.inspection import definition, inspect
from pegboard.migrations.sqlfiles import MigrationError
from pegboard.migrations.status import SCHEMA_ROW, Applied, PluginMigrations, status_of
from pegboard.schema import ddl
from pegboard.schema.ddl import TableSpec

_WIDTH = 117


@dataclass(frozen=True, slots=True)
class Draft:
    """Hold the text of one SQL file; the `first` creates the table, the others change it.

    `warnings` describe the steps that lose data, or that fail on some rows.
    """

    version: int
    first: bool
    text: str
    warnings: tuple[str, ...] = ()


async def draft(dsn: str, source: PluginMigrations) -> list[Draft]:
    """Return the files that change the table of a plugin to the one its schema declares; none if nothing has to change.

    If the package has no files yet, the first makes the existing table and is marked as its baseline, so that it is not
    run where the table exists. Raises `MigrationError` if the difference cannot be determined.
    """
    spec = source.table
    if spec is None:
        raise MigrationError(f"{source.plugin} has no table that is created from its schema")
    async with history.connection(dsn) as connection:
        records = (await history.recorded(connection)).get(source.plugin, {})
        current = status_of(source, records)
        if current.failure or current.missing:
            raise MigrationError(
                current.failure
                or f"the database has {', '.join(current.missing)}, which is missing from the package: add it again"
            )
        if current.pending and current.pending != SCHEMA_ROW[1:]:
            raise MigrationError(f"{current.pending[0]} is not applied yet: run pegboard migrate first")
        files = [name for name in current.applied if name != SCHEMA_ROW[1]]
        if not files:
            return await _baseline(connection, spec, records)
        return await _change(connection, spec, len(files) + 1)


async def _baseline(connection: asyncpg.Connection, spec: TableSpec, records: Applied) -> list[Draft]:
    made_from = records.get(SCHEMA_ROW[0], ("", ""))[1]
    exists = await inspect(connection, spec) is not None
    if exists and not made_from:
        raise MigrationError(
            f"the table {spec.schema}.{spec.name} was not created by Pegboard: run pegboard migrate first"
        )
    declared = ddl.fingerprint(spec)
    if made_from in ("", declared):
        return [_first(declared, ddl.create(spec)[1:])]
    return [_first(made_from, await definition(connection, spec)), *await _change(connection, spec, 2)]


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
    plan = difference(spec, actual)
    if not plan.steps:
        return []
    warnings = tuple(f"{step.reason[0].upper()}{step.reason[1:]}. {step.effect}" for step in plan.manual)
    return [Draft(version, first=False, text=_text(plan), warnings=warnings)]


def _text(plan: Plan) -> str:
    parts = []
    for step in plan.steps:
        if isinstance(step, ManualStep):
            lines = textwrap.wrap(f"{step.reason[0].upper()}{step.reason[1:]}. {step.effect}", _WIDTH)
            parts.append("\n".join(f"-- {line}" for line in ("WARNING:", *lines)))
            parts.append(f"{step.sql};\n")
        else:
            parts.append(f"{step};\n")
    return "\n".join(parts)
