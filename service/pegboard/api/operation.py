"""Operations: POST endpoints in addition to the standard actions, declared by decorating a method."""

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
    """Describe an operation: what it applies to, its request and its response.

    `response` is a schema, `"item"` for an item of the resource, or None for an empty response (204).
    """

    name: str
    on: str
    request: type[Schema] | None
    response: Response
    text: str

    @property
    def summary(self) -> str:
        """Return the first line of the docstring, or the name if there is none."""
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
    """Declare a coroutine method of a resource as an operation, called by POST and with a grant of its own.

    On an item, `async def archive(self, context, id, data)` is `POST /NAME/{id}/archive`; on the collection,
    `async def merge(self, context, data)` is `POST /NAME/merge`. The grants are `NAME:archive` and `NAME:merge`. `data`
    is what the schema `request` loaded; without a schema it is empty, and no body is needed. The method returns an
    item, or an object for the schema `response` to dump; if `response` is None, the response is empty (204). It runs
    in one transaction, in which the item, if any, is locked. To reject the request, it raises `ApiError`, which rolls
    the transaction back.

    Raises `TypeError` if it does not decorate a function.
    """

    def declare(method: Function) -> Function:
        if not inspect.isfunction(method):
            raise TypeError(f"@operation decorates a method, not {method!r}")
        text = inspect.getdoc(method) or ""
        setattr(method, _MARK, Operation(method.__name__, on, request, response, text))
        return method

    return declare if function is None else declare(function)


def operations(resource: type) -> dict[str, Operation]:
    """Return the operations that a class declares or inherits, except for those it sets to None."""
    found: dict[str, Operation] = {}
    for parent in reversed(resource.__mro__):
        for name, value in vars(parent).items():
            declared = getattr(value, _MARK, None)
            if isinstance(declared, Operation):
                found[name] = declared
            elif value is None:
                found.pop(name, None)
    return found


def is_core_class(parent: type) -> bool:
    """Return whether a class is part of the service, not of a plugin."""
    return parent is object or parent.__module__.partition(".")[0] == "pegboard"
