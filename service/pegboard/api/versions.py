"""Versions of rows: how they are created, sent as entity tags, and required by clients."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from pegboard.http.conditions import Conditions
from pegboard.schema.ddl import VERSION
from pegboard.schema.numbers import MAX_INTEGER


def new() -> int:
    """Return a new random version, different from all earlier ones of the item."""
    return random.getrandbits(63)


def tag(item: Mapping[str, Any]) -> str:
    """Return the entity tag of a row."""
    return f"{item[VERSION]:x}"


def required(conditions: Conditions) -> list[int] | None:
    """Return the versions of which the item must have one, or None if any is allowed."""
    wanted = conditions.if_match
    if wanted is None or wanted.any_tag:
        return None
    return [int(tag, 16) for tag in wanted.strong if _is_version(tag)]


def _is_version(tag: str) -> bool:
    return (
        len(tag) <= 16
        and all(digit in "0123456789abcdef" for digit in tag)
        and tag != ""
        and int(tag, 16) <= MAX_INTEGER
    )
