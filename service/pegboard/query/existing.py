"""Existing tables: the name and type of their key, and the standard columns that they do not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pegboard import errors
from pegboard.schema.column import INTEGER_KEY, Column
from pegboard.schema.ddl import VERSION
from pegboard.schema.loading import parse_uuid
from pegboard.schema.numbers import MAX_INTEGER, MIN_INTEGER

TIMESTAMPS = ("created_at", "updated_at")
_MAX_KEY_LENGTH = 500  # characters; a longer key would not fit into a cursor


@dataclass(frozen=True, slots=True)
class ExistingTable:
    """Declare an existing table, `SCHEMA.TABLE`, that the service neither creates nor changes.

    Its column `key` identifies a row, and must have a unique index; `key_type` is `"uuid"`, `"bigint"` (for any integer
    type) or `"text"`. `without` lists those of `created_at`, `updated_at` and `_version` that the table does not have.
    Items then have no timestamps; without a version, the entity tag is a digest of the row.
    """

    table: str
    key: str = "id"
    key_type: Literal["uuid", "bigint", "text"] = "uuid"
    without: Sequence[str] = ()


def problem(existing: ExistingTable) -> str | None:
    """Return what is wrong with the declaration and how to fix it, or None if it is valid."""
    if existing.key_type not in KEYS:
        types = ", ".join(KEYS)
        return f"the key of the table {existing.table} is of type {existing.key_type!r}: use one of {types}"
    unknown = set(existing.without) - {*TIMESTAMPS, VERSION}
    if unknown:
        return f"without names {min(unknown)!r}: use only {', '.join((*TIMESTAMPS, VERSION))}"
    return None


def key_column(existing: ExistingTable) -> Column:
    """Return the column of the id."""
    type_of, parse = KEYS[existing.key_type]
    return Column(
        existing.key,
        type_of,
        False,
        max_length=_MAX_KEY_LENGTH,
        field="id",
        parse=strict(parse),
        is_always_set=True,
        writable=False,
    )


def parse_key(existing: ExistingTable, text: str) -> str | None:
    """Return the id in a URL in the form that items have it, or None if it cannot be an id."""
    return KEYS[existing.key_type][1](text)


def without_key(
    existing: ExistingTable, values: Mapping[str, Any], id: str | None, names: Mapping[str, str]
) -> dict[str, Any]:
    """Return `values` without the key, if it is null or equals `id`; raise `ApiError` 422 if it differs.

    If `id` is None, a key in `values` is kept. `names` are the JSON names of the columns.
    """
    key = existing.key
    value = values.get(key)
    if value is not None and id is None:
        return {**values}
    if value is not None and str(value) != id:
        message = "The id of an item cannot be changed; it must match the URL."
        raise errors.InvalidValue(message, pointer=errors.pointer((names[key],)))
    return {name: values[name] for name in values if name != key}


def _bigint(text: str) -> str | None:
    """Return `text` if it is an integer exactly as PostgreSQL formats it."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= len(str(MAX_INTEGER))):
        return None
    return text if str(int(text)) == text and MIN_INTEGER <= int(text) <= MAX_INTEGER else None


def _text(text: str) -> str | None:
    return text if 0 < len(text) <= _MAX_KEY_LENGTH and "\0" not in text else None


KEYS: Mapping[str, tuple[str, Callable[[str], str | None]]] = {
    "uuid": ("uuid", parse_uuid),
    "bigint": (INTEGER_KEY, _bigint),
    "text": ("text", _text),
}
"""The types that a key may have: for each, its column type and the parser of ids."""


def strict(parse: Callable[[str], str | None]) -> Callable[[str], str]:
    """Return a parser that calls `parse`, and raises `ValueError` if it returns None."""

    def parse_strictly(text: str) -> str:
        id = parse(text)
        if id is None:
            raise ValueError("Not a valid id.")
        return id

    return parse_strictly
