"""What no table can be made of, or served with: the parts of a declaration that do not go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pegboard.query import mapping
from pegboard.query.existing import Existing
from pegboard.schema.fields import Reference
from pegboard.schema.schema import Schema

_LONGEST_INDEXED = 600  # characters; PostgreSQL refuses an index entry of more than 2,704 bytes


def mistake(resource: Any) -> str | None:
    """Return what is wrong with a subclass of `TableResource`, beside what can be with any resource."""
    schema = resource.schema()
    return (
        _of_fields(schema)
        or _of_existing(resource.existing(), resource.owned, resource.search)
        or _of_owned(resource.owned, resource.public)
        or _of_indexes(schema, resource.indexes)
    )


def _of_fields(schema: Schema) -> str | None:
    """Refuse a field that no column of its own can hold."""
    for attribute, field, type_of in mapping.stored(schema):
        if isinstance(getattr(field, "inner", None), Reference):
            return f"the field {attribute} is a list of references, which a foreign key cannot enforce: leave it out"
        if type_of is None:
            return (
                f"the field {attribute} has no column type: use a field of pegboard.fields, or set the type in metadata"
            )
    return None


def _of_existing(existing: Existing | None, owned: bool, search: Sequence[str]) -> str | None:
    """Refuse what takes a column that a table which was there before does not have."""
    if existing is None:
        return None
    if owned or search:
        return f"the existing table {existing.table} has no column for {'owned' if owned else 'search'}: leave it out"
    return existing.mistake()


def _of_owned(owned: bool, public: Sequence[str]) -> str | None:
    if owned and public:
        return "public and owned are both set, but a client without credentials owns no items: leave one of them out"
    return None


def _of_indexes(schema: Schema, indexes: Sequence[str]) -> str | None:
    """Refuse an index over text that may be too long for one: the insert itself would fail."""
    lengths = {column.name: column.max_length for column in mapping.table_columns(schema) if column.is_collatable}
    for name in (part.strip().removeprefix("-") for index in indexes for part in index.split(",")):
        if name in lengths and not 0 < (lengths[name] or 0) <= _LONGEST_INDEXED:
            return f"an index over {name} needs validate.Length(max=...) on the field, at most {_LONGEST_INDEXED}"
    return None
