"""What items refer to: a resource that hides an item from a client lets it refer to that as little as to nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pegboard import errors
from pegboard.api.context import Context
from pegboard.api.resource import Resource
from pegboard.errors import ApiError, ErrorDetail
from pegboard.postgres import database

References = Mapping[str, tuple[str, str]]
"""What JSON calls each field that refers to an item, and the resource of that, by the field's attribute."""


def is_set(references: References, item: Mapping[str, Any]) -> bool:
    """Tell whether an item refers to anything; one that does not need not be checked."""
    for attribute in references:  # noqa: SIM110 - a generator takes thrice the time
        if item.get(attribute) is not None:
            return True
    return False


async def check(
    context: Context,
    references: References,
    resources: Callable[[str], Resource],
    items: Sequence[Mapping[str, Any]],
    *,
    indexed: bool = False,
    whole: bool = False,
) -> None:
    """Raise `ApiError` 422 that points at every reference that leads nowhere; `indexed` ones begin with its place.

    What the client must not know of is looked for; what is not there only where something was found, or with `whole`:
    else the foreign keys look for it as the items are written.
    """
    bad = {} if whole else await _leading_nowhere(context, references, resources, items, "hidden")
    if whole or any(bad.values()):
        bad = await _leading_nowhere(context, references, resources, items, "missing")
    faults = [
        ErrorDetail(
            errors.InvalidValue.code, database.NO_SUCH_ITEM, errors.pointer((index, field) if indexed else (field,))
        )
        for index, item in enumerate(items)
        for attribute, (field, _) in references.items()
        if str(item.get(attribute)) in bad.get(attribute, ())
    ]
    if faults:
        raise errors.InvalidValue(details=tuple(faults))


async def _leading_nowhere(
    context: Context,
    references: References,
    resources: Callable[[str], Resource],
    items: Sequence[Mapping[str, Any]],
    asked: Literal["hidden", "missing"],
) -> dict[str, set[str]]:
    """Return the ids, by the attribute that holds them, that the resources referred to say are `asked`."""
    found = {}
    for attribute, (_, name) in references.items():
        ids = {str(item[attribute]) for item in items if item.get(attribute) is not None}
        try:
            found[attribute] = await getattr(resources(name), asked)(context, ids) if ids else ids
        except ApiError:
            # Its plugin is down: the foreign key is left, and nobody is shown the item.
            continue
    return found
