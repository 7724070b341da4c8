"""Existing tables: the name and type of their key, and the standard columns that they do not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pegboard import errors
from pegboard.schema.column import INTEGER_KEY, Column
from pegboard.schema.ddl import VERSION
from pegboard.schema.loading import parse_uuid

TIMESTAMPS = ("created_at", "updated_at")
_MAX_KEY_LENGTH = 500  # characters; a longer key would not fit into a cursor


@dataclass(frozen=True, slots=True)
class Existing:
    """Declare an existing table, `SCHEMA.TABLE`, that the service neither creates nor changes.

    Its column `key` identifies a row, and must have a unique index; its `type` is `"uuid"`, `"bigint"` (for any integer
    type) or `"text"`. `lacks` lists those of `created_at`, `updated_at` and `_version` that the table does not have.
    Items then have no timestamps; without a version, the entity tag is a digest of the row.
    """

    table: str
    key: str = "id"
    type: Literal["uuid", "bigint", "text"] = "uuid"
    lacks: tuple[str, ...] = ()

    def mistake(self) -> str | None:
        """Return what is wrong with the declaration and how to fix it, or None if it is valid."""
        if self.type not in KEYS:
            return f"the key of the table {self.table} is of type {self.type!r}: use one of {', '.join(KEYS)}"
        unknown = set(self.lacks) - {*TIMESTAMPS, VERSION}
        if unknown:
            return f"lacks names {min(unknown)!r}: use only {', '.join((*TIMESTAMPS, VERSION))}"
        return None

    def identity(self) -> Column:
        """Return the column of the id."""
        type_of, parse = KEYS[self.type]
        return Column(
            self.key, type_of, False, max_length=_MAX_KEY_LENGTH, field="id", parse=strict(parse), writable=False
        )

    def parse_id(self, text: str) -> str | None:
        """Return the id in a URL in the form that items have it, or None if it cannot be an id."""
        return KEYS[self.type][1](text)

    def without_key(self, values: Mapping[str, Any], identity: str | None, names: Mapping[str, str]) -> dict[str, Any]:
        """Return `values` without the key, if it is null or equals `identity`; raise `ApiError` 422 if it differs.

        If `identity` is None, a key in `values` is kept. `names` are the JSON names of the columns.
        """
        value = values.get(self.key)
        if value is not None and identity is None:
            return {**values}
        if value is not None and str(value) != identity:
            message = "The id of an item cannot be changed; it must match the URL."
            raise errors.InvalidValue(message, pointer=errors.pointer((names[self.key],)))
        return {name: values[name] for name in values if name != self.key}


def _bigint(text: str) -> str | None:
    """Return `text` if it is an integer exactly as PostgreSQL formats it."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 19):
        return None
    return text if str(int(text)) == text and -(2**63) <= int(text) < 2**63 else None


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
        identity = parse(text)
        if identity is None:
            raise ValueError("Not a valid id.")
        return identity

    return parse_strictly
