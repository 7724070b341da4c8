"""The comparison of each plugin's table with what it declares, and the steps that follow from it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import asyncpg

from pegboard.migrations import declarations, nested
from pegboard.migrations.actual import Actual
from pegboard.migrations.declarations import Declaration
from pegboard.migrations.difference import difference, trigger_changes, without_obstacles
from pegboard.migrations.fitness import misfits
from pegboard.migrations.inspection import TableName, declared_table, inspect
from pegboard.migrations.plan import NOTHING, ManualStep, Plan, reasons, resolve
from pegboard.migrations.status import SCHEMA_ROW, Applied, PluginMigrations
from pegboard.migrations.tables import Past, Tables
from pegboard.schema import ddl
from pegboard.schema.column import quoted
from pegboard.schema.ddl import OWNED_BY, STANDARD, TableSpec

_DEPENDENTS = """
    SELECT EXISTS (SELECT FROM pg_constraint WHERE confrelid = $1::regclass AND conrelid <> confrelid)
        OR EXISTS (SELECT FROM pg_depend WHERE (refclassid, refobjid) = ('pg_class'::regclass, $1::regclass)
                   AND classid = 'pg_rewrite'::regclass)
"""


@dataclass(frozen=True, slots=True)
class History:
    """Hold what is recorded of one plugin: its migrations, and the declarations of its table, the latest last."""

    records: Applied
    declared: Sequence[Declaration]
    by_schema: bool
    """Whether the schema creates the table."""
    newer: tuple[str, ...] = ()
    """The applied files that only another version of the package has."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Hold the steps that make a table fit its declaration, or why it is not served from.

    `record` is the declaration to record then; `deferred` are references to tables that are created later, which it
    `awaits`.
    """

    plan: Plan = NOTHING
    failure: str | None = None
    record: Declaration | None = None
    deferred: frozenset[str] = frozenset()
    awaits: frozenset[TableName] = frozenset()

    @property
    def has_work(self) -> bool:
        """Return whether the database has to be changed."""
        return self.failure is None and (bool(self.plan.additive) or self.record is not None)


async def existing_tables(
    connection: asyncpg.Connection, sources: Collection[PluginMigrations]
) -> Mapping[TableName, Actual]:
    """Return the tables of plugins, and those that they refer to, as they are."""
    specs = [source.table for source in sources if source.table]
    own = [(spec.schema, name) for spec in specs for name in (spec.name, ddl.content_table(spec))]
    targets = [column.references for spec in specs for column in spec.columns if column.references]
    return await inspect(connection, [*own, *targets])


def digest_of(spec: TableSpec, actual: Actual | None) -> str:
    """Return a digest of what is compared: the table as it is, and the statements that would create it."""
    return sha256("\n".join((repr(actual), *ddl.create(spec))).encode()).hexdigest()


async def compare(
    connection: asyncpg.Connection,
    source: PluginMigrations,
    history: History,
    existing: Mapping[TableName, Actual],
    later: Collection[TableName | None] = (),
    *,
    lock: bool = False,
) -> Verdict:
    """Compare the table of a plugin with its declaration.

    `later` are tables that do not exist yet but will. With `lock`, no row can be added before the transaction ends.
    """
    spec = source.table
    if spec is None:
        return Verdict()
    current = declarations.declaration_of(spec, source.version)
    actual = existing.get((spec.schema, spec.name))
    is_new = history.by_schema and SCHEMA_ROW[0] not in history.records
    if actual is None and not is_new:
        return Verdict(failure=_missing(source, spec, history))
    if actual is not None and (history.newer or declarations.is_older(current, history.declared)):
        return _older(source, spec, actual, history)
    verified = declarations.is_recorded(current, history.declared, digest_of(spec, actual))
    record = None if verified else current
    past = declarations.past_of(current, history.declared)
    if actual is not None and not history.by_schema:
        return await _made_elsewhere(connection, source, Tables(spec, actual, actual, past), record)
    absent = _absent_targets(spec, existing)
    for schema, table in (target for target in absent if target not in later):
        return Verdict(failure=f"it refers to {schema}.{table}, which does not exist: is the plugin {schema} ready?")
    has_content = not spec.content or (spec.schema, ddl.content_table(spec)) in existing
    if verified and has_content:
        return Verdict()
    deferred = frozenset(name for name, column in ddl.references(spec).items() if column.references in absent)
    plan = await plan_for(connection, spec, actual, past, deferred=deferred, managed=bool(history.records), lock=lock)
    if actual is not None and not has_content:
        plan = replace(plan, steps=(*plan.steps, *ddl.create_content(spec)))
    failure = _failure(source, spec, plan) if plan.manual else None
    return Verdict(plan, failure, record, deferred, frozenset(absent))


async def plan_for(
    connection: asyncpg.Connection,
    spec: TableSpec,
    actual: Actual | None,
    past: Past,
    *,
    deferred: frozenset[str] = frozenset(),
    managed: bool,
    lock: bool,
) -> Plan:
    """Return the steps that change the table to the declared one.

    In a `managed` table (created from a declaration) without rows, to which nothing refers, manual steps are applied,
    too: no value can be lost. Its columns stay, as an older version may use them. With `lock`, no row can be added
    before the transaction ends.
    """
    created = [statement for statement in ddl.create(spec) if not any(quoted(name) in statement for name in deferred)]
    if actual is None:
        return Plan(tuple(created))
    wanted = await declared_table(connection, spec)
    tables = Tables(spec, wanted, actual, past, deferred)
    plan = await resolve(connection, difference(tables))
    plan = replace(plan, notices=(*plan.notices, *await _nested_notices(connection, spec, past)))
    if not plan.manual or not managed or actual.kind != "r" or actual.heirs:
        return plan
    if lock:
        await connection.execute(f"LOCK TABLE {spec.sql_name} IN ACCESS EXCLUSIVE MODE")
    if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {spec.sql_name})"):
        return plan
    if await connection.fetchval(_DEPENDENTS, spec.sql_name):
        return plan
    obstacles, rest = without_obstacles(tables)
    steps = (await resolve(connection, difference(rest))).steps
    return replace(plan, steps=(*obstacles, *steps)).without_rows


def _absent_targets(spec: TableSpec, existing: Mapping[TableName, Actual]) -> list[TableName]:
    """Return the tables of other plugins that `spec` refers to and that do not exist."""
    targets = sorted({column.references for column in spec.columns if column.references})
    return [target for target in targets if target not in existing and target != (spec.schema, spec.name)]


def _older(source: PluginMigrations, spec: TableSpec, actual: Actual, history: History) -> Verdict:
    """Let an older version change nothing, and be served if the table still fits."""
    steps = tuple(misfits(spec, actual, replace(source.use, strict=False)))
    if not steps:
        return Verdict()
    newest = history.declared[-1].version if history.declared else ""
    by = f"version {newest}" if newest and newest != source.version else "another version"
    cure = "install that version"
    if newest == source.version:
        cure += ", or raise the version of the distribution to make this one the newer"
    failure = f"{spec.schema}.{spec.name} was changed by {by} of the plugin, and {reasons(steps)}: {cure}"
    return Verdict(failure=failure)


async def _made_elsewhere(
    connection: asyncpg.Connection, source: PluginMigrations, tables: Tables, record: Declaration | None
) -> Verdict:
    """Compare a table that SQL files have created, or another program."""
    spec, actual, past = tables.spec, tables.actual, tables.past
    steps: tuple[str | ManualStep, ...] = tuple(misfits(spec, actual, source.use))
    failure = _failure(source, spec, Plan(steps)) if steps else None
    if source.use.existing is None and actual.kind == "r" and record is not None:
        wanted = await declared_table(connection, spec)
        steps += tuple(standard_parts(replace(tables, wanted=wanted)))
    notices = await _nested_notices(connection, spec, past)
    return Verdict(Plan(steps, notices=notices), failure, record)


async def _nested_notices(connection: asyncpg.Connection, spec: TableSpec, past: Past) -> tuple[str, ...]:
    """Return how the nested schemas have changed, if there are rows that do not follow them."""
    found = tuple(nested.notices(past.latest, spec)) if past.latest and past.changed else ()
    has_rows = found and await connection.fetchval(f"SELECT EXISTS (SELECT FROM {spec.sql_name})")
    return found if has_rows else ()


def standard_parts(tables: Tables) -> Iterator[str]:
    """Yield the statements that add the defaults and triggers of the core to a table that SQL files have created."""
    for column in (*STANDARD, OWNED_BY):
        wanted, found = tables.wanted.columns.get(column.name), tables.actual.columns.get(column.name)
        if wanted and wanted.default is not None and found and found.default is None and not found.is_computed:
            alter = f"ALTER TABLE {tables.name} ALTER COLUMN {quoted(column.name)}"
            yield f"{alter} SET DEFAULT {column.default}"
    yield from trigger_changes(tables)


def _missing(source: PluginMigrations, spec: TableSpec, history: History) -> str:
    name = f"{spec.schema}.{spec.name}"
    if source.use.existing is not None:
        return f"the table {name} does not exist: create it, or correct the attribute table"
    if not history.by_schema:
        return f"the table {name} does not exist: its SQL files must create it"
    return (
        f"the table {name} is missing, but was created before: name it {name} again or restore it; "
        f"to begin without its rows, run pegboard remove-plugin {source.plugin}"
    )


def _failure(source: PluginMigrations, spec: TableSpec, plan: Plan) -> str:
    name = f"{spec.schema}.{spec.name}"
    cures = "; ".join(step.cure for step in plan.manual)
    if source.use.existing is not None:
        return f"{name} does not match the schema: {reasons(plan.manual)}. Change the schema or the table: {cures};"
    return (
        f"{name} does not match the schema: {reasons(plan.manual)}. "
        f"Write a migration, which pegboard make-migration {source.plugin} writes: {cures};"
    )
