"""The difference between an existing table and the declared one, as SQL; some steps need an author's decision."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pegboard.schema import ddl
from pegboard.schema.column import Column, base_type, quoted
from pegboard.schema.ddl import TableSpec, Unique

_CATALOGUE_NAMES = {
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "time": "time without time zone",
    "timetz": "time with time zone",
    "varchar": "character varying",
    "char": "character",
}
_MODIFIERS = re.compile(r"\([^)]*\)")
_CAST = re.compile(r"(?<=['\]])::[a-z_ ]+(?:\([0-9,]+\))?(?:\[\])?")
_QUOTED_WORD = re.compile(r"'(-?[0-9.]+|true|false)'")


@dataclass(frozen=True, slots=True)
class Actual:
    """Describe a table of the database: constraints and indexes by name, types and defaults in PostgreSQL's form."""

    columns: Mapping[str, Column]
    lengths: Mapping[str, int]
    references: Mapping[str, tuple[str, str]]
    indexes: frozenset[str]
    search: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ManualStep:
    """Describe a step that an author must confirm: the reason, its SQL, and its effect on existing rows."""

    reason: str
    sql: str
    effect: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold the steps from the existing table to the declared one, in order."""

    steps: tuple[str | ManualStep, ...]

    @property
    def additive(self) -> list[str]:
        """Return the statements that can neither lose data nor fail because of existing rows."""
        return [step for step in self.steps if isinstance(step, str)]

    @property
    def manual(self) -> list[ManualStep]:
        """Return the steps that an author must confirm."""
        return [step for step in self.steps if isinstance(step, ManualStep)]

    @property
    def statements(self) -> list[str]:
        """Return the SQL of all steps, the manual ones included."""
        return [step if isinstance(step, str) else step.sql for step in self.steps]


def difference(spec: TableSpec, actual: Actual) -> Plan:
    """Compare the declared table with the existing one; without a difference there are no steps."""
    steps = (
        *_obsolete(spec, actual),
        *_removed_columns(spec, actual),
        *(step for column in spec.all_columns for step in _column_changes(spec, column, actual)),
        *_length_changes(spec, actual),
        *_reference_changes(spec, actual),
        *_search_changes(spec, actual),
        *_index_changes(spec, actual),
    )
    return Plan(steps)


def _obsolete(spec: TableSpec, actual: Actual) -> Iterator[str]:
    """Drop generated constraints and indexes that are no longer declared; no data is lost."""
    for name in sorted(actual.lengths.keys() - ddl.lengths(spec)) + sorted(
        actual.references.keys() - ddl.references(spec)
    ):
        yield f"ALTER TABLE {spec.sql_name} DROP CONSTRAINT {quoted(name)}"
    for name in sorted(actual.indexes - ddl.uniques(spec).keys() - ddl.indexes(spec).keys()):
        if name.endswith((ddl.INDEX, ddl.UNIQUE)):
            yield f"DROP INDEX {quoted(spec.schema)}.{quoted(name)}"
    if actual.search not in ((), spec.search):
        yield f"ALTER TABLE {spec.sql_name} DROP COLUMN {quoted(ddl.SEARCH)}"


def _removed_columns(spec: TableSpec, actual: Actual) -> Iterator[ManualStep]:
    declared = {column.name for column in spec.all_columns}
    for name in actual.columns:
        if name not in declared:
            sql = f"ALTER TABLE {spec.sql_name} DROP COLUMN {quoted(name)}"
            effect = f"Its values are lost.{_renaming(spec, name, actual)}"
            yield ManualStep(f"the column {name} is no longer declared", sql, effect)


def _renaming(spec: TableSpec, name: str, actual: Actual) -> str:
    """Return a hint if the column may have been renamed, or ""."""
    found = actual.columns[name].type
    new = [c for c in spec.columns if c.name not in actual.columns and _long_type(c.type) == found]
    if not new:
        return ""
    rename = f"ALTER TABLE {spec.sql_name} RENAME COLUMN {quoted(name)} TO {quoted(new[0].name)};"
    return f" If it was only renamed, write this instead of the statements about both columns: {rename}"


def _column_changes(spec: TableSpec, column: Column, actual: Actual) -> Iterator[str | ManualStep]:
    found = actual.columns.get(column.name)
    if found is None:
        yield _added_column(spec, column)
        return
    alter = f"ALTER TABLE {spec.sql_name} ALTER COLUMN {quoted(column.name)}"
    if _long_type(column.type) != found.type:
        reason = f"the column {column.name} is declared {_long_type(column.type)}, but is {found.type}"
        # A default of the old type might not become one of the new.
        drop = "" if found.default is None else f"{alter} DROP DEFAULT;\n"
        again = "" if column.default is None else f";\n{alter} SET DEFAULT {column.default}"
        sql = f"{drop}{alter} TYPE {ddl.type_definition(column)} USING {_converted(column, found)}{again}"
        yield ManualStep(reason, sql, "It fails on a value that cannot be converted.")
    elif _long_default(column.default) != _long_default(found.default):
        yield f"{alter} DROP DEFAULT" if column.default is None else f"{alter} SET DEFAULT {column.default}"
    if column.nullable and not found.nullable:
        yield f"{alter} DROP NOT NULL"
    if found.nullable and not column.nullable:
        sql = f"{_fill(spec, column)};\n{alter} SET NOT NULL"
        yield ManualStep(f"the column {column.name} is declared without null, but allows null", sql, _filling(column))


def _added_column(spec: TableSpec, column: Column) -> str | ManualStep:
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


def _converted(column: Column, found: Column) -> str:
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


def _constraint(spec: TableSpec, name: str, definition: str, *, replaced: bool) -> str:
    """Return the statement that adds a constraint; `replaced` is whether there is one of that name."""
    drop = f"DROP CONSTRAINT {quoted(name)}, " if replaced else ""
    return f"ALTER TABLE {spec.sql_name} {drop}ADD CONSTRAINT {quoted(name)} {definition}"


def _length_changes(spec: TableSpec, actual: Actual) -> Iterator[str | ManualStep]:
    for name, check in ddl.lengths(spec).items():
        found = actual.lengths.get(name)
        if found == check.limit:
            continue
        sql = _constraint(spec, name, check.sql, replaced=found is not None)
        wider = check.column.name not in actual.columns or (found is not None and check.allows(found))
        reason = f"the column {check.column.name} is declared with length {check.operator} {check.limit}"
        effect = "It fails on a value of any other length."
        yield sql if wider else ManualStep(f"{reason}, which existing rows may violate", sql, effect)


def _reference_changes(spec: TableSpec, actual: Actual) -> Iterator[str | ManualStep]:
    for name, column in ddl.references(spec).items():
        found = actual.references.get(name)
        if found == column.references:
            continue
        sql = _constraint(spec, name, ddl.reference_definition(column), replaced=found is not None)
        new = column.name not in actual.columns and column.default is None
        target = ".".join(column.references or ())
        reason = f"the column {column.name} now refers to {target}, which existing rows may violate"
        yield sql if new else ManualStep(reason, sql, "It fails on a value that refers to a missing item.")


def _search_changes(spec: TableSpec, actual: Actual) -> Iterator[str]:
    if spec.search and spec.search != actual.search:
        yield f"ALTER TABLE {spec.sql_name} ADD COLUMN {ddl.search_definition(spec)}"


def _index_changes(spec: TableSpec, actual: Actual) -> Iterator[str | ManualStep]:
    uniques = ddl.uniques(spec)
    for unique in spec.uniques:
        name = ddl.unique_name(spec, unique)
        if name not in actual.indexes:
            yield (
                uniques[name]
                if _all_null(spec, unique, actual)
                else ManualStep(
                    f"{', '.join(unique.columns)} is declared unique, which existing rows may violate",
                    uniques[name],
                    "It fails on duplicate values.",
                )
            )
    # Dropping the search column above also dropped its index.
    dropped = {ddl.object_name(spec.name, (ddl.SEARCH,), ddl.INDEX)} if spec.search != actual.search else set()
    for name, statement in ddl.indexes(spec).items():
        if name not in actual.indexes - dropped:
            yield statement


def _all_null(spec: TableSpec, unique: Unique, actual: Actual) -> bool:
    """Return whether one of the columns is new and null in every row, so that there are no duplicates."""
    new = (c for c in spec.columns if c.name in unique.columns and c.name not in actual.columns)
    return any(column.nullable and column.default is None for column in new)


def _long_type(type_name: str) -> str:
    """Return a type by its name in PostgreSQL's catalogue."""
    base = base_type(type_name)
    element = base.removesuffix("[]")
    # PostgreSQL folds names that are not quoted.
    folded = element if '"' in element else element.lower()
    name = _CATALOGUE_NAMES.get(folded, folded)
    modifiers = _MODIFIERS.search(type_name)
    if modifiers is not None:
        text = modifiers[0].replace(" ", "")
        name = name.replace(" ", f"{text} ", 1) if name.startswith("time") else name + text
    return name + base[len(element) :]


def _long_default(default: str | None) -> str | None:
    """Return a default without the casts that PostgreSQL adds to it."""
    if default is None:
        return None
    plain = _CAST.sub("", default)
    word = _QUOTED_WORD.fullmatch(plain)
    return word[1] if word else plain
