"""Checks for misspelt names of attributes and methods in an author's class, which have no effect."""

from __future__ import annotations

import inspect
from collections.abc import Container, Iterable, Iterator, Mapping
from difflib import get_close_matches
from itertools import takewhile
from typing import Any

from pegboard.api import operation
from pegboard.api.content_resource import ContentResource
from pegboard.api.resource import Resource
from pegboard.hosting.checks import overrides
from pegboard.hosting.checks.overrides import COROUTINE, DATA, MANAGER, STREAM

_ALIKE = 0.8
_SHORTEST = 5  # letters; of fewer, too many other words are nearly the same
_ENDINGS = ("d", "r", "s")
"""Endings that turn a verb into another word, as in `updated` and `lists`."""

_OTHER_WORDS: Mapping[str, str] = {
    "search": "search_fields",
    "conflicts": "constraint_errors",
    "constraints": "constraint_errors",
    "table_name": "table",
    "methods": "verbs",
}
"""Other words for names of the API, which authors may expect."""

_CALLED = tuple(
    name
    for name, value in overrides.service_members(ContentResource).items()
    if overrides.kind_of(value) in (COROUTINE, STREAM, MANAGER)
)


def attributes(found: type[Resource]) -> Iterator[str]:
    """Check that no attribute is misspelt."""
    known = overrides.service_members(found)
    settable = [
        name for name in known if overrides.kind_of(known[name]) is DATA and name not in overrides.instance_names()
    ]
    for name, value in _written(found, known):
        near = _near_attribute(name, settable) if _is_attribute(name, value) else None
        near = near or (_OTHER_WORDS.get(name) if _is_attribute(name, value) else None)
        if near is not None:
            yield f"{name} is not an attribute of a resource: did you mean {near}? If not, rename it."


def methods(found: type[Resource]) -> Iterator[str]:
    """Check that no coroutine that the service calls is misspelt."""
    for name, value in _written(found, overrides.service_members(found)):
        near = _near_method(name, _CALLED) if _is_coroutine(value) else None
        if near is not None:
            yield f"{name} is not a method of a resource: did you mean {near}? If not, rename it."


def _written(found: type, known: Container[str]) -> Iterable[tuple[str, Any]]:
    """Yield the author's public members, without operations and the names in `known`."""
    for parent in found.__mro__:
        if operation.is_core_class(parent):
            continue
        declared = operation.operations(parent)
        for name, value in vars(parent).items():
            if not (name.startswith("_") or name in declared or name in known or name in _CALLED):
                yield name, value


def _is_attribute(name: str, value: Any) -> bool:
    """Return whether a value is not a method, a property or a nested class."""
    return not hasattr(type(value), "__get__") and not (inspect.isclass(value) and value.__name__ == name)


def _is_coroutine(value: Any) -> bool:
    if not inspect.isfunction(value):
        return False
    function = inspect.unwrap(value)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _near_attribute(name: str, known: Iterable[str]) -> str | None:
    """Return the attribute that `name` was probably meant to be, or None."""
    near = get_close_matches(name, [one for one in known if len(one) >= _SHORTEST], n=1, cutoff=_ALIKE)
    return near[0] if near and not _is_other_word(name, near[0]) else None


def _is_other_word(name: str, near: str) -> bool:
    """Return whether `name` differs at its start or end, as stable and owner do from table and owned."""
    return name.endswith((near, near[1:])) or (len(name) == len(near) and name[:-1] == near[:-1])


def _near_method(name: str, known: Iterable[str]) -> str | None:
    """Return the method whose name differs by one letter, or by two that are swapped, or None."""
    return next((one for one in known if _is_typing_error(name, one)), None)


def _is_typing_error(name: str, meant: str) -> bool:
    start = _shared(name, meant)
    end = _shared(name[start:][::-1], meant[start:][::-1])
    wrong, right = name[start : len(name) - end], meant[start : len(meant) - end]
    if len(wrong) == len(right) == 2:
        return wrong == right[::-1]
    if len(meant) < _SHORTEST or max(len(wrong), len(right)) != 1:
        return False
    return not ((start == 0 and wrong) or (end == 0 and wrong in _ENDINGS))


def _shared(one: str, other: str) -> int:
    """Return the length of the common prefix."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
