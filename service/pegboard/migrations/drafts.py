"""Drafts of the next SQL files of a package, from the difference of its schema and the database."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import asyncpg

from pegboard.migrations import history, survey
from pegboard.migrations.comparison import existing_tables, standard_parts
from pegboard.migrations.declarations import declaration_of, past_of
from pegboard.migrations.difference import difference
from pegboard.migrations.inspection import declared_table, definition
from pegboard.migrations.plan import ManualStep, Plan, resolve
from pegboard.migrations.sqlfiles import MigrationError
from pegboard.migrations.status import SCHEMA_ROW, Outcome, PluginMigrations, ordered
from pegboard.migrations.survey import Survey
from pegboard.migrations.tables import Past, Tables
from pegboard.schema import ddl
from pegboard.schema.ddl import TableSpec

_WIDTH = 117
_UNREAD = """\
-- pegboard: unread
-- This draft contains decisions that only its author can make: read this file, edit it, then delete the first line.
-- Until then it is not run.

"""


@dataclass(frozen=True, slots=True)
class Draft:
    """Hold the text of one SQL file; the `first` creates the table, the others change it.

    `warnings` describe the decisions that its author has to make: with any, the file is marked as unread.
    """

    version: int
    first: bool
    text: str
    warnings: tuple[str, ...] = ()


async def draft(dsn: str, source: PluginMigrations, plugins: Sequence[PluginMigrations]) -> list[Draft]:
    """Return the files that change the table of a plugin to the one its schema declares; none if nothing has to change.

    If the package has no files yet, the first makes the existing table and is marked as its baseline, so that it is not
    run where the table exists. Raises `MigrationError` if the difference cannot be determined.
    """
    spec = source.table
    if spec is None or source.use.existing is not None:
        raise MigrationError(f"{source.plugin} has no table that is created from its schema")
    async with history.connection(dsn) as connection:
        found = await survey.take(connection, ordered(plugins))
        outcome, verdict = found.outcomes[source.plugin], found.verdicts.get(source.plugin)
        undecided = verdict is not None and bool(verdict.plan.manual)
        problem = _unready(outcome) or (None if undecided else outcome.failure)
        if problem is not None:
            raise MigrationError(problem)
        files = [name for name in outcome.applied if name != SCHEMA_ROW[1]]
        if not files:
            return await _baseline(connection, source, spec, found)
        return await _change(connection, source, spec, found, len(files) + 1)


@dataclass(frozen=True, slots=True)
class Differences:
    """Hold in what a table and its SQL files differ from the schema.

    The `problems` keep the plugin from being served; the `advice` is what a draft would contain nevertheless.
    """

    problems: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


async def differences(dsn: str, plugins: Sequence[PluginMigrations]) -> dict[str, Differences]:
    """Return in what the table and the SQL files of each plugin differ from its schema, by the name of its storage."""
    async with history.connection(dsn) as connection:
        found = await survey.take(connection, ordered(plugins))
        return {source.plugin: await _differences(connection, source, found) for source in plugins}


async def _differences(connection: asyncpg.Connection, source: PluginMigrations, found: Survey) -> Differences:
    outcome, spec = found.outcomes[source.plugin], source.table
    problem = _unready(outcome) or outcome.failure
    if problem is not None:
        return Differences(problems=(problem,))
    # What the schema changes by itself at the next start is no difference.
    if spec is None or source.use.existing is not None or found.history_of(source).by_schema:
        return Differences()
    plan = await _plan(connection, source, spec, found)
    steps = (step if isinstance(step, str) else f"{step.reason}: {step.cure}" for step in plan.decided)
    return Differences(advice=tuple(steps))


def _unready(outcome: Outcome) -> str | None:
    """Return why the files of a package are not those that the database has, or None if they are."""
    if outcome.missing:
        return f"the database has {', '.join(outcome.missing)}, which is missing from the package: add it again"
    files = [name for name in outcome.pending if name != SCHEMA_ROW[1]]
    if files and outcome.failure is None:
        return f"{files[0]} is not applied yet: run pegboard migrate first"
    return None


async def _baseline(
    connection: asyncpg.Connection, source: PluginMigrations, spec: TableSpec, found: Survey
) -> list[Draft]:
    made_from = found.records.get(source.plugin, {}).get(SCHEMA_ROW[0], ("", ""))[1]
    exists = bool(await existing_tables(connection, [source]))
    if exists and not made_from:
        raise MigrationError(
            f"the table {spec.schema}.{spec.name} was not created by Pegboard: run pegboard migrate first"
        )
    if not made_from:
        return [_first(ddl.fingerprint(spec), ddl.create(spec)[1:])]
    first = _first(made_from, await definition(connection, spec))
    return [first, *await _change(connection, source, spec, found, 2)]


def _first(fingerprint: str, statements: list[str]) -> Draft:
    head = (
        f"-- pegboard: baseline {fingerprint}\n"
        "-- This is the table as its schema created it. Where it already exists, this file is not run.\n\n"
    )
    return Draft(1, first=True, text=head + "".join(f"{statement};\n" for statement in statements))


async def _change(
    connection: asyncpg.Connection, source: PluginMigrations, spec: TableSpec, found: Survey, version: int
) -> list[Draft]:
    plan = await _plan(connection, source, spec, found)
    if not plan.steps and not plan.drops:
        return []
    warnings = tuple(_sentence(step) for step in plan.manual) + plan.notices
    head = _UNREAD if warnings else ""
    return [Draft(version, first=False, text=head + "\n".join(_parts(plan)), warnings=warnings)]


async def _plan(connection: asyncpg.Connection, source: PluginMigrations, spec: TableSpec, found: Survey) -> Plan:
    """Return the steps to the declared table, without what the core adds by itself to tables of SQL files."""
    known = found.history_of(source)
    existing = await existing_tables(connection, [source])
    actual = existing.get((spec.schema, spec.name))
    if actual is None:
        raise MigrationError(f"the table {spec.schema}.{spec.name} does not exist: a migration file must create it")
    past = past_of(declaration_of(spec, source.version), known.declared)
    if past.latest is None and not known.by_schema:
        past = Past(spec, changed=False)
    wanted = await declared_table(connection, spec)
    tables = Tables(spec, wanted, actual, past, by_files=not known.by_schema)
    plan = await resolve(connection, difference(tables))
    standard = {*standard_parts(tables)}
    return replace(plan, steps=tuple(step for step in plan.steps if step not in standard))


def _sentence(step: ManualStep) -> str:
    return f"{step.reason[0].upper()}{step.reason[1:]}. {step.effect}".rstrip()


def _parts(plan: Plan) -> Iterator[str]:
    for step in plan.decided:
        if isinstance(step, str):
            yield f"{step};\n"
            continue
        yield _comment("WARNING:", _sentence(step))
        if step.alternative:
            yield _comment("If it was renamed, write this line in place of the statements below:")
            yield f"--   {step.alternative};"
        yield f"{step.sql};\n"
    for notice, drop in zip(plan.notices, plan.drops, strict=True):
        column = notice.partition(":")[0]
        yield _comment(
            "WARNING:",
            f"{column[0].upper()}{column[1:]}. It keeps its values, and processes of the version before still use it. "
            "To lose them, put this line into a file of a later release:",
        )
        yield f"--   {drop};\n"


def _comment(*paragraphs: str) -> str:
    lines = [line for paragraph in paragraphs for line in textwrap.wrap(paragraph, _WIDTH)]
    return "\n".join(f"-- {line}" for line in lines)
