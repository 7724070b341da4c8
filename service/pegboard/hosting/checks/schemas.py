"""What an author can get wrong in a schema, each told with its place and how to mend it."""

from __future__ import annotations

import copy
import inspect
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

import marshmallow
import orjson
from marshmallow import ValidationError, decorators, missing, validate
from marshmallow.fields import Field

from pegboard import rendering
from pegboard.rendering import short
from pegboard.schema import fields
from pegboard.schema.loading import STANDARD
from pegboard.schema.schema import Schema, messages_of

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
    "dateformat": "the service defines the format of dates",
    "datetimeformat": "the service defines the format of instants",
    "timeformat": "the service defines the format of times",
    "many": "a resource loads its items one by one",
}
"""Options of a schema's `Meta` that would break the contract, and why."""


_LOADING: Mapping[str, Any] = {"many": False, "partial": frozenset(), "unknown": marshmallow.RAISE}
_HOOKS: Mapping[str, Mapping[str, Any]] = {
    decorators.VALIDATES: {"data_key": ""},
    decorators.VALIDATES_SCHEMA: _LOADING,
    decorators.PRE_LOAD: _LOADING,
    decorators.POST_LOAD: _LOADING,
    decorators.PRE_DUMP: {"many": False},
    decorators.POST_DUMP: {"many": False},
}
"""What marshmallow gives a decorated method by keyword, by the name of the decorator."""


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
        return f"{schema.__name__} is inconsistent: {error}"
    fault = (None if within else _standard_mistake(made)) or _hooks_mistake(made, is_item=not within)
    if fault is not None:
        return fault
    for name, field in made.fields.items():
        faults = (check(field) for check in _CHECKS)
        fault = next((fault for fault in faults if fault is not None), None) or _nested(field, within | {schema})
        if fault is not None:
            return f"the field {name} {fault}"
    return None


def _meta_mistake(schema: type[Schema]) -> str | None:
    meta = schema.Meta
    if getattr(meta, "unknown", marshmallow.RAISE) != marshmallow.RAISE:
        return f"{schema.__name__}.Meta accepts unknown fields: leave the option unknown out"
    for option, reason in _META.items():
        if getattr(meta, option, None):
            return f"{schema.__name__}.Meta sets {option}, but {reason}: leave it out"
    if getattr(meta, "index_errors", True) is False:
        return f"{schema.__name__}.Meta sets index_errors to False, but error pointers need it: leave it out"
    return None


def hooks_mistake(schema: type[Schema]) -> str | None:
    """Return what is wrong with the decorated methods of a schema that is no item's; None for sound ones."""
    return _hooks_mistake(schema(), is_item=False)


def _standard_mistake(made: Schema) -> str | None:
    for name, field in made.fields.items():
        if name in STANDARD:
            return f"the field {name} is a standard field of every item: leave it out of the schema"
        for option, called in (("data_key", field.data_key), ("attribute", field.attribute)):
            if called in STANDARD:
                return f"the field {name} has {option}={called!r}, which is a standard field of every item: use another"
    return None


def _hooks_mistake(made: Schema, *, is_item: bool) -> str | None:
    for tag, named in _HOOKS.items():
        for name, _, options in made._hooks[tag]:
            fault = _call_mistake(made, tag, name, options) or _field_names_mistake(made, options)
            if fault is None and tag not in (decorators.VALIDATES, decorators.VALIDATES_SCHEMA):
                method = getattr(made, name).__wrapped__
                fault = _result_mistake(tag, method, _given(made, tag, options), named, is_item)
            if fault is not None:
                return f"{type(made).__name__}.{name} {fault}"
    return None


def _call_mistake(made: Schema, tag: str, name: str, options: Mapping[str, Any]) -> str | None:
    """Hold a decorated method against how marshmallow calls it."""
    method = getattr(made, name).__wrapped__
    if not _is_plain(method):
        return f"must be a plain method, not a coroutine or a generator: write def {name}"
    given = ["value" if tag == decorators.VALIDATES else "data", *["original"] * bool(options.get("pass_original"))]
    try:
        inspect.signature(method).bind(*given, **_HOOKS[tag])
    except TypeError:
        return f"has the wrong parameters for @{tag}: write def {name}({', '.join(('self', *given))}, **kwargs)"
    return None


def _is_plain(function: Any) -> bool:
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return not any(is_kind(function) for is_kind in kinds)


def _field_names_mistake(made: Schema, options: Mapping[str, Any]) -> str | None:
    for name in options.get("field_names", ()):
        if name not in made.declared_fields:
            near = get_close_matches(str(name), made.declared_fields, n=1)
            hint = f"did you mean {near[0]}?" if near else "name an existing one"
            return f"validates {short(name)}, which is not a field of the schema: {hint}"
    return None


