"""The table of a resource as SQL: its columns, constraints and indexes, and the statements that create them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from hashlib import sha256
from typing import Any

from pegboard.schema.column import NESTED, QUERIED, Column, quoted
from pegboard.schema.fields import UUID, DateTime, query_parser
from pegboard.schema.folding import FOLD, WORDS
from pegboard.schema.normalizing import instant

VERSION = "_version"
OWNER = "_owner"
SEARCH = "_search"
CONTENT = "_content"
TRIGGER = "~version"
"""The trigger that renews the version of a row; PostgreSQL runs the triggers of a table in the order of their names."""

# Names with these suffixes are generated: they are dropped if no longer declared. No others are.
INDEX, UNIQUE, REFERENCE, MAX_LENGTH, MIN_LENGTH = "_index", "_unique", "_reference", "_max_length", "_min_length"
CHOICES = "_choices"

_SYSTEM_COLUMNS = frozenset({"tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"})
_LONGEST_NAME = 63  # bytes; PostgreSQL silently cuts what is longer


@dataclass(frozen=True, slots=True, init=False)
class Unique:
    """Allow no two rows with the same values in `columns`; `ignore_case` compares texts regardless of case."""

    columns: tuple[str, ...]
    ignore_case: bool = False

    def __init__(self, *columns: str, ignore_case: bool = False) -> None:
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "ignore_case", ignore_case)


@dataclass(frozen=True, slots=True)
class Index:
    """Describe an index for sorting by `columns` (descending with a leading `-`), or over the elements of one list."""

    columns: tuple[str, ...]


NOW = "date_trunc('second', now())"
"""The current time in SQL, without fractions of a second."""
_INSTANT = query_parser(DateTime())

ID = Column(
    "id", "uuid", False, "pegboard.uuid7()", field="id", parse=query_parser(UUID()), is_always_set=True, writable=False
)
CREATED_AT, UPDATED_AT = (
    Column(
        name,
        "timestamptz",
        False,
        NOW,
        field=name,
        parse=_INSTANT,
        normalize=instant,
        is_always_set=True,
        writable=False,
    )
    for name in ("created_at", "updated_at")
)
STANDARD = (ID, CREATED_AT, UPDATED_AT, Column(VERSION, "bigint", False, "pegboard.new_version()"))
_NOBODY = "'00000000-0000-0000-0000-000000000000'::uuid"
OWNED_BY = Column(
    OWNER, "uuid", False, _NOBODY, field=OWNER, parse=query_parser(UUID()), readable=False, writable=False
)
"""The client that an item belongs to: a column of owned resources, hidden from clients."""


@dataclass(frozen=True, slots=True)
class TableSpec:
    """Describe a table and its columns, the standard ones excluded; raises `ValueError` for a contradiction.

    `owned` adds a column for the id of the client that each row belongs to, `content` a second table for the bytes of
    each row.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    uniques: tuple[Unique, ...] = ()
    indexes: tuple[Index, ...] = ()
    search: tuple[str, ...] = ()
    owned: bool = False
    content: bool = False

    def __post_init__(self) -> None:
        """Raise `ValueError` for names that are too long for PostgreSQL, duplicate or unknown."""
        names = [column.name for column in self.all_columns]
        for name in (self.schema, self.name, *names):
            if not name or len(name.encode()) > _LONGEST_NAME or "\x00" in name:
                raise ValueError(f"{name!r} is not a valid name in PostgreSQL: use 1 to {_LONGEST_NAME} bytes")
        twice = {name for name in (*names, SEARCH) if (*names, SEARCH).count(name) > 1}
        if twice:
            raise ValueError(
                f"{self.name}: the column {min(twice)} is declared twice or is one of the standard columns"
            )
        system = _SYSTEM_COLUMNS.intersection(names)
        if system:
            raise ValueError(f"{self.name}: every table of PostgreSQL has a column {min(system)} already: rename it")
        used = [*self.search, *(c for unique in self.uniques for c in unique.columns)]
        used += [column.removeprefix("-") for index in self.indexes for column in index.columns]
        for name in used:
            if name not in names:
                raise ValueError(
                    f"{self.name}: an index, unique constraint or search uses the column {name}, which does not exist"
                )
        if () in [*(unique.columns for unique in self.uniques), *(index.columns for index in self.indexes)]:
            raise ValueError(f"{self.name}: an index or unique constraint has no columns")
        if len(uniques(self)) < len(set(self.uniques)):
            raise ValueError(f"{self.name}: two unique constraints would have the same name in the database")

    @property
    def all_columns(self) -> tuple[Column, ...]:
        """Return all columns in the table's order, the standard ones first."""
        return (*STANDARD, *((OWNED_BY,) if self.owned else ()), *self.columns)

    @property
    def sql_name(self) -> str:
        """Return the table's quoted name with its schema."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"


def object_name(table: str, columns: Iterable[str], suffix: str) -> str:
    """Return the name of a constraint or index; a long one is cut and gets a hash."""
    name = "_".join((table, *columns)) + suffix
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    ending = "_" + sha256(name.encode()).hexdigest()[:8] + suffix
    return name.encode()[: _LONGEST_NAME - len(ending)].decode(errors="ignore") + ending


def fingerprint(spec: TableSpec) -> str:
    """Return a digest of `spec`; an attribute that a later version adds does not change it."""
    return sha256(json.dumps(_plain(spec, QUERIED, NESTED), sort_keys=True).encode()).hexdigest()


def declaration(spec: TableSpec) -> str:
    """Return `spec` as JSON, including the nested schemas of its columns, which its fingerprint does not include."""
    return json.dumps(_plain(spec, QUERIED), sort_keys=True)


def create(spec: TableSpec) -> list[str]:
    """Return the statements that create the table, its schema, its indexes and its references."""
    return [
        f"CREATE SCHEMA IF NOT EXISTS {quoted(spec.schema)}",
        *create_table(spec),
        *(create_content(spec) if spec.content else ()),
        *(add_reference(spec, name) for name in references(spec)),
    ]


def create_table(spec: TableSpec) -> list[str]:
    """Return the statements that create the table and its indexes, without references to other tables."""
    lines = [column_definition(column) for column in spec.all_columns]
    lines += [f"CONSTRAINT {quoted(name)} {check.sql}" for name, check in lengths(spec).items()]
    lines += [f"CONSTRAINT {quoted(name)} {choice_definition(column)}" for name, column in choices(spec).items()]
    if spec.search:
        lines.append(search_definition(spec))
    body = ",\n    ".join(lines)
    return [
        f"CREATE TABLE {spec.sql_name} (\n    {body}\n)",
        *uniques(spec).values(),
        *indexes(spec).values(),
        create_trigger(spec),
    ]


def add_reference(spec: TableSpec, name: str) -> str:
    """Return the statement that adds the reference with this name."""
    definition = reference_definition(references(spec)[name])
    return f"ALTER TABLE {spec.sql_name} ADD CONSTRAINT {quoted(name)} {definition}"


def create_trigger(spec: TableSpec) -> str:
    """Return the statement that lets any other `UPDATE` than the service's own renew the version of a row."""
    when = f"NEW.{quoted(VERSION)} = OLD.{quoted(VERSION)}"
    return (
        f"CREATE TRIGGER {quoted(TRIGGER)} BEFORE UPDATE ON {spec.sql_name}\n"
        f"    FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION pegboard.renew_version()"
    )


