"""The columns of a schema's fields."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from marshmallow import missing, validate
from marshmallow.fields import Constant, Field, Function, Method, Nested

from pegboard import rendering
from pegboard.schema import fields
from pegboard.schema.column import Column, Part
from pegboard.schema.ddl import CREATED_AT, ID, UPDATED_AT
from pegboard.schema.normalizing import normalizer
from pegboard.schema.schema import Schema

NAME = Column("id", "text", False, field="id", parse=fields.query_parser(fields.String()), writable=False)
"""The id of a resource without a table, if it is not a UUID."""

_COMPUTED = (Constant, Function, Method)

_PLAIN = frozenset(
    (
        *(fields.String, fields.Email, fields.Url, fields.UUID, fields.Integer, fields.Float, fields.Decimal),
        *(fields.Boolean, fields.Date, fields.DateTime, fields.Time, fields.Dict, fields.Raw, fields.Reference),
        *(fields.JSON, fields.Enum, fields.IP),
    )
)
"""The fields whose values are shown as the database returns them."""


def stored(schema: Schema) -> Iterator[tuple[str, Field[Any], str | None]]:
    """Yield the stored fields: the attribute, its field, and the column's type (None if unknown)."""
    for name, field in schema.fields.items():
        if not isinstance(field, _COMPUTED):
            yield field.attribute or name, field, fields.column_type(field)


def computed(schema: Schema) -> tuple[str, ...]:
    """Return the names in JSON of the fields without a column."""
    return tuple(name_of(field, name) for name, field in schema.dump_fields.items() if isinstance(field, _COMPUTED))


def is_plain(schema: Schema) -> bool:
    """Return whether every shown field is shown as the database returns it."""
    return all(_plain(field) for field in schema.dump_fields.values()) and not any(schema._hooks.values())


def _plain(field: Any) -> bool:
    return _plain(field.inner) if type(field) is fields.List else type(field) in _PLAIN


def columns(schema: Schema, without: Collection[str] = (), key: Column = ID) -> tuple[Column, ...]:
    """Return the columns in the order of the fields in JSON: `key`, that of the id, the schema's and the timestamps.

    `without` are the timestamps that the table does not have.
    """
    # Those of an existing table may be null.
    is_own = key is ID and not without
    timestamps = [
        replace(column, is_always_set=is_own) for column in (CREATED_AT, UPDATED_AT) if column.name not in without
    ]
    return (key, *table_columns(schema), *timestamps)


def name_of(field: Field[Any], attribute: str) -> str:
    """Return the name of the field in JSON."""
    return field.data_key or field.name or attribute


def is_nullable(field: Field[Any]) -> bool:
    """Return whether the column can hold null: the field allows it, or is optional without a default."""
    return field.allow_none or (not field.required and field.load_default is missing)


def references(schema: Schema) -> dict[str, str]:
    """Return the resources that shown references refer to, by the names of the fields in JSON."""
    return {
        name_of(field, name): field.resource
        for name, field in schema.dump_fields.items()
        if isinstance(field, fields.Reference)
    }


def table_columns(schema: Schema) -> tuple[Column, ...]:
    """Return the columns that a table made for `schema` has in addition to the standard ones."""
    return tuple(_column(*part) for part in stored(schema))


def _column(name: str, field: Field[Any], type_of: str | None) -> Column:
    # The bounds of a password are not those of its hash.
    least, most = (None, None) if isinstance(field, fields.Password) else _bounds(field)
    return Column(
        name=name,
        type=type_of or "jsonb",
        nullable=is_nullable(field),
        default=_default(field, type_of or "jsonb"),
        max_length=most,
        min_length=least,
        references=(field.resource, field.resource) if isinstance(field, fields.Reference) else None,
        choices=_choices(field, type_of),
        field=name_of(field, name),
        parse=fields.query_parser(field.inner if isinstance(field, fields.List) else field),
        normalize=normalizer(field, type_of),
        places=field.places if isinstance(field, fields.Decimal) and field.fixed else None,
        most_places=_most_places(field),
        is_shown_as_text=isinstance(field, fields.String) and type_of is not None and type_of.lower() != "text",
        readable=not field.load_only,
        writable=not field.dump_only,
        shape=_shape(field) if type_of == "jsonb" else None,
    )


def _most_places(field: Field[Any]) -> int | None:
    """Return how many digits after the point a number of the field, or of its list, may have; None for other fields."""
    number = field.inner if isinstance(field, fields.List) else field
    return number.places if isinstance(number, fields.Decimal) else None


def _shape(field: Field[Any]) -> Part | None:
    """Return the description of the nested schemas that a field holds, or None if it holds none."""
    part = _part("", field, ())
    return part if _has_object(part) else None


def _part(name: str, field: Field[Any], within: tuple[type, ...]) -> Part:
    """Return the description of a value; `within` are the schemas that contain it, which are not described again."""
    if isinstance(field, Nested):
        schema = field.schema
        of = type(schema)
        inner = schema.load_fields.items() if of not in within else ()
        parts = tuple(_part(name_of(part, own), part, (*within, of)) for own, part in inner)
        one = Part(name, "object", field.required, parts)
        return Part(name, "list", field.required, (replace(one, name="", required=False),)) if field.many else one
    if isinstance(field, fields.List):
        return Part(name, "list", field.required, (_part("", field.inner, within),))
    if isinstance(field, fields.Dict) and field.value_field is not None:
        return Part(name, "map", field.required, (_part("", field.value_field, within),))
    return Part(name, fields.column_type(field) or "jsonb", field.required)


def _has_object(part: Part) -> bool:
    return part.type == "object" or any(_has_object(inner) for inner in part.parts)


def _bounds(field: Any) -> tuple[int | None, int | None]:
    """Return the smallest and largest length that the field's validators allow."""
    least, most = None, None
    for validator in field.validators:
        check = getattr(validator, "check", validator)
        if isinstance(check, validate.Length) and not isinstance(check, fields.ColumnLength):
            least, most = (check.min, check.max) if check.equal is None else (check.equal, check.equal)
    return least, most


def _choices(field: Field[Any], type_of: str | None) -> tuple[str | int, ...] | None:
    """Return the values that a column may have; None if any, or if its type names them."""
    return field.choices if isinstance(field, fields.Enum) and type_of in ("text", "bigint") else None


def _default(field: Field[Any], type_of: str) -> str | None:
    """Return the default as SQL, for existing rows when the column is added."""
    default = field.load_default
    # Other callables may return another value each time: they are not the default of a column.
    value = default() if default in (list, dict) else None if callable(default) else default
    if value is missing or value is None:
        return None
    normalize = normalizer(field, type_of)
    if normalize is not None:
        value = normalize(value)
    if isinstance(value, list) and type_of.endswith("[]"):
        return f"ARRAY[{', '.join(_quoted(_text(part)) for part in value)}]::{type_of}"
    text = rendering.dumps(value).decode() if type_of == "jsonb" else _text(value)
    return f"{_quoted(text)}::{type_of}"


def _text(value: Any) -> str:
    """Return a value as PostgreSQL reads it: as in JSON, without the quotes."""
    text = rendering.dumps(value).decode()
    return str(json.loads(text)) if text.startswith('"') else text


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
