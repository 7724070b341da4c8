"""Checks of members that override those of the base classes: whether the service can use them instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partialmethod, singledispatchmethod
from typing import Any

from pegboard.api import declared, operation
from pegboard.api.actions import COLLECTION_ACTIONS, CONTENT_ACTIONS, ITEM_ACTIONS
from pegboard.api.content_resource import ContentResource
from pegboard.api.resource import Resource
from pegboard.api.table import TableResource

_VERBS_ACTIONS = frozenset((*COLLECTION_ACTIONS.values(), *ITEM_ACTIONS.values()))
_WRAPPERS = (classmethod, partialmethod, singledispatchmethod)


def _is_plain(function: Any) -> bool:
    return not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function) or _yields(function))


def _yields(function: Any) -> bool:
    return inspect.isgeneratorfunction(function)


def _streams(function: Any) -> bool:
    return inspect.isasyncgenfunction(function) or _is_plain(function)


def _manages(function: Any) -> bool:
    # The result of `contextlib.contextmanager` is a plain function, but not an async context manager.
    return _is_plain(function) and not _yields(inspect.unwrap(function))


@dataclass(frozen=True, slots=True)
class Kind:
    """Describe a kind of member: which overrides it accepts, the prefix of its definition, and the fix for others."""

    name: str
    accepts: Callable[[Any], bool]
    prefix: str
    fix: str


DATA = Kind("attribute", lambda _: True, "", "")
METHOD = Kind("method", _is_plain, "def", "must be a plain method, not a coroutine or a generator: write def {}")
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


def service_attributes(found: type[Resource]) -> Iterator[str]:
    """Check that no attribute has the name of one that the service sets on the instance."""
    for name in sorted(_overridden(found)):
        if name == "settings":
            yield "the service sets the attribute settings on each resource: write settings_schema = ... for its schema"
        elif name in instance_names() or name.startswith("_pegboard"):
            yield f"the service sets the attribute {name} on each resource: rename yours"


def signatures(found: type[Resource]) -> Iterator[str]:
    """Check that each override can be called like the method that it overrides."""
    known = service_members(found)
    for name in sorted(known.keys() & _overridden(found)):
        yield from _signature_problems(found, name, known[name])


def constructor(found: type[Resource]) -> Iterator[str]:
    """Check that the service can create the resource."""
    if not _can_be_called(_bound(inspect.getattr_static(found, "__init__"), found), []):
        yield "__init__ has the wrong parameters: write def __init__(self)"
    if not _is_plain(found.__init__):
        yield "__init__ must be a plain method: write def __init__(self), and start the rest in lifespan"


def derived(found: type[Resource]) -> Iterator[str]:
    """Derive what the service needs of a declaration, which finds the remaining problems."""
    try:
        declared.rules(found)
        if issubclass(found, TableResource):
            declared.table_spec(found, "it")
    except ValueError as error:
        yield str(error)


def service_members(found: type[Resource]) -> Mapping[str, Any]:
    """Return the members of the base classes of `found` that the service reads or calls, by name."""
    named = {name: vars(TableResource)[name] for name in _VERBS_ACTIONS}
    if found.content is not None:
        named |= {name: vars(ContentResource)[name] for name in CONTENT_ACTIONS.values()}
    for parent in reversed(found.__mro__):
        if operation.is_core_class(parent):
            named |= dict.fromkeys(inspect.get_annotations(parent)) | dict(vars(parent))
    return {name: value for name, value in named.items() if not name.startswith("_")}


def instance_names() -> tuple[str, ...]:
    """Return the names of the attributes that the service sets on instances only."""
    hints = inspect.get_annotations(Resource)
    return tuple(
        name for name, hint in hints.items() if not str(hint).startswith("ClassVar") and not hasattr(Resource, name)
    )


def kind_of(value: Any) -> Kind:
    """Return the kind of a member of a base class."""
    if not inspect.isfunction(value):
        return DATA
    if inspect.iscoroutinefunction(value):
        return COROUTINE
    if inspect.unwrap(value) is not value:
        return MANAGER
    return STREAM if str(value.__annotations__.get("return")).startswith("Async") else METHOD


def _overridden(found: type) -> set[str]:
    """Return the names that an author's class defines."""
    names: dict[str, type] = {}
    for parent in reversed(found.__mro__):
        names |= dict.fromkeys(vars(parent), parent)
    return {name for name, parent in names.items() if not operation.is_core_class(parent)}


def _signature_problems(found: type[Resource], name: str, own: Any) -> Iterator[str]:
    kind = kind_of(own)
    static = inspect.getattr_static(found, name)
    # A missing content action is reported with the verb that needs it.
    if kind is DATA or (static is None and name in CONTENT_ACTIONS.values()):
        return
    if static is None and name in _VERBS_ACTIONS:
        yield f"{name} is set to None: set verbs to those that the resource has instead"
    function = _bound(static, found)
    if not callable(function) or inspect.isclass(function):
        yield f"the attribute {name} hides the {kind.name} that the service calls: rename it"
    if name in _VERBS_ACTIONS:
        return
    if not kind.accepts(function):
        yield f"{name} {kind.fix.format(name)}"
    if not _can_be_called(function, _parameters(own)):
        written = ", ".join(("self", *_written(_parameters(own))))
        yield f"{name} has the wrong parameters: write {kind.prefix} {name}({written})"


def _bound(static: Any, found: type) -> Any:
    """Return the attribute of an instance whose class has `static`, without running a property."""
    is_method = hasattr(type(static), "__get__") and (callable(static) or isinstance(static, _WRAPPERS))
    return static.__get__(object(), found) if is_method else static


def _parameters(own: Any) -> list[inspect.Parameter]:
    """Return the parameters of a method, without `self`."""
    return list(inspect.signature(own).parameters.values())[1:]


def _can_be_called(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> bool:
    named = {one.name: None for one in parameters if one.kind is one.KEYWORD_ONLY}
    try:
        inspect.signature(function).bind(*([None] * (len(parameters) - len(named))), **named)
    except TypeError:
        return False
    except ValueError:
        # The signature of a function written in C is unknown.
        return True
    return True


def _written(parameters: list[inspect.Parameter]) -> list[str]:
    names = [one.name for one in parameters if one.kind is not one.KEYWORD_ONLY]
    named = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    return [*names, "*", *named] if named else names