def content_name(spec: TableSpec) -> str:
    """Return the quoted name of the table for the bytes that belong to each row."""
    return f"{quoted(spec.schema)}.{quoted(content_table(spec))}"


def content_table(spec: TableSpec) -> str:
    """Return the name of the table for the bytes that belong to each row, without its schema."""
    return object_name(spec.name, (), CONTENT)


def create_content(spec: TableSpec) -> list[str]:
    """Return the statements that create the table for the bytes of each row, which are deleted with the row."""
    name = content_name(spec)
    columns = (
        '"item" uuid NOT NULL, "sha256" text COLLATE "C" NOT NULL, "number" integer NOT NULL, "data" bytea NOT NULL'
    )
    key = 'PRIMARY KEY ("item", "sha256", "number")'
    reference = f'FOREIGN KEY ("item") REFERENCES {spec.sql_name} ("id") ON DELETE CASCADE'
    return [
        f"CREATE TABLE {name} (\n    {columns},\n    {key},\n    {reference}\n)",
        # Most large content is compressed already.
        f'ALTER TABLE {name} ALTER COLUMN "data" SET STORAGE EXTERNAL',
    ]


def constraint_columns(spec: TableSpec) -> dict[str, tuple[str, ...]]:
    """Return the columns of each constraint, by the name in PostgreSQL's error."""
    columns = {unique_name(spec, unique): unique.columns for unique in spec.uniques}
    columns |= {name: (column.name,) for name, column in (references(spec) | choices(spec)).items()}
    return columns | {name: (check.column.name,) for name, check in lengths(spec).items()}


@dataclass(frozen=True, slots=True)
class Length:
    """Bound the length of a text or a list from one side."""

    column: Column
    operator: str
    limit: int

    @property
    def sql(self) -> str:
        """Return the constraint."""
        function = "cardinality" if self.column.is_list else "char_length"
        return f"CHECK ({function}({quoted(self.column.name)}) {self.operator} {self.limit})"

    def allows(self, limit: int) -> bool:
        """Return whether every value within `limit` is within this one."""
        return limit <= self.limit if self.operator == "<=" else limit >= self.limit


def _plain(value: Any, *omitted: Mapping[str, bool]) -> Any:
    """Return a dataclass as a dict, without attributes that have their default values or the metadata `omitted`."""
    if isinstance(value, tuple):
        return [_plain(part, *omitted) for part in value]
    if not is_dataclass(value):
        return value
    parts = ((field, getattr(value, field.name)) for field in fields(value) if field.metadata not in omitted)
    return {
        field.name: _plain(part, *omitted) for field, part in parts if field.default is MISSING or part != field.default
    }


