"""What an operation is: a POST with a meaning of its own, declared by the method that does it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

from pegboard.schema.schema import Schema

Function = TypeVar("Function", bound=Callable[..., Any])
Response = type[Schema] | Literal["item"] | None

_MARK = "_pegboard_operation"


@dataclass(frozen=True, slots=True)
class Operation:
    """Describe an operation: where it stands, what it takes and what it answers with.

    `response` is a schema, `"item"` for one of the resource's own, or None for nothing (204).
    """

    name: str
    on: str
    request: type[Schema] | None
    response: Response
    text: str

    @property
    def summary(self) -> str:
        """Return the first line of the docstring, or the name where there is none."""
        return self.text.partition("\n")[0].rstrip(".") or self.name.replace("_", " ").capitalize()


@overload
def operation(function: Function, /) -> Function: ...


@overload
def operation(
    *,
    on: Literal["item", "collection"] = "item",
    request: type[Schema] | None = None,
    response: Response = "item",
) -> Callable[[Function], Function]: ...


def operation(
    function: Any = None,
    /,
    *,
    on: str = "item",
    request: type[Schema] | None = None,
    response: Response = "item",
) -> Any:
    """Declare a coroutine method of a resource as an operation, which answers to a POST and has a grant of its own.

    On an item, `async def archive(self, context, identity, data)` is `POST /NAME/{id}/archive`; on the collection,
    `async def merge(self, context, data)` is `POST /NAME/merge`; the grants are `NAME:archive` and `NAME:merge`. `data`
    is what the schema `request` loaded, and empty without one: then no body is needed. What the method returns is
    an item, unless `response` says that it is what another schema dumps, or None for nothing (204). It runs in one
    transaction, on an item with this locked, and raises `ApiError` to refuse: then nothing is done.

    Raises `TypeError` where it does not stand above a function.
    """

    def declare(method: Function) -> Function:
        if not inspect.isfunction(method):
            raise TypeError(f"@operation decorates a method, not {method!r}")
        text = inspect.getdoc(method) or ""
        setattr(method, _MARK, Operation(method.__name__, on, request, response, text))
        return method

    return declare if function is None else declare(function)


def operations(resource: type) -> dict[str, Operation]:
    """Return the operations that a class declares and inherits; one that is set to None is there no more."""
    found: dict[str, Operation] = {}
    for parent in reversed(resource.__mro__):
        for name, value in vars(parent).items():
            declared = getattr(value, _MARK, None)
            if isinstance(declared, Operation):
                found[name] = declared
            elif value is None:
                found.pop(name, None)
    return found


def is_ours(parent: type) -> bool:
    """Tell whether a class is the service's own, and no author's."""
    return parent is object or parent.__module__.partition(".")[0] == "pegboard"
