"""Checks of the types of the attributes of a resource."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from pegboard.api.content import Content
from pegboard.api.resource import Resource
from pegboard.error_codes import BLOCK_SIZE
from pegboard.errors import ApiError
from pegboard.hosting.names import name_problem
from pegboard.rendering import short
from pegboard.schema.schema import Schema

_BOOLEANS = ("needs_match", "creates_by_put", "checks_version", "owned")
_NAMES = (
    *("former_names", "filterable", "sortable", "ignore_accents", "me", "me_writable", "public"),
    *("indexes", "search_fields"),
)
_OPTIONAL = ("filterable", "sortable", "me_writable")
_LIMITS = ("default_limit", "max_limit")
_MOST = BLOCK_SIZE - 1


def content(found: type[Resource]) -> Iterator[str]:
    """Check that `content` is an instance of `Content`."""
    declared: Any = found.content
    if not isinstance(declared, Content | None):
        yield f"content is {short(declared)}: set it to an instance of pegboard.Content, or remove it"


def settings(found: type[Resource]) -> Iterator[str]:
    """Check that `settings_schema` is a schema."""
    if found.settings_schema is not None and not _is_schema(found.settings_schema):
        yield "set settings_schema to a subclass of pegboard.Schema, or remove it"


def docstring(found: type[Resource]) -> Iterator[str]:
    """Check that the docstring is text."""
    text: Any = found.__doc__
    if not isinstance(text, str | None):
        yield "the docstring is not a string: write one, or remove it"


def booleans(found: type[Resource]) -> Iterator[str]:
    """Check the attributes that are True or False."""
    for name in _BOOLEANS:
        value = getattr(found, name, False)
        if not isinstance(value, bool):
            yield f"{name} is {short(value)}: set it to True or False"


def limits(found: type[Resource]) -> Iterator[str]:
    """Check the page sizes."""
    for name in _LIMITS:
        value = getattr(found, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            yield f"{name} is {short(value)}: set it to an integer of at least 1"
    if found.default_limit > found.max_limit:
        yield f"default_limit is {found.default_limit}, greater than max_limit, {found.max_limit}: lower it"


def names(found: type[Resource]) -> Iterator[str]:
    """Check the attributes that are tuples of names."""
    for name in _NAMES:
        value = getattr(found, name, ())
        if value is None and name in _OPTIONAL:
            continue
        if isinstance(value, str):
            yield f"{name} is a string, not a tuple: write {name} = ({short(value)},)"
        if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
            yield f'{name} is {short(value)}: set it to a tuple of strings, as in {name} = ("name",)'
        for part in value:
            if value.count(part) > 1:
                yield f"{name} names {part!r} twice: remove one"


def former_names(found: type[Resource]) -> Iterator[str]:
    """Check that each former name is one that a resource can have."""
    for name in found.former_names:
        problem = name_problem(name)
        if problem is not None:
            yield f"former_names: {problem}"


def error_codes(found: type[Resource]) -> Iterator[str]:
    """Check the errors that a resource declares as its own."""
    declared: Any = found.error_codes
    if not isinstance(declared, list | tuple):
        yield f"error_codes is {short(declared)}: set it to a tuple, as in error_codes = (Taken,)"
    owners: dict[int, object] = {}
    for error in declared:
        if not is_error(error):
            yield f"error_codes contains {short(error)}; use only subclasses of pegboard.ApiError"
        name = error.__name__
        number, status, message = (getattr(error, attribute, None) for attribute in ("number", "status", "message"))
        if error.__module__.partition(".")[0] == "pegboard":
            yield f"error_codes contains {name}, an error of the service, which needs no declaration: remove it"
        elif not hasattr(error, "number"):
            yield f"the error {name} has no number: write class {name}(ApiError, number=1, ...), from 0 to {_MOST}"
        elif isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _MOST:
            yield f"the error {name} has the number {short(number)}: use one from 0 to {_MOST}"
        elif isinstance(status, bool) or not isinstance(status, int) or not 400 <= status <= 599:
            yield f"the error {name} has the status {short(status)}, which is not from 400 to 599: use one that is"
        elif not isinstance(message, str) or not message:
            yield f"the error {name} has no message: write one for people to read"
        elif owners.setdefault(number, error) is not error or declared.count(error) > 1:
            yield f"the number {number} is declared twice in error_codes: use another for one of the errors"


def is_error(found: object) -> bool:
    """Return whether `found` is the class of an error."""
    return isinstance(found, type) and issubclass(found, ApiError) and found is not ApiError


def _is_schema(found: object) -> bool:
    return inspect.isclass(found) and issubclass(found, Schema)
