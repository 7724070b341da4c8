"""The migration runner: applies pending migrations, once, whichever process starts first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import asyncpg

from pegboard.migrations import history, ownership
from pegboard.migrations.difference import Plan
from pegboard.migrations.inspection import missing_targets, plan_for
from pegboard.migrations.sqlfiles import MigrationError, SqlFile
from pegboard.migrations.status import (
    CORE,
    SCHEMA_ROW,
    Applied,
    NewerSchema,
    Outcome,
    PluginMigrations,
    Records,
    ordered,
    status_of,
    statuses,
    steps_pending,
)
from pegboard.schema import ddl
from pegboard.schema.column import quoted
from pegboard.schema.ddl import TableSpec


@dataclass(frozen=True, slots=True)
class Preview:
    """Hold the SQL that would run for one plugin; its comments contain the reasons for refused steps."""

    sql: str
    refused: bool


async def migrate(
    dsn: str, plugins: Sequence[PluginMigrations], *, wait: float = history.WAIT, lock_timeout: float = 10.0
) -> dict[str, Outcome]:
    """Apply pending migrations, the core's first, and return the status of each plugin, uninstalled ones included.

    Processes that start at the same time take turns; one waits at most `wait` seconds. The failure of a plugin is
    reported in its status and stops no other. A statement waits at most `lock_timeout` seconds for a locked table.
    `dsn` must connect to the server directly: a pooler in transaction mode loses the lock.
    Raises `MigrationError` after the wait or if the core's own migrations fail, and the errors of asyncpg if the
    database cannot be reached.
    """
    sources = ordered(plugins)
    async with history.connection(dsn) as connection:
        records = await history.recorded(connection)
        outcomes = _check_core(statuses(sources, records))
        owners = await _check_owners(connection, sources, records, outcomes)
        if any(outcome.pending and not outcome.failure for outcome in outcomes.values()):
            async with history.lock(connection, wait):
                await connection.execute(history.BOOTSTRAP)
                records = await history.recorded(connection)
                outcomes = _check_core(statuses(sources, records))
                owners = await _check_owners(connection, sources, records, outcomes)
                for source in sources:
                    if outcomes[source.plugin].pending and not outcomes[source.plugin].failure:
                        applied = records.get(source.plugin, {})
                        outcomes[source.plugin] = await _apply_pending(dsn, source, applied, lock_timeout)
                    _check_core(outcomes)
                owners = await ownership.read(connection, sources)
        await ownership.claim(connection, [s for s in sources if not outcomes[s.plugin].failure], owners)
    return outcomes


async def _check_owners(
    connection: asyncpg.Connection, sources: Sequence[PluginMigrations], records: Records, outcomes: dict[str, Outcome]
) -> Mapping[str, str]:
    """Fail the plugins that must not use their schema; return the owners of all schemas."""
    owners = await ownership.read(connection, sources)
    for source in sources:
        problem = ownership.problem(source, owners, records)
        if problem is not None:
            outcomes[source.plugin] = replace(outcomes[source.plugin], failure=problem)
    return owners


async def status(dsn: str, plugins: Sequence[PluginMigrations]) -> dict[str, Outcome]:
    """Return the status of each plugin without any change; uninstalled plugins come last."""
    async with history.connection(dsn) as connection:
        return statuses(ordered(plugins), await history.recorded(connection))


async def preview(dsn: str, plugins: Sequence[PluginMigrations]) -> dict[str, Preview]:
    """Return what `migrate` would do for each plugin with pending migrations, without applying them."""
    sources = ordered(plugins)
    async with history.connection(dsn) as connection:
        records = await history.recorded(connection)
        outcomes = _check_core(statuses(sources, records))
        return {
            source.plugin: await _preview(connection, source, records.get(source.plugin, {}))
            for source in sources
            if outcomes[source.plugin].pending or outcomes[source.plugin].failure
        }


def _check_core(outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    core = outcomes[CORE]
    if core.failure:
        raise MigrationError(f"the core's own migrations failed: {core.failure}")
    if core.missing:
        raise NewerSchema(
            f"the database was migrated by a newer pegboard ({', '.join(core.missing)}), which this "
            "version cannot use: install the newer version, or restore a backup from before"
        )
    return outcomes


async def _apply_pending(dsn: str, source: PluginMigrations, records: Applied, lock_timeout: float) -> Outcome:
    """Apply pending migrations on a separate connection, so that settings of its files affect no other plugin."""
    before = status_of(source, records)
    now: list[str] = []
    failure = None
    async with history.connection(dsn) as connection:
        if not records:
            await connection.execute(history.FORGET, source.plugin)
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
        await connection.execute(history.RECORD, source.plugin, file.version, file.name, file.checksum)
        return
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)}; SET LOCAL {path}")
        if source.table is not None and file.version == SCHEMA_ROW[0]:
            await _make_table(connection, source.table, managed=described)
            await connection.execute(history.RECORD, source.plugin, *SCHEMA_ROW, ddl.fingerprint(source.table))
            return
        if not (described and file.baseline):
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(source.plugin)}")
            await _run(connection, file)
        if not connection.is_in_transaction():
            raise MigrationError("it ends the transaction that it runs in, so it may be applied in part")
        await connection.execute(history.RECORD, source.plugin, file.version, file.name, file.checksum)


async def _run(connection: asyncpg.Connection, file: SqlFile) -> None:
    if not file.is_empty:
        await connection.execute(file.text)


async def _make_table(connection: asyncpg.Connection, spec: TableSpec, *, managed: bool) -> None:
    for plugin, table in await missing_targets(connection, spec):
        raise MigrationError(f"it refers to {plugin}.{table}, which does not exist: is the plugin {plugin} ready?")
    plan = await plan_for(connection, spec, managed=managed, lock=True)
    if plan.manual:
        raise MigrationError(_failure(spec, plan))
    for statement in plan.additive:
        await connection.execute(statement)


def _failure(spec: TableSpec, plan: Plan) -> str:
    reasons = "; ".join(step.reason for step in plan.manual)
    sql = "; ".join(plan.statements)
    return (
        f"{spec.schema}.{spec.name} has rows, and {reasons}. "
        f"Write a migration, which pegboard make-migration {spec.schema} writes: {sql};"
    )


def _line(file: SqlFile, error: asyncpg.PostgresError) -> str:
    position = getattr(error, "position", None)
    if not position or not file.text:
        return ""
    return f", line {file.text.count(chr(10), 0, int(position) - 1) + 1}"


async def _preview(connection: asyncpg.Connection, source: PluginMigrations, records: Applied) -> Preview:
    try:
        steps = steps_pending(source, records)[1]
    except (MigrationError, OSError) as error:
        return Preview(f"-- refused: {error}\n", refused=True)
    described = SCHEMA_ROW[0] in records
    refused, texts = False, []
    for file in steps:
        if source.table is not None and file.version == SCHEMA_ROW[0]:
            plan = await plan_for(connection, source.table, managed=described, lock=False)
            refused = bool(plan.manual)
            texts += [f"-- refused: {step.reason}. {step.effect}" for step in plan.manual]
            texts += [f"{statement};" for statement in plan.statements]
        elif described and file.baseline:
            texts.append(f"-- {file.name}: already created")
        else:
            texts.append(f"-- {file.name}\n{file.text.rstrip()}")
    return Preview("\n".join(texts) + "\n", refused)
