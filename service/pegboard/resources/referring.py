"""What items refer to: a resource that hides an item from a client lets it refer to that as little as to nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pegboard import errors
from pegboard.errors import ApiError, Fault
from pegboard.postgres import database
from pegboard.resources.resource import Context, Resource

References = Mapping[str, tuple[str, str]]
"""What JSON calls each field that refers to an item, and the resource of that, by the field's attribute."""


async def check(
    context: Context,
    references: References,
    resources: Callable[[str], Resource],
    items: Sequence[Mapping[str, Any]],
    *,
    indexed: bool = False,
) -> None:
    """Raise `ApiError` 422 that points at every id of a hidden item; `indexed` pointers begin with the item's place."""
    faults: list[Fault] = []
    for attribute, (field, name) in references.items():
        ids = {str(item[attribute]) for item in items if item.get(attribute) is not None}
        hidden = await _hidden(context, resources, name, ids) if ids else ids
        faults += [
            Fault(
                errors.INVALID.code,
                database.NO_SUCH_ITEM,
                errors.pointer((index, field) if indexed else (field,)),
            )
            for index, item in enumerate(items)
            if str(item.get(attribute)) in hidden
        ]
    if faults:
        raise ApiError(errors.INVALID, faults=tuple(faults))


async def _hidden(context: Context, resources: Callable[[str], Resource], name: str, ids: set[str]) -> set[str]:
    try:
        resource = resources(name)
    except ApiError:
        # Its plugin is down: the foreign key is left, and nobody is shown the item.
        return set()
    return await resource.hidden(context, ids)
