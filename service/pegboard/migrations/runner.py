"""The migration runner: applies what is pending, once, whichever process starts first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import asyncpg

from pegboard.migrations import declarations, history, order, ownership, survey
from pegboard.migrations.comparison import Verdict, digest_of, existing_tables
from pegboard.migrations.inspection import TableName
from pegboard.migrations.sqlfiles import MigrationError, SqlFile
from pegboard.migrations.status import (
    CORE,
    SCHEMA_ROW,
    NewerSchema,
    Outcome,
    PluginMigrations,
    files_pending,
    ordered,
)
from pegboard.migrations.survey import Survey
from pegboard.schema import ddl
from pegboard.schema.column import quoted


@dataclass(frozen=True, slots=True)
class Preview:
    """Hold the SQL that would run for one plugin; its comments contain the reasons for refused steps."""

    sql: str
    refused: bool


async def migrate(
    dsn: str, plugins: Sequence[PluginMigrations], *, wait: float = history.WAIT, lock_timeout: float = 10.0
) -> dict[str, Outcome]:
    """Apply pending migrations, the core's first, and return the status of each plugin, uninstalled ones included.

    The table of each plugin is compared with its declaration, whichever way it was created. Processes that start at
    the same time take turns; one waits at most `wait` seconds. The failure of a plugin is reported in its status and
    stops no other. A statement waits at most `lock_timeout` seconds for a locked table. `dsn` must connect to the
    server directly: a pooler in transaction mode loses the lock.

    Raises `MigrationError` after the wait or if the core's own migrations fail, and the errors of asyncpg if the
    database cannot be reached.
    """
    sources = ordered(plugins)
    async with history.connection(dsn) as connection:
        found = await survey.take(connection, sources)
        _check_core(found.outcomes)
        if found.has_work:
            async with history.lock(connection, wait):
                await connection.execute(history.BOOTSTRAP)
                run = _Run(dsn, connection, sources, lock_timeout, await survey.take(connection, sources))
                await run.core()
                await run.plugins()
                found = run.found
        owners = await ownership.read(connection, sources)
        sound = [source for source in sources if not found.outcomes[source.plugin].failure]
        await ownership.claim(connection, sound, owners)
    return _check_core(found.outcomes)


async def status(dsn: str, plugins: Sequence[PluginMigrations]) -> dict[str, Outcome]:
    """Return the status of each plugin without any change; uninstalled plugins come last."""
    async with history.connection(dsn) as connection:
        return (await survey.take(connection, ordered(plugins))).outcomes


async def preview(dsn: str, plugins: Sequence[PluginMigrations]) -> dict[str, Preview]:
    """Return what `migrate` would do for each plugin with pending migrations, without applying them."""
    sources = ordered(plugins)
    async with history.connection(dsn) as connection:
        found = await survey.take(connection, sources)
    _check_core(found.outcomes)
    return {
        source.plugin: _preview(source, found)
        for source in sources
        if found.outcomes[source.plugin].pending
        or found.outcomes[source.plugin].failure
        or found.verdicts.get(source.plugin, Verdict()).plan.steps
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


class _Run:
    """Apply the steps of a survey while this process holds the lock."""

    def __init__(
        self,
        dsn: str,
        connection: asyncpg.Connection,
        sources: Sequence[PluginMigrations],
        lock_timeout: float,
        found: Survey,
    ) -> None:
        self._dsn = dsn
        self._connection = connection
        self._sources = sources
        self._timeout = f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)}"
        self.found = found
        self._applied: dict[str, set[int]] = {}

    async def core(self) -> None:
        """Apply the core's own files, and look at the database again, as the plugins are recorded in its tables."""
        _check_core(self.found.outcomes)
        core = self._sources[0]
        if not self.found.outcomes[CORE].pending:
            return
        self._applied = {CORE: set(self.found.records.get(CORE, {}))}
        for file in files_pending(core, self.found.records.get(CORE, {}))[1]:
            await self._apply_file(core, file)
        outcome = _check_core(self.found.outcomes)[CORE]
        self.found = await survey.take(self._connection, self._sources)
        self.found.outcomes[CORE] = outcome

    async def plugins(self) -> None:
        """Apply the files and the tables of all plugins in their order."""
        self._applied = {plugin: set(numbers) for plugin, numbers in self.found.records.items()}
        waiting = [source for source in self._sources if source.table is not None]
        deferred = []
        for step in self.found.steps:
            source = step.source
            if step.file is not None:
                await self._apply_file(source, step.file)
                continue
            if source not in waiting:
                continue
            waiting.remove(source)
            later = [other.table_name for other in waiting if other.table_name and self._is_sound(other)]
            if (await self._apply_table(source, later)).deferred:
                deferred.append(source)
            if self._is_sound(source) and self.found.history_of(source).by_schema:
                self._applied.setdefault(source.plugin, set()).add(SCHEMA_ROW[0])
        # Tables that refer to each other exist now.
        for source in deferred:
            await self._apply_table(source, [])

    def _is_sound(self, source: PluginMigrations) -> bool:
        return not self.found.outcomes[source.plugin].failure

    async def _apply_file(self, source: PluginMigrations, file: SqlFile) -> None:
        """Apply a file on a separate connection, so that its settings affect no other; record its error."""
        if not self._is_sound(source):
            return
        failure = None
        need = order.unmet(file, self._applied)
        try:
            if need is not None:
                raise MigrationError(order.not_applied(file, need))
            async with history.connection(self._dsn) as connection:
                await self._run_file(connection, source, file)
        except MigrationError as error:
            failure = str(error) if str(error).startswith(file.name) else f"{file.name}: {error}"
        except asyncpg.PostgresError as error:
            failure = f"{file.name}{_line(file, error)}: {error.message or type(error).__name__}"
        except (asyncpg.InterfaceError, OSError) as error:
            failure = f"{file.name}: {error}"
        self._record(source, file.name, failure)
        if failure is None:
            self._applied.setdefault(source.plugin, set()).add(file.version)

    def _record(self, source: PluginMigrations, name: str, failure: str | None) -> None:
        """Put an applied step, or its failure, into the outcome of its plugin."""
        outcome = self.found.outcomes[source.plugin]
        if failure is not None:
            self.found.outcomes[source.plugin] = replace(outcome, failure=" ".join(failure.split()))
            return
        self.found.outcomes[source.plugin] = replace(
            outcome,
            applied=tuple(dict.fromkeys((*outcome.applied, name))),
            now=tuple(dict.fromkeys((*outcome.now, name))),
            pending=tuple(step for step in outcome.pending if step != name),
        )

    async def _run_file(self, connection: asyncpg.Connection, source: PluginMigrations, file: SqlFile) -> None:
        path = f"search_path TO {quoted(source.plugin)}, public"
        schema = f"CREATE SCHEMA IF NOT EXISTS {quoted(source.plugin)}"
        records = self.found.records.get(source.plugin, {})
        if not self._applied.get(source.plugin):
            await _forget(connection, source)
        if not file.in_transaction:
            await connection.execute(f"{schema}; SET {path}")
            await _execute(connection, file)
            await connection.execute(history.RECORD, source.plugin, file.version, file.name, file.checksum)
            return
        async with connection.transaction():
            await connection.execute(f"{self._timeout}; SET LOCAL {path}")
            if not (SCHEMA_ROW[0] in records and file.baseline):
                await connection.execute(schema)
                await _execute(connection, file)
            if not connection.is_in_transaction():
                raise MigrationError("it ends the transaction that it runs in, so it may be applied in part")
            await connection.execute(history.RECORD, source.plugin, file.version, file.name, file.checksum)

    async def _apply_table(self, source: PluginMigrations, later: Sequence[TableName]) -> Verdict:
        """Compare a table again, and apply the steps to what its schema declares."""
        known = self.found.verdicts.get(source.plugin)
        if not self._is_sound(source) or (known is not None and not (known.has_work or known.deferred)):
            return Verdict()
        try:
            async with self._connection.transaction():
                verdict = await self._change_table(source, later)
        except asyncpg.PostgresError as error:
            verdict = Verdict(failure=error.message or type(error).__name__)
            self.found.judge(source, verdict)
        return verdict

    async def _change_table(self, source: PluginMigrations, later: Sequence[TableName]) -> Verdict:
        connection, found = self._connection, self.found
        await connection.execute(f"{self._timeout}; SET LOCAL search_path TO {quoted(source.plugin)}, public")
        found.records = await history.recorded(connection)
        history_of = found.history_of(source)
        if not history_of.records and source.use.existing is None:
            await _forget(connection, source)
        existing = await existing_tables(connection, [source])
        verdict = await found.compare(connection, source, existing, later, lock=True)
        found.outcomes[source.plugin] = replace(found.outcomes[source.plugin], pending=())
        found.judge(source, verdict)
        if verdict.failure or source.table is None:
            return verdict
        for statement in verdict.plan.additive:
            await connection.execute(statement)
        if verdict.record is not None:
            fingerprint = ddl.fingerprint(source.table)
            if history_of.by_schema and history_of.records.get(SCHEMA_ROW[0]) != (SCHEMA_ROW[1], fingerprint):
                await connection.execute(history.RECORD, source.plugin, *SCHEMA_ROW, fingerprint)
            changed = await existing_tables(connection, [source])
            digest = digest_of(source.table, changed.get((source.table.schema, source.table.name)))
            current = replace(verdict.record, verified="" if verdict.deferred else digest)
            await declarations.record(connection, source.plugin, current, history_of.declared)
        for step in found.outcomes[source.plugin].pending:
            self._record(source, step, None)
        found.ledger = await declarations.recorded(connection)
        return verdict


