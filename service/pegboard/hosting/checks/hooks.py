"""Checks of the decorated methods of schemas: whether marshmallow can call them, and what they return."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import marshmallow
import orjson
from marshmallow import decorators, missing

from pegboard import rendering
from pegboard.api import declared
from pegboard.api.resource import Resource
from pegboard.hosting.checks import passwords
from pegboard.hosting.checks.samples import sample
from pegboard.rendering import short
from pegboard.schema.schema import Schema

_LOADING: Mapping[str, Any] = {"many": False, "partial": frozenset(), "unknown": marshmallow.RAISE}
_KEYWORDS: Mapping[str, Mapping[str, Any]] = {
    decorators.VALIDATES: {"data_key": ""},
    decorators.VALIDATES_SCHEMA: _LOADING,
    decorators.PRE_LOAD: _LOADING,
    decorators.POST_LOAD: _LOADING,
    decorators.PRE_DUMP: {"many": False},
    decorators.POST_DUMP: {"many": False},
}
"""The keyword arguments that marshmallow passes, by the name of the decorator."""


def other_schemas(found: type[Resource]) -> Iterator[str]:
    """Check the schemas of the operations and the settings of a resource."""
    operations = declared.operations(found).values()
    schemas: list[Any] = [found.settings_schema, *(part for one in operations for part in (one.request, one.response))]
    for schema in schemas:
        if isinstance(schema, type) and issubclass(schema, Schema):
            yield from of(schema(), is_item=False)
    for name, operation in declared.operations(found).items():
        for field in operation.request().fields.values() if operation.request else ():
            for problem in passwords.nested(field):
                yield f"the operation {name} takes the field {field.name}, which {problem}"


def of(made: Schema, *, is_item: bool) -> Iterator[str]:
    """Check the decorated methods of one schema; that of an item must return dicts."""
    for tag, keywords in _KEYWORDS.items():
        for name, _, options in made._hooks[tag]:
            for problem in _problems(made, tag, name, options, keywords, is_item):
                yield f"{type(made).__name__}.{name} {problem}"


def _problems(
    made: Schema, tag: str, name: str, options: Mapping[str, Any], keywords: Mapping[str, Any], is_item: bool
) -> Iterator[str]:
    method = getattr(made, name).__wrapped__
    if not is_plain(method):
        yield f"must be a plain method, not a coroutine or a generator: write def {name}"
    names = ["value" if tag == decorators.VALIDATES else "data", *["original"] * bool(options.get("pass_original"))]
    try:
        inspect.signature(method).bind(*names, **keywords)
    except TypeError:
        yield f"has the wrong parameters for @{tag}: write def {name}({', '.join(('self', *names))}, **kwargs)"
    for field in options.get("field_names", ()):
        if field not in made.declared_fields:
            near = get_close_matches(str(field), made.declared_fields, n=1)
            hint = f"did you mean {near[0]}?" if near else "name an existing one"
            yield f"validates {short(field)}, which is not a field of the schema: {hint}"
    if tag not in (decorators.VALIDATES, decorators.VALIDATES_SCHEMA):
        yield from _results(tag, method, _arguments(made, tag, options), keywords, is_item)


def is_plain(function: Any) -> bool:
    """Return whether a function is neither a coroutine nor a generator."""
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return not any(is_kind(function) for is_kind in kinds)


def _arguments(made: Schema, tag: str, options: Mapping[str, Any]) -> list[Any]:
    """Return examples of what marshmallow passes to a method that transforms data."""
    loaded: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for name, field in made.fields.items():
        value = sample(field)
        if value is not missing:
            loaded[field.attribute or name] = copy.copy(value)
            plain[field.data_key or name] = orjson.loads(rendering.dumps(value))
    both = (loaded, plain) if tag in (decorators.POST_LOAD, decorators.PRE_DUMP) else (plain, loaded)
    return list(both[: 1 + bool(options.get("pass_original"))])


def _results(
    tag: str, method: Callable[..., Any], arguments: list[Any], keywords: Mapping[str, Any], is_item: bool
) -> Iterator[str]:
    """Check what a method returns for an example; it may reject the example by raising."""
    try:
        result = method(*arguments, **keywords)
    except Exception:
        return
    if result is None:
        yield "returned None: it must return the data"
    returns_dict = tag == decorators.PRE_LOAD or (is_item and tag != decorators.PRE_DUMP)
    if returns_dict and not isinstance(result, Mapping):
        yield f"returned {short(result)}: it must return a dict"
