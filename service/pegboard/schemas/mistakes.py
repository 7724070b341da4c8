"""What an author can get wrong in a schema, each told with its place and how to mend it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import marshmallow
import orjson
from marshmallow import ValidationError, missing, validate
from marshmallow.fields import Field

from pegboard import rendering
from pegboard.schemas import fields
from pegboard.schemas.schema import Schema, messages_of

_RESOURCE = re.compile(r"[a-z][a-z0-9_-]{0,39}", re.ASCII)

_SAMPLES: Mapping[type[Field[Any]], Any] = {
    fields.String: "a",
    fields.Integer: 1,
    fields.Float: 1.0,
    fields.Decimal: Decimal(1),
    fields.Boolean: True,
    fields.Date: date(2015, 2, 15),
    fields.DateTime: datetime(2015, 2, 15, tzinfo=UTC),
    fields.Time: time(5),
    fields.UUID: uuid.UUID(int=0),
    fields.List: [],
    fields.Dict: {},
}
"""A value of each kind of field, of which the well-known validators can say yes or no."""

_META: Mapping[str, str] = {
    "dateformat": "how dates are written is the service's own",
    "datetimeformat": "how instants are written is the service's own",
    "timeformat": "how times are written is the service's own",
    "many": "a resource loads its items one by one",
}
"""Options of a schema's `Meta` that would break the contract, and why."""


def mistake(schema: type[Schema], within: frozenset[type[Schema]] = frozenset()) -> str | None:
    """Return what is wrong with a schema, nested in those `within`; None for a sound one.

    Raises what its own code does.
    """
    meta = _meta_mistake(schema)
    if meta is not None:
        return meta
    try:
        made = schema()
    except ValueError as error:
        return f"{schema.__name__} contradicts itself: {error}"
    for name, field in made.fields.items():
        faults = (check(field) for check in _CHECKS)
        fault = next((fault for fault in faults if fault is not None), None) or _nested(field, within | {schema})
        if fault is not None:
            return f"the field {name} {fault}"
    return None


def _meta_mistake(schema: type[Schema]) -> str | None:
    meta = schema.Meta
    if getattr(meta, "unknown", marshmallow.RAISE) != marshmallow.RAISE:
        return f"{schema.__name__}.Meta lets fields in that the schema does not name: leave unknown out of it"
    for option, reason in _META.items():
        if getattr(meta, option, None):
            return f"{schema.__name__}.Meta sets {option}, but {reason}: leave it out"
    if getattr(meta, "index_errors", True) is False:
        return f"{schema.__name__}.Meta sets index_errors, without which no pointer leads into a list: leave it out"
    return None


def _direction(field: Field[Any]) -> str | None:
    if field.dump_only and field.load_only:
        return "is dump_only and load_only, so it is neither taken nor shown: leave one of them out"
    if field.dump_only and field.required:
        return "is required, but dump_only, so no client can send it: leave one of them out"
    return None


def _default(field: Field[Any]) -> str | None:
    default = field.load_default
    if isinstance(default, list | dict | set):
        return f"has one {type(default).__name__} as the default of all items: write load_default={_kind(default)}"
    if default is missing or default is None or callable(default):
        return None
    try:
        field.deserialize(orjson.loads(rendering.dumps(default)))
    except ValidationError as error:
        return f"refuses its own default {default!r}: {_first(error)}"
    except TypeError:
        return f"has a {type(default).__name__} as its default, which no JSON can say: give it one that it could load"
    return None


def _kind(default: Any) -> str:
    return f"lambda: {default!r}" if default else type(default).__name__


def _validators(field: Field[Any]) -> str | None:
    sample = next((value for kind, value in _SAMPLES.items() if isinstance(field, kind)), missing)
    for wrapped in field.validators:
        check = getattr(wrapped, "check", wrapped)
        if not isinstance(check, validate.Validator):
            continue
        if isinstance(check, validate.Length | validate.Range) and _is_empty(check):
            return f"has {check!r}, which nothing can pass: its min is greater than its max"
        if isinstance(check, validate.OneOf) and not check.choices:
            return "has validate.OneOf without a choice, which nothing can pass: name some"
        fault = None if sample is missing else _unfit(check, sample)
        if fault is not None:
            return fault
    inner = getattr(field, "inner", None)
    fault = _validators(inner) if inner is not None else None
    return fault and f"holds a list whose element {fault}"


def _is_empty(check: Any) -> bool:
    try:
        return check.min is not None and check.max is not None and bool(check.min > check.max)
    except TypeError:
        return False


def _unfit(check: validate.Validator, sample: Any) -> str | None:
    try:
        check(sample)
    except ValidationError:
        return None
    except Exception as error:
        name = type(check).__name__
        return f"has validate.{name}, which cannot judge a {type(sample).__name__}: {error}"
    return None


def _reference(field: Field[Any]) -> str | None:
    if not isinstance(field, fields.Reference):
        return None
    named: Any = field.resource
    if not isinstance(named, str) or not _RESOURCE.fullmatch(named):
        return f'refers to {named!r}; name the resource as its path does: fields.Reference("companies")'
    return None


def _nested(field: Field[Any], within: frozenset[type[Schema]]) -> str | None:
    for inner in _parts(field):
        if not isinstance(inner, fields.Nested):
            continue
        try:
            schema = inner.schema
        except Exception as error:
            return f"nests what is no schema: {error}; write fields.Nested(Address)"
        if not isinstance(schema, Schema):
            return "nests a schema that is no pegboard.Schema, whose faults have no codes: derive it from that"
        if schema.unknown != marshmallow.RAISE:
            return "nests a schema that lets unknown fields in: leave unknown out"
        fault = mistake(type(schema), within) if type(schema) not in within else None
        if fault is not None:
            return f"nests {type(schema).__name__}, and there {fault}"
    return None


def _parts(field: Any) -> Iterator[Any]:
    yield field
    for name in ("inner", "value_field"):
        inner = getattr(field, name, None)
        if inner is not None:
            yield from _parts(inner)


def _first(error: ValidationError) -> str:
    messages: Any = messages_of(error)
    while isinstance(messages, dict | list) and messages:
        messages = next(iter(messages.values())) if isinstance(messages, dict) else messages[0]
    return str(messages)


_CHECKS: tuple[Callable[[Field[Any]], str | None], ...] = (_direction, _reference, _validators, _default)
"""What each field is held against, in turn; each returns words that follow the field's name."""