async def _forget(connection: asyncpg.Connection, source: PluginMigrations) -> None:
    """Delete what was recorded of a plugin before its schema was dropped."""
    await connection.execute(history.FORGET, source.plugin)
    if source.plugin != CORE:
        await connection.execute(declarations.FORGET, source.plugin)


async def _execute(connection: asyncpg.Connection, file: SqlFile) -> None:
    if not file.is_empty:
        await connection.execute(file.text)


def _line(file: SqlFile, error: asyncpg.PostgresError) -> str:
    position = getattr(error, "position", None)
    if not position or not file.text:
        return ""
    return f", line {file.text.count(chr(10), 0, int(position) - 1) + 1}"


def _preview(source: PluginMigrations, found: Survey) -> Preview:
    records = found.records.get(source.plugin, {})
    outcome, verdict = found.outcomes[source.plugin], found.verdicts.get(source.plugin, Verdict())
    texts = [f"-- notice: {notice}" for notice in verdict.plan.notices]
    if outcome.failure and not verdict.plan.manual:
        texts.append(f"-- refused: {outcome.failure}")
    texts += [f"-- refused: {step.reason}. {step.effect}".rstrip() for step in verdict.plan.manual]
    texts += [f"{statement};" for statement in verdict.plan.statements]
    if source.table is not None:
        texts += [f"{ddl.add_reference(source.table, name)};" for name in sorted(verdict.deferred)]
    for file in () if outcome.failure else files_pending(source, records)[1]:
        created = SCHEMA_ROW[0] in records and file.baseline
        texts.append(f"-- {file.name}: already created" if created else f"-- {file.name}\n{file.text.rstrip()}")
    return Preview("\n".join(texts) + "\n", bool(outcome.failure))
