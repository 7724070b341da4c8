"""The difference between an existing table and the declared one, as SQL; some steps need an author's decision."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from pegboard.migrations import access, indexes
from pegboard.migrations.actual import Actual, ActualColumn, Constraint
from pegboard.migrations.plan import CheckedStep, ManualStep, Plan, Steps
from pegboard.migrations.tables import Tables
from pegboard.schema import ddl
from pegboard.schema.column import Column, quoted
from pegboard.schema.ddl import TableSpec

_CAST = re.compile(r"(?<=['\]])::[a-z_ ]+(?:\([0-9,]+\))?(?:\[\])?")
_QUOTED_WORD = re.compile(r"'(-?[0-9.]+|true|false)'")
_BOUND = re.compile(r"(?<=[<>]= )\d+")
_LITERAL = re.compile(r"'(?:[^']|'')*'|-?\d+")
_CONSTRAINTS = (ddl.MAX_LENGTH, ddl.MIN_LENGTH, ddl.REFERENCE, ddl.CHOICES)
_VARCHAR = re.compile(r"character varying\((\d+)\)")


def difference(tables: Tables) -> Plan:
    """Compare the declared table with the existing one; without a difference there are no steps."""
    steps = (
        *access.problems(tables.spec, tables.actual, access.ALL),
        *access.storage_problems(tables.spec, tables.actual),
        *_obsolete(tables),
        *_undeclared_columns(tables),
        *(step for column in tables.spec.all_columns for step in _column_changes(tables, column)),
        *_key_changes(tables),
        *_check_changes(tables),
        *_reference_changes(tables),
        *indexes.changes(tables),
        *trigger_changes(tables),
    )
    removed = [name for name in undeclared(tables.spec, tables.actual) if tables.past.removes(name)]
    drops = tuple(f"ALTER TABLE {tables.name} DROP COLUMN {quoted(name)}" for name in removed)
    return Plan(steps, drops, tuple(_notice(tables, name) for name in removed))


def without_obstacles(tables: Tables) -> tuple[list[str], Tables]:
    """Return the statements that drop what could keep the types of columns from being changed, and what is left then.

    These are the declared checks and indexes over such columns, and the search; the difference adds them again.
    """
    actual, wanted = tables.actual, tables.wanted
    retyped = [c.name for c in actual.columns.values() if c.name in wanted.columns.keys() - {ddl.SEARCH}]
    retyped = [name for name in retyped if actual.columns[name].type != wanted.columns[name].type]

    def is_affected(text: str | None) -> bool:
        return any(name in (text or "") for name in retyped)

    checks = {one.name for one in actual.checks.values() if one.name in wanted.checks and is_affected(one.definition)}
    indexes = {
        one.name
        for one in actual.indexes.values()
        if one.name in wanted.indexes.keys() - actual.constraints.keys() and is_affected(one.definition)
    }
    search = actual.columns.get(ddl.SEARCH)
    columns = {ddl.SEARCH} if search and search.generated and is_affected(search.default) else set()
    drops = [
        *(f"ALTER TABLE {tables.name} DROP CONSTRAINT {quoted(name)}" for name in sorted(checks)),
        *(f"DROP INDEX {quoted(tables.spec.schema)}.{quoted(name)}" for name in sorted(indexes)),
        *(f"ALTER TABLE {tables.name} DROP COLUMN {quoted(name)}" for name in columns),
    ]
    gone = indexes | {one.name for one in actual.indexes.values() if columns.intersection(one.columns)}
    left = replace(
        actual,
        columns={name: one for name, one in actual.columns.items() if name not in columns},
        constraints={name: one for name, one in actual.constraints.items() if name not in checks},
        indexes={name: one for name, one in actual.indexes.items() if name not in gone},
    )
    return drops, replace(tables, actual=left)


def _notice(tables: Tables, name: str) -> str:
    """Return what becomes of the column of a field that is no longer declared."""
    column = tables.actual.columns[name]
    relaxed = "" if column.is_optional else " and now allows null"
    return (
        f"the column {name} is no longer declared: it keeps its values{relaxed}; to lose them, run in a later release "
        f"ALTER TABLE {tables.name} DROP COLUMN {quoted(name)}"
    )


def undeclared(spec: TableSpec, actual: Actual) -> list[str]:
    """Return the columns that are not declared, except the one for full-text search."""
    declared = {column.name for column in spec.all_columns}
    return [name for name in actual.columns if name not in declared and name != ddl.SEARCH]


def _obsolete(tables: Tables) -> Iterator[str]:
    """Drop constraints and indexes that are no longer declared; no data is lost.

    Those that no declaration had are not ours. The search column stays, as processes of the version before use it.
    """
    spec, actual, latest = tables.spec, tables.actual, tables.past.latest
    if not tables.past.changed:
        return
    declared = {*ddl.constraint_columns(spec), *ddl.indexes(spec)}
    search = ddl.object_name(spec.name, (ddl.SEARCH,), ddl.INDEX)
    before = None if latest is None else {*ddl.lengths(latest), *ddl.references(latest), *ddl.choices(latest)}
    for name in sorted((*actual.checks, *actual.references)):
        generated = name.endswith(_CONSTRAINTS) if before is None else name in before
        if generated and name not in declared:
            yield f"ALTER TABLE {tables.name} DROP CONSTRAINT {quoted(name)}"
    before = None if latest is None else {*ddl.uniques(latest), *ddl.indexes(latest)}
    for name in sorted(actual.indexes.keys() - {search}):
        generated = name.endswith((ddl.INDEX, ddl.UNIQUE)) if before is None else name in before
        if generated and name not in declared and name not in actual.constraints:
            yield f"DROP INDEX {quoted(spec.schema)}.{quoted(name)}"


def _undeclared_columns(tables: Tables) -> Steps:
    """Let rows be inserted without the columns that are not declared."""
    for name in undeclared(tables.spec, tables.actual):
        if tables.actual.columns[name].is_optional:
            continue
        sql = allow_null(tables.spec, tables.actual.columns[name])
        if tables.past.declared(name) and tables.actual.columns[name].domain is None:
            yield sql
        else:
            reason = f"the column {name}, which the schema does not have, does not allow null and has no default"
            yield ManualStep(reason, sql, "No value is lost.")


def _renamed_from(tables: Tables, column: Column) -> str:
    """Return the SQL for a new column that may be a removed one under another name, or ""."""
    wanted = tables.wanted.columns[column.name]
    for name in undeclared(tables.spec, tables.actual):
        if tables.past.removes(name) and tables.actual.columns[name].type == wanted.type:
            return rename(tables.spec, name, column.name)
    return ""


def rename(spec: TableSpec, old: str, new: str) -> str:
    """Return the statement that renames a column."""
    return f"ALTER TABLE {spec.sql_name} RENAME COLUMN {quoted(old)} TO {quoted(new)}"


def allow_null(spec: TableSpec, found: ActualColumn) -> str:
    """Return the statement that lets a column contain null: its domain may be what does not allow it."""
    if found.nullable and found.domain is not None:
        return f"ALTER DOMAIN {found.domain} DROP NOT NULL"
    return f"ALTER TABLE {spec.sql_name} ALTER COLUMN {quoted(found.name)} DROP NOT NULL"


def _column_changes(tables: Tables, column: Column) -> Steps:
    spec, name = tables.spec, column.name
    wanted, found = tables.wanted.columns[name], tables.actual.columns.get(name)
    if found is None:
        yield _added_column(spec, column, _renamed_from(tables, column))
        return
    alter = f"ALTER TABLE {tables.name} ALTER COLUMN {quoted(name)}"
    if wanted.type != found.type:
        yield _type_change(alter, column, wanted, found)
    elif wanted.collation != found.collation:
        reason = f"the column {name} is declared with the collation {wanted.collation}, but has {found.collation}"
        yield ManualStep(reason, f"{alter} TYPE {ddl.type_definition(column)}", "Its indexes are built again.")
    if found.generated != wanted.generated and column.writable:
        drop = f"{alter} DROP EXPRESSION"
        yield ManualStep(f"the column {name} is generated, so no value can be written", drop, "No value is lost.")
    elif found.identity == "a" and column.writable:
        drop = f"{alter} DROP IDENTITY"
        yield ManualStep(f"the column {name} is an identity, so no value can be written", drop, "No value is lost.")
    elif _has_other_default(wanted, found):
        yield f"{alter} DROP DEFAULT" if column.default is None else f"{alter} SET DEFAULT {column.default}"
    if column.nullable and not found.nullable:
        yield f"{alter} DROP NOT NULL"
    if found.nullable and not column.nullable:
        sql = f"{_fill(spec, column)};\n{alter} SET NOT NULL"
        yield ManualStep(f"the column {name} is declared without null, but allows null", sql, _filling(column))


def _has_other_default(wanted: ActualColumn, found: ActualColumn) -> bool:
    if wanted.type != found.type or found.generated or found.identity:
        return False
    return _plain_default(wanted.default) != _plain_default(found.default)


def _type_change(alter: str, column: Column, wanted: ActualColumn, found: ActualColumn) -> str | ManualStep:
    if _widens(found.type, wanted.type):
        return f"{alter} TYPE {ddl.type_definition(column)}"
    reason = f"the column {column.name} is declared {wanted.type}, but is {found.type}"
    # A default of the old type might not become one of the new.
    drop = "" if found.default is None or found.generated else f"{alter} DROP DEFAULT;\n"
    again = "" if column.default is None else f";\n{alter} SET DEFAULT {column.default}"
    change = f"{drop}{alter} TYPE {ddl.type_definition(column)} USING"
    # Not all types have a cast to each other, but all have one to and from text.
    on_empty = f"{change} {quoted(column.name)}::text::{column.type}{again}"
    sql = f"{change} {_converted(column, found)}{again}"
    return ManualStep(reason, sql, "It fails on a value that cannot be converted.", on_empty=on_empty)


def _widens(found: str, wanted: str) -> bool:
    """Return whether every value of one type is one of the other, without a conversion."""
    before, after = _VARCHAR.fullmatch(found), _VARCHAR.fullmatch(wanted)
    return before is not None and after is not None and int(before[1]) < int(after[1])


def _added_column(spec: TableSpec, column: Column, alternative: str) -> str | ManualStep:
    step = added_column(spec, column)
    if not alternative:
        return step
    sql, effect = (step, "") if isinstance(step, str) else (step.sql, step.effect)
    reason = f"the column {column.name} is new, and may be one that is no longer declared under another name"
    return ManualStep(reason, sql, effect, alternative)


def added_column(spec: TableSpec, column: Column) -> str | ManualStep:
    """Return the statements that add a column; they are manual if existing rows have no value for it."""
    add = f"ALTER TABLE {spec.sql_name} ADD COLUMN"
    if column.name == ddl.OWNER:
        # Its default is for rows inserted by hand; existing rows may belong to clients.
        column = replace(column, default=None)
    if column.nullable or column.default is not None:
        return f"{add} {ddl.column_definition(column)}"
    sql = (
        f"{add} {quoted(column.name)} {ddl.type_definition(column)};\n{_fill(spec, column)};\n"
        f"ALTER TABLE {spec.sql_name} ALTER COLUMN {quoted(column.name)} SET NOT NULL"
    )
    reason = f"the column {column.name} is new, but does not allow null and has no default for the existing rows"
    return ManualStep(reason, sql, _filling(column))


def _filling(column: Column) -> str:
    return f"Existing rows get {column.default}." if column.default else "Set the value for the existing rows."


def _converted(column: Column, found: ActualColumn) -> str:
    """Return the expression that converts values to the new type."""
    name = quoted(column.name)
    if column.type == "jsonb" and found.type != "text":
        return f"to_jsonb({name})"
    if column.is_list and not found.type.endswith("[]"):
        return f"ARRAY[{name}]::{column.type}"
    if found.type == "boolean" and column.type != "text":
        return f"{name}::integer::{column.type}"
    if column.type == "boolean" and found.type == "bigint":
        return f"{name} <> 0"
    return f"{name}::{column.type}"


def _fill(spec: TableSpec, column: Column) -> str:
    name = quoted(column.name)
    return f"UPDATE {spec.sql_name} SET {name} = {column.default or 'NULL /* a value */'} WHERE {name} IS NULL"


def _plain_default(default: str | None) -> str | None:
    """Return a default without the casts that PostgreSQL adds to it."""
    if default is None:
        return None
    plain = _CAST.sub("", default)
    word = _QUOTED_WORD.fullmatch(plain)
    return word[1] if word else plain


def _key_changes(tables: Tables) -> Steps:
    name = f"{tables.spec.name}_pkey"
    wanted = next(one for one in tables.wanted.constraints.values() if one.kind == "p")
    found = next((one for one in tables.actual.constraints.values() if one.kind == "p"), None)
    if found is None or found.columns != wanted.columns:
        drop = "" if found is None else f"ALTER TABLE {tables.name} DROP CONSTRAINT {quoted(found.name)};\n"
        columns = ", ".join(quoted(column) for column in wanted.columns)
        sql = f"{drop}ALTER TABLE {tables.name} ADD CONSTRAINT {quoted(wanted.name)} PRIMARY KEY ({columns})"
        yield ManualStep(f"its primary key is not {', '.join(wanted.columns)}", sql, "It fails on duplicate values.")
    elif found.name != wanted.name:
        yield _renamed_constraint(tables, found.name, name)


def _renamed_constraint(tables: Tables, old: str, new: str) -> str:
    return f"ALTER TABLE {tables.name} RENAME CONSTRAINT {quoted(old)} TO {quoted(new)}"


def _constraint(tables: Tables, name: str, definition: str, *, replaced: bool) -> str:
    """Return the statement that adds a constraint; `replaced` is whether there is one of that name."""
    drop = f"DROP CONSTRAINT {quoted(name)}, " if replaced else ""
    return f"ALTER TABLE {tables.name} {drop}ADD CONSTRAINT {quoted(name)} {definition}"


def _check_changes(tables: Tables) -> Steps:
    bounds = ddl.lengths(tables.spec)
    for name, wanted in tables.wanted.checks.items():
        found = tables.actual.checks.get(name)
        if found is not None and found.definition == wanted.definition:
            continue
        moved = next((c.name for c in tables.actual.checks.values() if c.definition == wanted.definition), None)
        if found is None and moved is not None and moved not in tables.wanted.checks:
            yield _renamed_constraint(tables, moved, name)
            continue
        bound = bounds.get(name)
        sql = _constraint(tables, name, bound.sql if bound else wanted.definition, replaced=found is not None)
        wider = found is not None and (_has_more(wanted, found) if bound is None else _is_wider(bound, wanted, found))
        columns = ", ".join(wanted.columns)
        what = f"with length {bound.operator} {bound.limit}" if bound else f"with {wanted.definition}"
        reason = f"the column {columns} is declared {what}, which existing rows may violate"
        effect = "It fails on a value of any other length." if bound else "It fails on any other value."
        new = tables.actual.columns.keys().isdisjoint(wanted.columns)
        yield sql if wider or new else ManualStep(reason, sql, effect)


def _is_wider(bound: ddl.Length, wanted: Constraint, found: Constraint) -> bool:
    """Return whether the existing constraint is the declared one with a narrower bound."""
    limit = _BOUND.search(found.definition)
    same = limit is not None and _BOUND.sub(str(bound.limit), found.definition) == wanted.definition
    return same and limit is not None and bound.allows(int(limit[0]))


def _has_more(wanted: Constraint, found: Constraint) -> bool:
    """Return whether the declared constraint allows more of the same kind of values than the existing one."""
    before, after = ({*_LITERAL.findall(one.definition)} for one in (found, wanted))
    return found.definition.endswith(")") and "ANY" in wanted.definition and bool(before) and before <= after


def _reference_changes(tables: Tables) -> Steps:
    spec, existing = tables.spec, tables.actual.references
    for name, column in ddl.references(spec).items():
        found = existing.get(name)
        fitting = [one for one in existing.values() if _refers(one, column) and _is_sound(tables, one)]
        if name in tables.deferred or found in fitting:
            continue
        moved = next(iter(fitting), None)
        if found is None and moved is not None and moved.name not in ddl.references(spec):
            yield _renamed_constraint(tables, moved.name, name)
            continue
        sql = _constraint(tables, name, ddl.reference_definition(column), replaced=found is not None)
        new = column.name not in tables.actual.columns and column.default is None
        valid = found is not None and _refers(found, column) and " NOT " not in found.definition
        if new or valid:
            yield sql
            continue
        target = ".".join(column.references or ())
        reason = f"the column {column.name} now refers to {target}, which existing rows may violate"
        step = ManualStep(reason, sql, "It fails on a value that refers to a missing item.")
        is_there = column.name in tables.actual.columns
        query = f"SELECT '' FROM {tables.name} WHERE {quoted(column.name)} IS NOT NULL LIMIT 1"
        yield CheckedStep(query, step) if is_there else step


def _refers(found: Constraint, column: Column) -> bool:
    return (found.columns, found.target, found.target_columns) == ((column.name,), column.references, ("id",))


def _is_sound(tables: Tables, found: Constraint) -> bool:
    """Return whether a foreign key is valid and enforced, and does nothing by itself but what SQL files have chosen."""
    return " NOT " not in found.definition if tables.by_files else found.definition.endswith(")")


def trigger_changes(tables: Tables) -> Iterator[str]:
    """Yield the statements that make the triggers of the declared table those of the existing one."""
    for name, wanted in tables.wanted.triggers.items():
        found = tables.actual.triggers.get(name)
        if found is not None and found.definition != wanted.definition:
            yield f"DROP TRIGGER {quoted(name)} ON {tables.name}"
        if found is None or found.definition != wanted.definition:
            yield wanted.definition.replace("{table}", tables.name)
        elif not found.enabled:
            yield f"ALTER TABLE {tables.name} ENABLE TRIGGER {quoted(name)}"
