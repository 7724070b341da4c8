"""The survey of a database: what is recorded of each plugin, how its table differs, and what would be applied."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import asyncpg

from pegboard.migrations import declarations, history, order, ownership
from pegboard.migrations.actual import Actual
from pegboard.migrations.comparison import History, Verdict, compare, existing_tables
from pegboard.migrations.declarations import Declaration
from pegboard.migrations.inspection import TableName
from pegboard.migrations.order import Step
from pegboard.migrations.status import (
    CORE,
    SCHEMA_ROW,
    Applied,
    Outcome,
    PluginMigrations,
    files_pending,
    is_made_by_schema,
    statuses,
)
from pegboard.schema import ddl


@dataclass(slots=True)
class Survey:
    """Hold what the database has and what is to be done, by plugin; `steps` are in the order in which they are run."""

    records: Mapping[str, Applied]
    ledger: Mapping[str, Sequence[Declaration]]
    owners: Mapping[str, str]
    outcomes: dict[str, Outcome]
    steps: list[Step] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    @property
    def has_work(self) -> bool:
        """Return whether anything can be applied."""
        return any(
            not outcome.failure and (outcome.pending or self.verdicts.get(name, Verdict()).has_work)
            for name, outcome in self.outcomes.items()
        )

    def history_of(self, source: PluginMigrations) -> History:
        """Return what is recorded of a plugin; after its schema was dropped by hand, nothing is."""
        own = self.records.get(source.plugin, {})
        files = files_pending(source, own)[0]
        known = {file.version for file in files} | {SCHEMA_ROW[0]}
        newer = tuple(name for number, (name, _) in own.items() if number not in known)
        declared = self.ledger.get(source.plugin, ()) if own or source.use.existing else ()
        return History(own, declared, is_made_by_schema(source, files, own), newer)

    async def compare(
        self,
        connection: asyncpg.Connection,
        source: PluginMigrations,
        existing: Mapping[TableName, Actual],
        later: Collection[TableName | None],
        *,
        lock: bool = False,
    ) -> Verdict:
        """Compare the table of a plugin with its declaration; if that is impossible, the verdict has the failure."""
        try:
            verdict = await compare(connection, source, self.history_of(source), existing, later, lock=lock)
        except asyncpg.PostgresError as error:
            if self.outcomes[CORE].pending:
                # The functions of the core that a table needs are not there yet.
                return Verdict()
            verdict = Verdict(failure=f"its table cannot be compared: {error.message or type(error).__name__}")
        return verdict

    def judge(self, source: PluginMigrations, verdict: Verdict) -> None:
        """Put a verdict into the outcome of its plugin."""
        self.verdicts[source.plugin] = verdict
        known = self.history_of(source)
        failure, step = verdict.failure, ""
        if known.by_schema and source.table is not None:
            recorded = known.records.get(SCHEMA_ROW[0], ("", ""))[1] == ddl.fingerprint(source.table)
            step = SCHEMA_ROW[1] if verdict.plan.steps or (verdict.record and not recorded) else ""
            failure = f"{SCHEMA_ROW[1]}: {failure}" if failure else None
        outcome = self.outcomes[source.plugin]
        pending = (*outcome.pending, step) if step else outcome.pending
        self.outcomes[source.plugin] = replace(
            outcome, pending=pending, failure=failure and " ".join(failure.split()), notices=verdict.plan.notices
        )


async def take(connection: asyncpg.Connection, sources: Sequence[PluginMigrations]) -> Survey:
    """Compare all plugins with the database, without any change."""
    records = await history.recorded(connection)
    owners = await ownership.read(connection, sources)
    survey = Survey(records, await declarations.recorded(connection), owners, statuses(sources, records))
    for source in sources:
        _fail(survey, source.plugin, ownership.problem(source, owners, records))
    sound = [source for source in sources if not survey.outcomes[source.plugin].failure]
    pending = {source.plugin: files_pending(source, records.get(source.plugin, {}))[1] for source in sound}
    survey.steps, blocked = order.schedule(sound, pending, records)
    for name, reason in blocked.items():
        _fail(survey, name, reason)
    existing = await existing_tables(connection, sound)
    tables = [s for s in sound if s.table_name and s.plugin not in blocked]
    ready = [source for source in tables if not pending[source.plugin]]
    verdicts: dict[str, Verdict] = {}
    # A table that is to be created later may turn out to fail: then so do those that refer to it.
    while True:
        failed = {name for name, verdict in verdicts.items() if verdict.failure}
        later = {s.table_name for s in tables if s.plugin not in failed} - existing.keys()
        todo = [s for s in ready if s.plugin not in verdicts or verdicts[s.plugin].awaits - later]
        for source in todo:
            verdicts[source.plugin] = await survey.compare(connection, source, existing, later)
        if not todo:
            break
    for source in ready:
        survey.judge(source, verdicts[source.plugin])
    return survey


def _fail(survey: Survey, plugin: str, failure: str | None) -> None:
    if failure is not None:
        survey.outcomes[plugin] = replace(survey.outcomes[plugin], failure=failure)
