"""What authors write in place of something of ours: whether it can be used as the service uses that."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partialmethod, singledispatchmethod
from types import UnionType
from typing import Any, get_origin, get_type_hints

from pegboard.api import operation
from pegboard.api.content_resource import ContentResource
from pegboard.api.resource import COLLECTION_ACTIONS, CONTENT_ACTIONS, ITEM_ACTIONS, Resource
from pegboard.api.table import TableResource
from pegboard.rendering import short

_VERBS_ACTIONS = frozenset((*COLLECTION_ACTIONS.values(), *ITEM_ACTIONS.values()))
_LATE = ("mistake", "rules")
"""The classmethods that only a declaration which is sound otherwise can answer."""

_WRAPPERS = (classmethod, partialmethod, singledispatchmethod)


def _is_plain(function: Any) -> bool:
    return not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function) or _yields(function))


def _yields(function: Any) -> bool:
    return inspect.isgeneratorfunction(function)


def _streams(function: Any) -> bool:
    return inspect.isasyncgenfunction(function) or _is_plain(function)


def _manages(function: Any) -> bool:
    # What `contextlib.contextmanager` makes is plain, but no async context manager.
    return _is_plain(function) and not _yields(inspect.unwrap(function))


@dataclass(frozen=True, slots=True)
class Kind:
    """Say what something of ours is, what fits in its place, how that begins, and how what does not fit is mended."""

    name: str
    fits: Callable[[Any], bool]
    head: str
    cure: str


DATA = Kind("attribute", lambda _: True, "", "")
METHOD = Kind("method", _is_plain, "def", "must be a plain method, not a coroutine or a generator: write def {}")
CLASSMETHOD = Kind(
    "classmethod",
    _is_plain,
    "@classmethod def",
    "must be a classmethod: write @classmethod above def {}, or rename it",
)
COROUTINE = Kind("coroutine", inspect.iscoroutinefunction, "async def", "must be a coroutine: write async def {}")
STREAM = Kind(
    "async generator", _streams, "async def", "must be an async generator: write async def {}, with a yield in it"
)
MANAGER = Kind(
    "async context manager",
    _manages,
    "@contextlib.asynccontextmanager async def",
    "must be a context manager: write @contextlib.asynccontextmanager above it",
)


def mistake(found: type[Resource]) -> str | None:
    """Return what stands in the place of something of ours and cannot do its work, and how to mend it."""
    for name in instance_names():
        if any(name in vars(parent) for parent in found.__mro__ if not operation.is_ours(parent)):
            return f"the service sets the attribute {name} on each resource: rename yours"
    known = ours(found)
    overridden = sorted(known.keys() & _overridden(found))
    for name in overridden:
        fault = _form_mistake(found, name, known[name])
        if fault is not None:
            return fault
    for name in overridden:
        if kind_of(known[name]) is CLASSMETHOD and name not in _LATE and not _parameters(known[name]):
            fault = result_mistake(found, name, getattr(found, name)())
            if fault is not None:
                return fault
    return None


def result_mistake(found: type[Resource], name: str, value: Any) -> str | None:
    """Return what is wrong with `value`, which a classmethod that is called like one of ours returned."""
    method = ours(found)[name].__func__
    hint = get_type_hints(method)["return"]
    origin = get_origin(hint)
    if isinstance(value, hint if origin in (None, UnionType) else origin):
        return None
    return f"the classmethod {name} returned {short(value)}: it must return {method.__annotations__['return']}"


def ours(found: type[Resource]) -> Mapping[str, Any]:
    """Return what the service reads or calls in a resource like `found`, as it is without the author, by its name."""
    named = {name: vars(TableResource)[name] for name in (*_VERBS_ACTIONS, "create_all")}
    if found.content is not None:
        named |= {name: vars(ContentResource)[name] for name in CONTENT_ACTIONS.values()}
    for parent in reversed(found.__mro__):
        if operation.is_ours(parent):
            named |= dict.fromkeys(inspect.get_annotations(parent)) | dict(vars(parent))
    return {name: value for name, value in named.items() if not name.startswith("_")}


def instance_names() -> tuple[str, ...]:
    """Return the names of what the service sets on each resource, and on no class."""
    hints = inspect.get_annotations(Resource)
    return tuple(
        name for name, hint in hints.items() if not str(hint).startswith("ClassVar") and not hasattr(Resource, name)
    )


def kind_of(value: Any) -> Kind:
    """Return of which kind something of ours is."""
    if isinstance(value, classmethod):
        return CLASSMETHOD
    if not inspect.isfunction(value):
        return DATA
    if inspect.iscoroutinefunction(value):
        return COROUTINE
    if inspect.unwrap(value) is not value:
        return MANAGER
    return STREAM if str(value.__annotations__.get("return")).startswith("Async") else METHOD


def _overridden(found: type) -> set[str]:
    """Return the names whose values are an author's."""
    names: dict[str, type] = {}
    for parent in reversed(found.__mro__):
        names |= dict.fromkeys(vars(parent), parent)
    return {name for name, parent in names.items() if not operation.is_ours(parent)}


def _form_mistake(found: type[Resource], name: str, own: Any) -> str | None:
    kind = kind_of(own)
    if kind is DATA:
        return None
    static = inspect.getattr_static(found, name)
    if static is None and name in CONTENT_ACTIONS.values():
        # Where it is missed, that is told of the verb which calls it.
        return None
    function = _bound(static, found)
    if not callable(function) or inspect.isclass(function):
        return f"the attribute {name} hides the {kind.name} that the service calls: rename it"
    if name in _VERBS_ACTIONS:
        return None
    if not kind.fits(function) or (kind is CLASSMETHOD and not isinstance(static, classmethod | staticmethod)):
        return f"{name} {kind.cure.format(name)}"
    if _takes(function, _parameters(own)):
        return None
    written = ", ".join(("cls" if kind is CLASSMETHOD else "self", *_written(_parameters(own))))
    return f"{name} has the wrong parameters: write {kind.head} {name}({written})"


def _bound(static: Any, found: type) -> Any:
    """Return what an instance has where its class has `static`, without running a property."""
    is_method = hasattr(type(static), "__get__") and (callable(static) or isinstance(static, _WRAPPERS))
    return static.__get__(object(), found) if is_method else static


def _parameters(own: Any) -> list[inspect.Parameter]:
    """Return what one of our methods is given, beside the resource itself."""
    function = own.__func__ if isinstance(own, classmethod) else own
    return list(inspect.signature(function).parameters.values())[1:]


def _takes(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> bool:
    named = {one.name: None for one in parameters if one.kind is one.KEYWORD_ONLY}
    try:
        inspect.signature(function).bind(*([None] * (len(parameters) - len(named))), **named)
    except TypeError:
        return False
    except ValueError:
        # What is written in C does not say what it takes.
        return True
    return True


def _written(parameters: list[inspect.Parameter]) -> list[str]:
    names = [one.name for one in parameters if one.kind is not one.KEYWORD_ONLY]
    named = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    return [*names, "*", *named] if named else names