def type_definition(column: Column) -> str:
    """Return a column's type; text sorts by code point."""
    return f'{column.type} COLLATE "C"' if column.is_collatable else column.type


def column_definition(column: Column) -> str:
    """Return the definition of a column in `CREATE TABLE` and `ADD COLUMN`."""
    parts = [quoted(column.name), type_definition(column)]
    if not column.nullable:
        parts.append("NOT NULL")
    if column.default is not None:
        parts.append(f"DEFAULT {column.default}")
    if column.name == "id":
        parts.append("PRIMARY KEY")
    return " ".join(parts)


def search_definition(spec: TableSpec) -> str:
    """Return the generated column that full-text search reads."""
    text = " || ' ' || ".join(f"coalesce({quoted(name)}, '')" for name in spec.search)
    return f"{quoted(SEARCH)} tsvector GENERATED ALWAYS AS ({WORDS}({text})) STORED"


def lengths(spec: TableSpec) -> dict[str, Length]:
    """Return the bounds of lengths by the names of their constraints."""
    bounds = [(column, "<=", column.max_length, MAX_LENGTH) for column in spec.columns]
    bounds += [(column, ">=", column.min_length, MIN_LENGTH) for column in spec.columns]
    return {
        object_name(spec.name, (column.name,), suffix): Length(column, operator, limit)
        for column, operator, limit, suffix in bounds
        if limit is not None and (column.is_collatable or column.is_list)
    }


def references(spec: TableSpec) -> dict[str, Column]:
    """Return the columns that refer to other tables by the names of their constraints."""
    referring = [column for column in spec.columns if column.references is not None]
    return {object_name(spec.name, (column.name,), REFERENCE): column for column in referring}


def reference_definition(column: Column) -> str:
    """Return the constraint of a column that refers to another table."""
    # NO ACTION: RESTRICT has an SQLSTATE of its own since PostgreSQL 18.
    target = ".".join(quoted(part) for part in column.references or ())
    return f'FOREIGN KEY ({quoted(column.name)}) REFERENCES {target} ("id")'


def choices(spec: TableSpec) -> dict[str, Column]:
    """Return the columns with a limited choice of values by the names of their constraints."""
    limited = [column for column in spec.columns if column.choices is not None]
    return {object_name(spec.name, (column.name,), CHOICES): column for column in limited}


def choice_definition(column: Column) -> str:
    """Return the constraint of a column that may have only some values."""
    values = ", ".join(str(c) if isinstance(c, int) else "'" + c.replace("'", "''") + "'" for c in column.choices or ())
    return f"CHECK ({quoted(column.name)} IN ({values}))"


def unique_name(spec: TableSpec, unique: Unique) -> str:
    """Return the name of the index that enforces `unique`."""
    return object_name(spec.name, (*unique.columns, *(["ignore_case"] if unique.ignore_case else [])), UNIQUE)


def uniques(spec: TableSpec) -> dict[str, str]:
    """Return the statements that create the unique indexes, by their names."""
    texts = {column.name for column in spec.all_columns if column.is_collatable and not column.is_list}
    statements = {}
    for unique in spec.uniques:
        folded = texts if unique.ignore_case else set()
        columns = (f"{FOLD}({quoted(name)})" if name in folded else quoted(name) for name in unique.columns)
        name = unique_name(spec, unique)
        statements[name] = f"CREATE UNIQUE INDEX {quoted(name)} ON {spec.sql_name} ({', '.join(columns)})"
    return statements


def indexes(spec: TableSpec) -> dict[str, str]:
    """Return the statements that create the other indexes, by their names: references, sorting, search."""
    lists = {column.name for column in spec.columns if column.is_list}
    wanted = [*(Index((column.name,)) for column in references(spec).values()), *spec.indexes]
    if spec.owned:
        # Clients that see only their own items page as fast as those that see all.
        sorts = [index.columns for index in spec.indexes if lists.isdisjoint(index.columns)]
        wanted += [Index((OWNER, *columns)) for columns in [(), *sorts]]
    statements = {}
    for columns in (index.columns for index in wanted):
        gin = columns[0] in lists and len(columns) == 1
        words = [name[1:] + "_descending" if name.startswith("-") else name for name in columns]
        name = object_name(spec.name, words, INDEX)
        using = f"USING gin ({quoted(columns[0])})" if gin else f"({_sort(columns)})"
        statements[name] = f"CREATE INDEX {quoted(name)} ON {spec.sql_name} {using}"
    if spec.search:
        name = object_name(spec.name, (SEARCH,), INDEX)
        statements[name] = f"CREATE INDEX {quoted(name)} ON {spec.sql_name} USING gin ({quoted(SEARCH)})"
    return statements


def _sort(columns: tuple[str, ...]) -> str:
    """Return the keys of an index; the id breaks ties in the direction of the last column, as paging does."""
    if columns[-1].removeprefix("-") != "id":
        columns = (*columns, "-id" if columns[-1].startswith("-") else "id")
    return ", ".join(f"{quoted(name[1:])} DESC" if name.startswith("-") else quoted(name) for name in columns)
