"""Names in an author's class that are nearly ours, and so do nothing."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
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
"""What makes another word of a verb, as in `updated` and `lists`."""


def mistake(found: type[Resource]) -> str | None:
    """Return which name in the class of an author is nearly one of ours."""
    known = overrides.ours(found)
    settable = [
        name for name in known if overrides.kind_of(known[name]) is DATA and name not in overrides.instance_names()
    ]
    called = [
        name
        for name, value in overrides.ours(ContentResource).items()
        if overrides.kind_of(value) in (COROUTINE, STREAM, MANAGER)
    ]
    for name, value in _written(found):
        if name in known or name in called:
            continue
        near = _near_attribute(name, settable) if _is_attribute(name, value) else None
        if near is not None:
            return f"{name} is not an attribute of a resource: did you mean {near}? If not, rename it."
        near = _near_method(name, called) if _is_coroutine(value) else None
        if near is not None:
            return f"{name} is not a method of a resource: did you mean {near}? If not, rename it."
    return None


def _written(found: type) -> Iterable[tuple[str, Any]]:
    """Yield what authors wrote under public names, but for operations."""
    for parent in found.__mro__:
        if not operation.is_ours(parent):
            declared = operation.operations(parent)
            yield from ((n, value) for n, value in vars(parent).items() if not n.startswith("_") and n not in declared)


def _is_attribute(name: str, value: Any) -> bool:
    """Tell whether a value is neither method nor property nor a class that is defined there."""
    return not hasattr(type(value), "__get__") and not (inspect.isclass(value) and value.__name__ == name)


def _is_coroutine(value: Any) -> bool:
    if not inspect.isfunction(value):
        return False
    function = inspect.unwrap(value)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _near_attribute(name: str, known: Iterable[str]) -> str | None:
    """Return which of the names of attributes is meant by `name`; None for none."""
    near = get_close_matches(name, [one for one in known if len(one) >= _SHORTEST], n=1, cutoff=_ALIKE)
    return near[0] if near and not _is_other_word(name, near[0]) else None


def _is_other_word(name: str, near: str) -> bool:
    """Tell whether `name` differs at its beginning or its end, as stable and owner do from table and owned."""
    return name.endswith((near, near[1:])) or (len(name) == len(near) and name[:-1] == near[:-1])


def _near_method(name: str, known: Iterable[str]) -> str | None:
    """Return which of the names of methods `name` is but for one letter, or for two that changed places."""
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
    """Return how many letters two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
