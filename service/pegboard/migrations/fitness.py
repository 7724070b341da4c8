"""Whether a resource can be served from a table that its schema did not create: what differs and matters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pegboard.migrations import access
from pegboard.migrations.actual import VIEWLIKE, Actual, ActualColumn
from pegboard.migrations.difference import added_column, allow_null, rename, undeclared
from pegboard.migrations.plan import ManualStep
from pegboard.query import existing as existing_tables
from pegboard.query.existing import ExistingTable
from pegboard.schema import ddl
from pegboard.schema.column import INTEGER_KEY, Column, base_type, quoted
from pegboard.schema.ddl import TableSpec
from pegboard.schema.numbers import MAX_PLACES

_FAMILIES = {
    **dict.fromkeys(("smallint", "integer", "bigint"), "an integer"),
    **dict.fromkeys(("text", "varchar"), "text"),
}
"""The types whose values are read and written alike."""

_PRECISION = re.compile(r"\(\s*\d+\s*(?:,\s*(-?\d+)\s*)?\)")
_VARCHAR = re.compile(r"character varying\((\d+)\)")

_STATEMENTS = {"POST": "INSERT", "PUT": "UPDATE", "PATCH": "UPDATE", "DELETE": "DELETE"}


@dataclass(frozen=True, slots=True)
class Use:
    """Describe how a resource uses a table: by which verbs, and as an existing one (else it was made for it).

    Of a table that a newer version has changed, `strict` is false: what only restricts values does not matter.
    """

    verbs: frozenset[str]
    existing: ExistingTable | None = None
    strict: bool = True

    @property
    def statements(self) -> tuple[str, ...]:
        """Return the statements that the verbs run."""
        run = {_STATEMENTS[verb] for verb in self.verbs if verb in _STATEMENTS}
        return tuple(statement for statement in access.ALL if statement in run)


ALL_VERBS = Use(frozenset(_STATEMENTS))


def misfits(spec: TableSpec, actual: Actual, use: Use) -> Iterator[ManualStep]:
    """Yield what keeps the resource from being served from the table, with the SQL that would change it."""
    yield from access.problems(spec, actual, use.statements)
    for column in columns(spec, use.existing):
        yield from _column_misfits(spec, column, actual, use)
    if spec.search and ddl.SEARCH not in actual.columns:
        sql = f"ALTER TABLE {spec.sql_name} ADD COLUMN {ddl.search_definition(spec)}"
        yield ManualStep(f"the column {ddl.SEARCH} for full-text search is missing", sql)
    if "INSERT" in use.statements:
        yield from _unknown_columns(spec, actual, use)
    if actual.kind not in VIEWLIKE:
        yield from _key_misfits(spec, actual, use)
        if use.strict:
            yield from _constraint_misfits(spec, actual, use)


def columns(spec: TableSpec, existing: ExistingTable | None) -> tuple[Column, ...]:
    """Return the columns that the resource reads."""
    if existing is None:
        return spec.all_columns
    key = existing_tables.key_column(existing)
    key = replace(key, type="bigint") if key.type == INTEGER_KEY else key
    absent = {"id", *existing.without}
    others = [column for column in spec.all_columns if column.name not in absent and column.name != key.name]
    return (key, *others)


def _key_name(use: Use) -> str:
    return use.existing.key if use.existing else "id"


def _column_misfits(spec: TableSpec, column: Column, actual: Actual, use: Use) -> Iterator[ManualStep]:
    found = actual.columns.get(column.name)
    if found is None:
        yield _missing_column(spec, column, actual, use)
        return
    alter = f"ALTER TABLE {spec.sql_name} ALTER COLUMN {quoted(column.name)}"
    if not fits(column.type, found):
        reason = f"the column {column.name} is declared {base_type(column.type)}, but is {found.type}"
        yield ManualStep(reason, f"{alter} TYPE {column.type} USING {quoted(column.name)}::{column.type}")
    elif use.statements and column.writable:
        yield from _narrower(column, found, alter, use)
    if not found.readable:
        reason = f"the service's role may not read the column {column.name}"
        yield ManualStep(reason, f"GRANT SELECT ON {spec.sql_name} TO CURRENT_USER")
    if not use.statements or not column.writable:
        return
    if found.is_computed:
        what, part = ("generated", "EXPRESSION") if found.generated else ("an identity", "IDENTITY")
        reason = f"the column {column.name} is {what}, so no value can be written: declare it as dump_only"
        yield ManualStep(reason, f"{alter} DROP {part}")
    elif column.nullable and not found.is_optional:
        reason = f"the column {column.name} does not allow null, but the schema leaves it out or null"
        yield ManualStep(reason, allow_null(spec, found))


def _narrower(column: Column, found: ActualColumn, alter: str, use: Use) -> Iterator[ManualStep]:
    """Yield why the type of the column cannot keep all values of the field: it rounds numbers, or is too short."""
    type_of = found.base or found.type
    scale, length = _scale(type_of), _VARCHAR.fullmatch(type_of)
    places = _scale(column.type)
    if places is None:
        places = MAX_PLACES if column.most_places is None else column.most_places
    if scale is not None and places > scale:
        reason = f"the column {column.name} is {type_of}, to which the values of its field are rounded"
        cure = f'declare metadata={{"column_type": "{type_of}"}}' + (f" or places={scale}" if scale >= 0 else "")
        yield ManualStep(f"{reason}: {cure}", f"{alter} TYPE {column.type}")
    longest = column.max_length
    if use.strict and length is not None and longest is not None and int(length[1]) < longest:
        reason = f"the column {column.name} is declared with length <= {longest}, but is {type_of}"
        wider = f"varchar({longest})" if column.type == "varchar" else column.type
        yield ManualStep(f"{reason}: declare Length(max={length[1]})", f"{alter} TYPE {wider}")


def _scale(type_of: str) -> int | None:
    """Return the digits after the point to which a type rounds numbers, or None if it does not."""
    precision = _PRECISION.search(type_of)
    if precision is None or not base_type(type_of).startswith("numeric"):
        return None
    return int(precision[1] or 0)


def _missing_column(spec: TableSpec, column: Column, actual: Actual, use: Use) -> ManualStep:
    reason = f"the column {column.name} is missing"
    declared = {one.name for one in columns(spec, use.existing)}
    others = [name for name in undeclared(spec, actual) if name not in declared]
    former = next((name for name in others if fits(column.type, actual.columns[name])), None)
    step = added_column(spec, column)
    alternative = "" if former is None or not column.writable else rename(spec, former, column.name)
    sql, effect = (step, "") if isinstance(step, str) else (step.sql, step.effect)
    return ManualStep(reason, sql, effect, alternative)


def fits(declared: str, found: ActualColumn) -> bool:
    """Return whether a column has the declared type, or one whose values are read and written like it."""
    wanted = _family(base_type(declared))
    return any(wanted in (_family(base_type(name)), _unqualified(name)) for name in (found.type, found.base) if name)


def _family(base: str) -> str:
    element = base.removesuffix("[]")
    return _FAMILIES.get(element, element) + base[len(element) :]


def _unqualified(name: str) -> str:
    return name.rpartition(".")[2]


def _unknown_columns(spec: TableSpec, actual: Actual, use: Use) -> Iterator[ManualStep]:
    known = {column.name for column in columns(spec, use.existing)}
    for name, column in actual.columns.items():
        if name not in known and not column.is_optional:
            reason = f"the column {name}, which the schema does not have, does not allow null and has no default"
            yield ManualStep(reason, allow_null(spec, column))


def _key_misfits(spec: TableSpec, actual: Actual, use: Use) -> Iterator[ManualStep]:
    key = _key_name(use)
    # A unique index of a partitioned table has the columns of its partitions, too.
    if key not in actual.columns or actual.kind == "p" or actual.unique_over(key):
        return
    composite = next((one for one in actual.constraints.values() if one.kind == "p" and key in one.columns), None)
    reason = f"the column {key} is the key, but has no unique index"
    if composite is not None:
        reason = f"the column {key} is the key, but is unique only together with others: {', '.join(composite.columns)}"
    yield ManualStep(reason, f"CREATE UNIQUE INDEX ON {spec.sql_name} ({quoted(key)})", "It fails on duplicate values.")


def _constraint_misfits(spec: TableSpec, actual: Actual, use: Use) -> Iterator[ManualStep]:
    statements = ddl.uniques(spec)
    for unique in spec.uniques if actual.kind == "r" else ():
        if not _is_unique(unique, actual):
            name = ddl.unique_name(spec, unique)
            reason = f"{', '.join(unique.columns)} is declared unique, but has no unique index"
            yield ManualStep(reason, statements[name], "It fails on duplicate values.")
    for name, column in ddl.references(spec).items():
        found = [one.target for one in actual.references.values() if one.columns == (column.name,)]
        if column.name in actual.columns and column.references not in found:
            target = ".".join(column.references or ())
            reason = f"the column {column.name} refers to {target}, but has no foreign key"
            yield ManualStep(
                reason, ddl.add_reference(spec, name), "It fails on a value that refers to a missing item."
            )
    for name, bound in ddl.lengths(spec).items() if use.existing is None else ():
        if bound.column.name in actual.columns and not _is_bounded(bound, actual):
            reason = f"the column {bound.column.name} is declared with length {bound.operator} {bound.limit}"
            sql = f"ALTER TABLE {spec.sql_name} ADD CONSTRAINT {quoted(name)} {bound.sql}"
            yield ManualStep(f"{reason}, but has no such constraint", sql, "It fails on a value of any other length.")


def _is_unique(unique: ddl.Unique, actual: Actual) -> bool:
    """Return whether an index enforces it; expressions may compare in a way of the author's own."""
    if not unique.ignore_case:
        return actual.unique_over(*unique.columns)
    return any(
        index.is_enforced
        and len(index.keys) == len(unique.columns)
        and all(c in index.definition for c in unique.columns)
        for index in actual.indexes.values()
    )


def _is_bounded(bound: ddl.Length, actual: Actual) -> bool:
    """Return whether the type or a constraint of the author's own bounds the length."""
    name = bound.column.name
    bounded_type = bound.operator == "<=" and "(" in actual.columns[name].type
    checked = (one.definition for one in actual.checks.values() if name in one.columns)
    return bounded_type or any("length(" in check or "cardinality(" in check for check in checked)
