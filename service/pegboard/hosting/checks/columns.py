"""Checks that the column of each field can keep its values unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from marshmallow.fields import Field

from pegboard.api.resource import Resource
from pegboard.api.table import TableResource
from pegboard.hosting.checks.passwords import parts
from pegboard.query import mapping
from pegboard.schema import fields
from pegboard.schema.column import base_type, is_custom
from pegboard.schema.numbers import MAX_DIGITS

_KEPT_BY: tuple[tuple[type[Field[Any]], tuple[str, ...]], ...] = (
    (fields.Enum, ("text", "varchar", "smallint", "integer", "bigint")),
    (fields.String, ("text", "varchar")),
    (fields.UUID, ("uuid",)),
    (fields.Integer, ("bigint", "integer", "smallint")),
    (fields.Float, ("double precision", "real")),
    (fields.Decimal, ("numeric",)),
    (fields.Boolean, ("boolean",)),
    (fields.Date, ("date",)),
    (fields.Time, ("time",)),
    (fields.DateTime, ("timestamptz", "timestamp")),
    (fields.IP, ("inet",)),
    (fields.Dict, ("jsonb", "json")),
    (fields.Raw, ("jsonb", "json")),
    (fields.Nested, ("jsonb", "json")),
)
"""The types that keep the values of a field, the usual one first; the first class of a field counts."""

_OF_OTHERS = tuple(dict.fromkeys(kind for _, kinds in _KEPT_BY for kind in kinds))
"""The types that keep the values of fields of other classes, if these load what asyncpg expects."""


def kept(found: type[Resource]) -> Iterator[str]:
    """Check the type of each column."""
    if not issubclass(found, TableResource):
        return
    for attribute, field, type_of in mapping.stored(found.schema()):
        if type_of is not None:
            for problem in _type(field, base_type(type_of)):
                yield f"the field {attribute} {problem}"
        for problem in (*_decimal(field), *_choices(field, type_of or ""), *_references(field)):
            yield f"the field {attribute} {problem}"


def _type(field: Any, type_of: str) -> Iterator[str]:
    inner = getattr(field, "inner", None)
    if inner is not None and type_of.endswith("[]"):
        yield from _type(inner, type_of.removesuffix("[]"))
        yield from _element(field, inner)
        return
    allowed = ("jsonb", "json") if inner is not None else _allowed(field)
    # What only the database writes is shown as text, whatever it is.
    if type_of in allowed or (isinstance(field, fields.String) and field.dump_only):
        return
    if is_custom(type_of) and isinstance(field, fields.String | fields.Enum):
        return
    yield (
        f"has the column type {type_of}, which cannot keep values of fields.{type(field).__name__} unchanged: "
        f"use {' or '.join(allowed)}"
    )


def _element(field: Any, inner: Any) -> Iterator[str]:
    """Check that the elements of a list know the bounds of their type."""
    declared = str(field.metadata.get("column_type", "")).replace("[]", "").strip()
    bounded = "(" in declared or base_type(declared) in ("smallint", "integer")
    if bounded and inner.metadata.get("column_type") != declared:
        kind = type(inner).__name__
        yield (
            f"declares the type of its elements, {declared}, only for the list: "
            f'write fields.List(fields.{kind}(metadata={{"column_type": "{declared}"}}))'
        )


def _allowed(field: Field[Any]) -> tuple[str, ...]:
    return next((kinds for kind, kinds in _KEPT_BY if isinstance(field, kind)), _OF_OTHERS)


def _decimal(field: Any) -> Iterator[str]:
    """Check that the digits that a field declares fit into its column."""
    if not isinstance(field, fields.Decimal):
        return
    if not 0 <= field.places <= MAX_DIGITS:
        yield f"has {field.places} places: use 0 to {MAX_DIGITS}"
    scale = fields.scale_of(field)
    if scale is not None and field.places != scale:
        yield f"has {field.places} places, but its column has {scale}: use places={scale}"


def _choices(field: Any, type_of: str) -> Iterator[str]:
    """Check that the members of an enum have values that a column and JSON can hold."""
    if not isinstance(field, fields.Enum):
        return
    texts = sum(isinstance(choice, str) for choice in field.choices)
    integers = sum(isinstance(choice, int) and not isinstance(choice, bool) for choice in field.choices)
    if not field.choices or len(field.choices) not in (texts, integers):
        yield f"uses {field.enum.__name__}, whose values are not all text or all integers: use the names"
    elif integers and type_of and base_type(type_of) not in ("smallint", "integer", "bigint"):
        yield f"stores integers in a column of the type {type_of}: use bigint"
    elif texts and base_type(type_of) in ("smallint", "integer", "bigint"):
        yield f"stores text in a column of the type {type_of}: use text"


def _references(field: Any) -> Iterator[str]:
    """Check that no reference is where a foreign key cannot enforce it."""
    for part in parts(field):
        if isinstance(part, fields.Reference) and part is not field:
            yield "is a list of references, which a foreign key cannot enforce: use a list of fields.UUID"
        if isinstance(part, fields.Nested):
            yield from _nested_references(part.schema, frozenset())


def _nested_references(schema: Any, within: frozenset[type]) -> Iterator[str]:
    if type(schema) in within:
        return
    for name, field in schema.fields.items():
        for part in parts(field):
            if isinstance(part, fields.Reference):
                yield (
                    f"nests the reference {name}, which a foreign key cannot enforce: "
                    "use fields.UUID, or move it to the outer schema"
                )
            if isinstance(part, fields.Nested):
                yield from _nested_references(part.schema, within | {type(schema)})
