"""Checks of what a resource declares of its table; those of other resources pass."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pegboard.api import declared
from pegboard.api.resource import Resource
from pegboard.api.table import TableResource
from pegboard.hosting.checks.attributes import is_error
from pegboard.hosting.checks.queries import unknown, unsuitable
from pegboard.query import existing as existing_tables
from pegboard.query import mapping
from pegboard.query.existing import ExistingTable
from pegboard.rendering import short
from pegboard.schema.ddl import OWNER, STANDARD, Unique
from pegboard.schema.fields import Reference

_NAME = re.compile(r'[^\s."\x00]{1,63}\.[^\s."\x00]{1,63}')
_LONGEST_INDEXED = 600  # characters; PostgreSQL refuses an index entry of more than 2,704 bytes


def existing(found: type[Resource]) -> Iterator[str]:
    """Check the declaration of an existing table."""
    table = declared.existing_table(found)
    problem = None if table is None else existing_tables.problem(table)
    if problem is not None:
        yield problem


def name(found: type[Resource]) -> Iterator[str]:
    """Check the name of the table."""
    if not issubclass(found, TableResource):
        return
    table: Any = found.table
    called = table.table if isinstance(table, ExistingTable) else table
    if called is not None and not (isinstance(called, str) and _NAME.fullmatch(called)):
        yield f'table is {short(called)}: name it with its schema and without quotes, as in table = "crm.people"'


def constraint_errors(found: type[Resource]) -> Iterator[str]:
    """Check the errors of the author's own constraints."""
    if not issubclass(found, TableResource):
        return
    errors: Any = found.constraint_errors
    if not isinstance(errors, Mapping):
        yield f'constraint_errors is {short(errors)}: map names of constraints to errors, as in {{"no_overlap": Taken}}'
    for constraint, error in errors.items():
        if not isinstance(constraint, str) or not is_error(error):
            pair = f"{short(constraint)} to {short(error)}"
            yield f"constraint_errors maps {pair}; map the name of a constraint to a subclass of pegboard.ApiError"
        if hasattr(error, "number") and error not in found.error_codes:
            yield f"constraint_errors uses {error.__name__}, which is not in error_codes: add it there"


def uniques(found: type[Resource]) -> Iterator[str]:
    """Check the unique constraints."""
    if not issubclass(found, TableResource):
        return
    constraints: Any = found.unique
    if isinstance(constraints, Unique):
        yield "unique is a single Unique, not a tuple: add a comma after it, as in unique = (Unique(...),)"
    if not isinstance(constraints, list | tuple) or not all(isinstance(unique, Unique) for unique in constraints):
        yield f'unique is {short(constraints)}: set it to a tuple, as in unique = (Unique("email"),)'
    texts = {column.name for column in mapping.columns(found.schema()) if column.is_text}
    for unique in constraints:
        if not unique.columns:
            yield "unique has a Unique without fields: name the fields that must be unique"
        yield from unknown("unique", unique.columns, _columns(found))
        names = ", ".join(unique.columns)
        if len(set(unique.columns)) < len(unique.columns):
            yield f"unique names a field twice in one Unique: {names}"
        if unique.ignore_case and texts.isdisjoint(unique.columns):
            yield f"unique ignores the case of {names}, which contains no text: remove ignore_case"
    if len(set(constraints)) < len(constraints):
        yield "unique has the same Unique twice: remove one"


def indexes(found: type[Resource]) -> Iterator[str]:
    """Check the columns of the indexes."""
    if not issubclass(found, TableResource):
        return
    own = {column.name: column for column in mapping.columns(found.schema())}
    for index in found.indexes:
        parts = _parts(index)
        yield from unknown("indexes", parts, _columns(found))
        if len(set(parts)) < len(parts):
            yield f"indexes names a field twice in {short(index)}: remove one"
        for column in (own[part] for part in parts if part in own):
            if not (column.is_sortable or (column.is_list and len(parts) == 1 and column.readable)):
                yield from unsuitable("indexes", column, "sorted", lambda _: False)


def search_fields(found: type[Resource]) -> Iterator[str]:
    """Check that only text is searched."""
    if not issubclass(found, TableResource):
        return
    own = {column.name: column for column in mapping.columns(found.schema())}
    for part in found.search_fields:
        yield from unknown("search_fields", (part,), own)
        yield from unsuitable("search_fields", own[part], "searched", lambda column: column.is_text)


def columns(found: type[Resource]) -> Iterator[str]:
    """Check that a column can hold each field."""
    if not issubclass(found, TableResource):
        return
    for attribute, _, type_of in mapping.stored(found.schema()):
        if type_of is None:
            yield (
                f"the field {attribute} has no column type: use a field of pegboard.fields, or set the type in metadata"
            )


def existing_columns(found: type[Resource]) -> Iterator[str]:
    """Check that nothing needs a column that an existing table does not have."""
    table = declared.existing_table(found)
    if table is None or not issubclass(found, TableResource):
        return
    if found.owned or found.search_fields:
        attribute = "owned" if found.owned else "search_fields"
        yield f"the existing table {table.table} has no column for {attribute}: remove it"


def owned(found: type[Resource]) -> Iterator[str]:
    """Check that items of clients are not public."""
    if issubclass(found, TableResource) and found.owned and found.public:
        yield "public and owned are both set, but a client without credentials owns no items: remove one of them"


def index_lengths(found: type[Resource]) -> Iterator[str]:
    """Check that text in an index is short enough: else the insert itself would fail."""
    if not issubclass(found, TableResource):
        return
    own = mapping.table_columns(found.schema())
    lengths = {column.name: column.max_length for column in own if column.is_collatable}
    for part in (part for index in found.indexes for part in _parts(index)):
        if part in lengths and not 0 < (lengths[part] or 0) <= _LONGEST_INDEXED:
            yield f"an index over {part} needs validate.Length(max=...) on the field, at most {_LONGEST_INDEXED}"


def self_references(found: type[Resource], name: str) -> Iterator[str]:
    """Check that the first item can be created."""
    for attribute, field, _ in mapping.stored(found.schema()):
        if isinstance(field, Reference) and field.resource == name and field.required and not field.allow_none:
            yield f"the field {attribute} refers to {name} itself, so it cannot be required: remove required"


def _parts(index: str) -> list[str]:
    return [part.strip().removeprefix("-") for part in index.split(",")]


def _columns(found: type[TableResource]) -> list[str]:
    """Return the columns that an index can have."""
    own = [column.field for column in mapping.table_columns(found.schema())]
    return [*own, *(column.name for column in STANDARD), *([OWNER] if found.owned else [])]
