"""Tables that were there before: what such a table calls its key, and what it lacks of what ours have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pegboard import errors
from pegboard.schema.column import INTEGER_KEY, Column
from pegboard.schema.ddl import VERSION
from pegboard.schema.loading import parse_uuid

STAMPS = ("created_at", "updated_at")
_LONGEST_KEY = 500  # characters; a longer one could stand in no cursor


@dataclass(frozen=True, slots=True)
class Existing:
    """Declare a table, `SCHEMA.TABLE`, that is neither made nor changed by the service.

    Its column `key` identifies a row, and has a unique index; its `type` is `"uuid"`, `"bigint"` (for any whole number)
    or `"text"`. `lacks` names those of `created_at`, `updated_at` and `_version` that it does not have: then items are
    shown without the first two, and a digest of all that is in the row stands for its version in the entity tag.
    """

    table: str
    key: str = "id"
    type: Literal["uuid", "bigint", "text"] = "uuid"
    lacks: tuple[str, ...] = ()

    def mistake(self) -> str | None:
        """Return what is wrong with the declaration and how to mend it; None for a sound one."""
        if self.type not in KEYS:
            return f"the key of the table {self.table} is of type {self.type!r}: use one of {', '.join(KEYS)}"
        unknown = set(self.lacks) - {*STAMPS, VERSION}
        if unknown:
            return f"lacks names {min(unknown)!r}: use only names out of {', '.join((*STAMPS, VERSION))}"
        return None

    def identity(self) -> Column:
        """Return the column of the id."""
        type_of, parse = KEYS[self.type]
        return Column(
            self.key, type_of, False, max_length=_LONGEST_KEY, field="id", parse=reading(parse), writable=False
        )

    def parse_id(self, text: str) -> str | None:
        """Return the id that stands in a URL as the items carry it; None where it can be no id."""
        return KEYS[self.type][1](text)

    def without_key(self, values: Mapping[str, Any], identity: str | None, names: Mapping[str, str]) -> dict[str, Any]:
        """Return `values` without a key that is `identity`, or not there; raise `ApiError` 422 for one that differs.

        `names` are what JSON calls the columns.
        """
        value = values.get(self.key)
        if value is not None and identity is None:
            return {**values}
        if value is not None and str(value) != identity:
            message = "The id of an item cannot be changed; it must match the URL."
            raise errors.InvalidValue(message, pointer=errors.pointer((names[self.key],)))
        return {name: values[name] for name in values if name != self.key}


def _whole(text: str) -> str | None:
    """Return a whole number as PostgreSQL writes it, which is how it has to come."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 19):
        return None
    return text if str(int(text)) == text and -(2**63) <= int(text) < 2**63 else None


def _text(text: str) -> str | None:
    return text if 0 < len(text) <= _LONGEST_KEY and "\0" not in text else None


KEYS: Mapping[str, tuple[str, Callable[[str], str | None]]] = {
    "uuid": ("uuid", parse_uuid),
    "bigint": (INTEGER_KEY, _whole),
    "text": ("text", _text),
}
"""The types that a key may have: each as a column of statements, and what reads an id."""


def reading(parse: Callable[[str], str | None]) -> Callable[[str], str]:
    """Return what reads an id as `parse` does, and raises `ValueError` where that gives None."""

    def read(text: str) -> str:
        found = parse(text)
        if found is None:
            raise ValueError("Not a valid id.")
        return found

    return read