def _given(made: Schema, tag: str, options: Mapping[str, Any]) -> list[Any]:
    """Return examples of what marshmallow gives a method that makes one thing of another."""
    loaded: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for name, field in made.fields.items():
        sample = _sample(field)
        if sample is not missing:
            loaded[field.attribute or name] = copy.copy(sample)
            plain[field.data_key or name] = orjson.loads(rendering.dumps(sample))
    both = (loaded, plain) if tag in (decorators.POST_LOAD, decorators.PRE_DUMP) else (plain, loaded)
    return list(both[: 1 + bool(options.get("pass_original"))])


def _result_mistake(
    tag: str, method: Callable[..., Any], given: list[Any], named: Mapping[str, Any], is_item: bool
) -> str | None:
    """Hold what a method makes of an example against what is done with it; what it raises there says nothing."""
    try:
        result = method(*given, **named)
    except Exception:
        return None
    if result is None:
        return "returned None: it must return the data"
    if tag == decorators.PRE_LOAD or (is_item and tag != decorators.PRE_DUMP):
        return None if isinstance(result, Mapping) else f"returned {short(result)}: it must return a dict"
    return None


def _sample(field: Field[Any]) -> Any:
    """Return a value that a field of this kind loads; `missing` where none is known."""
    return next((value for kind, value in _SAMPLES.items() if isinstance(field, kind)), missing)


def _direction(field: Field[Any]) -> str | None:
    if field.dump_only and field.load_only:
        return "is dump_only and load_only, so it is neither accepted nor shown: leave one of them out"
    if field.dump_only and field.required:
        return "is required and dump_only, so no client can send it: leave one of them out"
    return None


def _default(field: Field[Any]) -> str | None:
    default = field.load_default
    if isinstance(default, list | dict | set):
        return f"shares one {type(default).__name__} as the default of all items: write load_default={_kind(default)}"
    if default is missing or default is None or callable(default):
        return None
    try:
        field.deserialize(orjson.loads(rendering.dumps(default)))
    except ValidationError as error:
        return f"rejects its own default {short(default)}: {_first(error)}"
    except TypeError:
        return (
            f"has a default of type {type(default).__name__}, which JSON cannot hold: use one that the field can load"
        )
    return None


def _kind(default: Any) -> str:
    return f"lambda: {default!r}" if default else type(default).__name__


def _validators(field: Field[Any]) -> str | None:
    sample = _sample(field)
    for wrapped in field.validators:
        check = getattr(wrapped, "check", wrapped)
        fault = _uncallable(check)
        if fault is not None:
            return fault
        if not isinstance(check, validate.Validator):
            continue
        if isinstance(check, validate.Length | validate.Range) and _is_empty(check):
            return f"has {check!r}, which no value can pass: its min is greater than its max"
        if isinstance(check, validate.OneOf) and not check.choices:
            return "has validate.OneOf without choices, which no value can pass: add some"
        fault = None if sample is missing else _unfit(check, sample)
        if fault is not None:
            return fault
    inner = getattr(field, "inner", None)
    fault = _validators(inner) if inner is not None else None
    return fault and f"holds a list whose element {fault}"


def _uncallable(check: Any) -> str | None:
    """Hold a validator against how it is called: with the value, and without awaiting it."""
    if inspect.isclass(check) and issubclass(check, validate.Validator):
        return f"has the class {check.__name__} as its validator: write {check.__name__}(...)"
    if not _is_plain(check):
        return "has a coroutine or a generator as its validator, which is not awaited: write a plain function"
    try:
        inspect.signature(check).bind(None)
    except TypeError:
        return "has a validator with the wrong parameters: write def check(value)"
    except ValueError:
        # What is written in C does not say what it takes.
        return None
    return None


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
        return f"has validate.{name}, which cannot validate a value of type {type(sample).__name__}: {error}"
    return None


def _reference(field: Field[Any]) -> str | None:
    if not isinstance(field, fields.Reference):
        return None
    named: Any = field.resource
    if not isinstance(named, str) or not _RESOURCE.fullmatch(named):
        return f'refers to {named!r}; use the name in the path of the resource: fields.Reference("companies")'
    return None


def _nested(field: Field[Any], within: frozenset[type[Schema]]) -> str | None:
    for inner in _parts(field):
        if not isinstance(inner, fields.Nested):
            continue
        try:
            schema = inner.schema
        except Exception as error:
            return f"nests something that is not a schema: {error}; write fields.Nested(Address)"
        if not isinstance(schema, Schema):
            return "nests a schema that is not a pegboard.Schema, so its errors have no codes: derive it from that"
        if schema.unknown != marshmallow.RAISE:
            return "nests a schema that accepts unknown fields: leave the option unknown out"
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
