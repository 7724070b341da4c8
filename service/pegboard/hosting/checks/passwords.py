"""Checks that passwords are where they are hashed: in fields of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import marshmallow
from marshmallow.fields import Field

from pegboard.schema import fields


def parts(field: Any) -> Iterator[Any]:
    """Yield a field, and the fields of its elements or values."""
    yield field
    for name in ("inner", "value_field"):
        inner = getattr(field, name, None)
        if inner is not None:
            yield from parts(inner)


def nested(field: Field[Any]) -> Iterator[str]:
    """Check that a field contains no password, which would not be hashed."""
    for inner in parts(field):
        if inner is not field and isinstance(inner, fields.Password):
            yield "contains passwords, which are hashed only in fields of their own: use fields.Password in the schema"
        if isinstance(inner, fields.Nested) and _has_password(inner.schema, frozenset()):
            yield "nests a password, which is hashed only at the top level: move it to the outer schema"


def _has_password(schema: marshmallow.Schema, within: frozenset[type]) -> bool:
    return type(schema) not in within and any(
        isinstance(part, fields.Password)
        or (isinstance(part, fields.Nested) and _has_password(part.schema, within | {type(schema)}))
        for field in schema.fields.values()
        for part in parts(field)
    )
