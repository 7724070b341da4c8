"""Checks of the operations of a resource."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pegboard.api.actions import COLLECTION_ACTIONS, ITEM_ACTIONS
from pegboard.api.operation import Operation, is_core_class, operations
from pegboard.api.resource import Resource
from pegboard.http.request import VERBS
from pegboard.schema.schema import Schema

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "item": ("self", "context", "id", "data"),
    "collection": ("self", "context", "data"),
}
_RESERVED: Mapping[str, str] = {
    **dict.fromkeys((*map(str.lower, VERBS), "options"), "a verb"),
    **dict.fromkeys((*COLLECTION_ACTIONS.values(), *ITEM_ACTIONS.values()), "an action"),
    "me": "the client's own item",
    "any": "the grant for items of other owners",
}
"""Names that an operation cannot have, and what they already refer to."""


def declared(found: type[Resource]) -> Iterator[str]:
    """Check the operations of a resource."""
    for name, operation in operations(found).items():
        for problem in _problems(found, name, operation):
            yield f"the operation {name} {problem}"


def _problems(resource: type, name: str, operation: Operation) -> Iterator[str]:
    if not _NAME.fullmatch(name) or name != operation.name:
        yield "has an invalid name: use 1 to 40 characters of a-z, 0-9 and _, starting with a letter"
    if name in _RESERVED or any(name in vars(parent) for parent in resource.__mro__ if is_core_class(parent)):
        yield f"has the same name as {_RESERVED.get(name, 'a member of every resource')}: rename it"
    if operation.on not in _PARAMETERS:
        yield f'has on={operation.on!r}: use on="item" or on="collection"'
    parameters = _PARAMETERS[operation.on]
    method = getattr(resource, name)
    if not inspect.iscoroutinefunction(method):
        yield f"must be a coroutine: write async def {name}"
    try:
        inspect.signature(method).bind(*parameters)
    except TypeError:
        yield f"has the wrong parameters for on={operation.on!r}: write async def {name}({', '.join(parameters)})"
    for part, schema in (("request", operation.request), ("response", operation.response)):
        if schema not in (None, "item")[: 1 + (part == "response")] and not _is_schema(schema):
            yield f"has {schema!r} for its {part}: use a subclass of pegboard.Schema"
    if operation.on == "item" and not hasattr(resource, "retrieve"):
        yield "is on an item, which requires the action retrieve: write async def retrieve(self, context, id)"


def _is_schema(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, Schema)
