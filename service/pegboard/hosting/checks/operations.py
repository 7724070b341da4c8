"""What can be wrong with the operations of a resource."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from pegboard.api.operation import Operation, is_ours, operations
from pegboard.schema.schema import Schema

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "item": ("self", "context", "identity", "data"),
    "collection": ("self", "context", "data"),
}
_TAKEN: Mapping[str, str] = {
    **dict.fromkeys(("get", "head", "post", "put", "patch", "delete", "options"), "a verb"),
    **dict.fromkeys(("list", "create", "create_all", "retrieve", "replace", "update", "delete"), "an action"),
    "me": "the client's own item",
    "any": "the grant for items of other owners",
}
"""What an operation cannot be called, and what is called so already."""


def mistake(resource: type) -> str | None:
    """Return what is wrong with the operations of a class, and how to mend it; None where they are sound."""
    for name, declared in operations(resource).items():
        wrong = _wrong(resource, name, declared)
        if wrong is not None:
            return f"the operation {name} {wrong}"
    return None


def _wrong(resource: type, name: str, declared: Operation) -> str | None:
    if not _NAME.fullmatch(name) or name != declared.name:
        return "has an invalid name: use 1 to 40 characters of a-z, 0-9 and _, starting with a letter"
    if name in _TAKEN or any(name in vars(parent) for parent in resource.__mro__ if is_ours(parent)):
        return f"has the same name as {_TAKEN.get(name, 'a member of every resource')}: rename it"
    parameters = _PARAMETERS.get(declared.on)
    if parameters is None:
        return f'is on {declared.on!r}: write on="item" or on="collection"'
    method = getattr(resource, name)
    if not inspect.iscoroutinefunction(method):
        return f"must be a coroutine: write async def {name}"
    try:
        inspect.signature(method).bind(*parameters)
    except TypeError:
        return f"is on the {declared.on}: write async def {name}({', '.join(parameters)})"
    for part, schema in (("request", declared.request), ("response", declared.response)):
        if schema not in (None, "item")[: 1 + (part == "response")] and not _is_schema(schema):
            return f"has {schema!r} for its {part}: use a subclass of pegboard.Schema"
    if declared.on == "item" and not hasattr(resource, "retrieve"):
        return "is on an item, which must be readable: write async def retrieve(self, context, identity) too"
    return None


def _is_schema(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, Schema)
