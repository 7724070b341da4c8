"""Checks of the schema of a resource and of its fields."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import marshmallow
import orjson
from marshmallow import ValidationError, missing, validate
from marshmallow.fields import Field

from pegboard import rendering
from pegboard.api.resource import Resource
from pegboard.hosting.checks import hooks, passwords
from pegboard.hosting.checks.passwords import parts
from pegboard.hosting.checks.samples import sample
from pegboard.rendering import short
from pegboard.schema import fields
from pegboard.schema.loading import STANDARD
from pegboard.schema.schema import Schema, messages_of

_RESOURCE = re.compile(r"[a-z][a-z0-9_-]{0,39}", re.ASCII)

_META: Mapping[str, str] = {
    "dateformat": "the service defines the format of dates",
    "datetimeformat": "the service defines the format of timestamps",
    "timeformat": "the service defines the format of times",
    "many": "a resource loads its items one by one",
}
"""Options of a schema's `Meta` that would break the contract, and why."""


def item(found: type[Resource]) -> Iterator[str]:
    """Check the schema of the items."""
    schema = getattr(found, "schema", None)
    if isinstance(schema, Schema):
        yield f"set schema to a subclass of pegboard.Schema, not to an instance: schema = {type(schema).__name__}"
    elif not (inspect.isclass(schema) and issubclass(schema, Schema)):
        yield "set schema to a subclass of pegboard.Schema"
    else:
        yield from _problems(schema)


def _problems(schema: type[Schema], within: frozenset[type[Schema]] = frozenset()) -> Iterator[str]:
    """Check a schema, nested in the schemas `within`."""
    yield from _meta(schema)
    try:
        made = schema()
    except ValueError as error:
        yield f"{schema.__name__} is inconsistent: {error}"
        return
    if not within:
        yield from _standard_fields(made)
    yield from hooks.of(made, is_item=not within)
    for name, field in made.fields.items():
        for check in _FIELD_CHECKS:
            for problem in check(field):
                yield f"the field {name} {problem}"
        for problem in _nested(field, within | {schema}):
            yield f"the field {name} {problem}"
        for problem in () if within else passwords.nested(field):
            yield f"the field {name} {problem}"


def _meta(schema: type[Schema]) -> Iterator[str]:
    meta = schema.Meta
    if getattr(meta, "unknown", marshmallow.RAISE) != marshmallow.RAISE:
        yield f"{schema.__name__}.Meta accepts unknown fields: remove the option unknown"
    for option, reason in _META.items():
        if getattr(meta, option, None):
            yield f"{schema.__name__}.Meta sets {option}, but {reason}: remove it"
    if getattr(meta, "index_errors", True) is False:
        yield f"{schema.__name__}.Meta sets index_errors to False, but error pointers need it: remove it"


def _standard_fields(made: Schema) -> Iterator[str]:
    for name, field in made.fields.items():
        if name in STANDARD:
            yield f"the field {name} is a standard field of every item: remove it from the schema"
        for option, value in (("data_key", field.data_key), ("attribute", field.attribute)):
            if value in STANDARD:
                yield f"the field {name} has {option}={value!r}, which is a standard field of every item: use another"


def _direction(field: Field[Any]) -> Iterator[str]:
    if field.dump_only and field.load_only:
        yield "is dump_only and load_only, so it is neither accepted nor shown: remove one of them"
    if field.dump_only and field.required:
        yield "is required and dump_only, so no client can send it: remove one of them"


def _reference(field: Field[Any]) -> Iterator[str]:
    if isinstance(field, fields.Reference):
        resource: Any = field.resource
        if not isinstance(resource, str) or not _RESOURCE.fullmatch(resource):
            yield f'refers to {resource!r}; use the name in the path of the resource: fields.Reference("companies")'


def _validators(field: Field[Any]) -> Iterator[str]:
    value = sample(field)
    for wrapped in field.validators:
        check = getattr(wrapped, "check", wrapped)
        yield from _callable(check)
        if not isinstance(check, validate.Validator):
            continue
        if isinstance(check, validate.Length | validate.Range) and _is_empty(check):
            yield f"has {check!r}, which no value can pass: its min is greater than its max"
        if isinstance(check, validate.OneOf) and not check.choices:
            yield "has validate.OneOf without choices, which no value can pass: add some"
        if value is not missing:
            yield from _suitable(check, value)
    inner = getattr(field, "inner", None)
    for problem in _validators(inner) if inner is not None else ():
        yield f"holds a list whose element {problem}"


def _callable(check: Any) -> Iterator[str]:
    """Check that a validator can be called with a value, without awaiting it."""
    if inspect.isclass(check) and issubclass(check, validate.Validator):
        yield f"uses the class {check.__name__} as a validator; instantiate it: {check.__name__}(...)"
    if not hooks.is_plain(check):
        yield "uses a coroutine or a generator as a validator, which is not awaited: write a plain function"
    try:
        inspect.signature(check).bind(None)
    except TypeError:
        yield "has a validator with the wrong parameters: write def check(value)"
    except ValueError:
        # The signature of a function written in C is unknown.
        return


def _is_empty(check: Any) -> bool:
    try:
        return check.min is not None and check.max is not None and bool(check.min > check.max)
    except TypeError:
        return False


def _suitable(check: validate.Validator, value: Any) -> Iterator[str]:
    try:
        check(value)
    except ValidationError:
        return
    except Exception as error:
        name = type(check).__name__
        yield f"has validate.{name}, which cannot validate a value of type {type(value).__name__}: {error}"


def _default(field: Field[Any]) -> Iterator[str]:
    default = field.load_default
    if isinstance(default, list | dict | set):
        factory = f"lambda: {default!r}" if default else type(default).__name__
        yield f"shares one {type(default).__name__} as the default of all items: write load_default={factory}"
    if default is missing or default is None or callable(default):
        return
    try:
        sent = field._serialize(default, "", None) if isinstance(field, fields.Enum) else default
        field.deserialize(orjson.loads(rendering.dumps(sent)))
    except ValidationError as error:
        yield f"rejects its own default {short(default)}: {_first(error)}"
    except TypeError:
        kind = type(default).__name__
        yield f"has a default of type {kind}, which JSON cannot represent: use one that the field can load"


def _first(error: ValidationError) -> str:
    messages: Any = messages_of(error)
    while isinstance(messages, dict | list) and messages:
        messages = next(iter(messages.values())) if isinstance(messages, dict) else messages[0]
    return str(messages)


def _nested(field: Field[Any], within: frozenset[type[Schema]]) -> Iterator[str]:
    for inner in parts(field):
        if not isinstance(inner, fields.Nested):
            continue
        try:
            schema = inner.schema
        except Exception as error:
            yield f"nests something that is not a schema: {error}; write fields.Nested(Address)"
            return
        if not isinstance(schema, Schema):
            yield "nests a schema that is not a pegboard.Schema, so its errors have no codes: derive it from that"
        elif schema.unknown != marshmallow.RAISE:
            yield "nests a schema that accepts unknown fields: remove the option unknown"
        elif type(schema) not in within:
            for problem in _problems(type(schema), within):
                yield f"nests {type(schema).__name__}, and there {problem}"


_FIELD_CHECKS: tuple[Callable[[Field[Any]], Iterator[str]], ...] = (_direction, _reference, _validators, _default)
"""Each yields problems that continue the sentence "the field NAME ..."."""
