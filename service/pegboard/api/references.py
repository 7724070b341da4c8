"""Checks of references: a client may refer only to items that exist and that the client can see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pegboard import errors
from pegboard.api.backend import backend_of
from pegboard.api.context import Context, derive
from pegboard.errors import ApiError, ErrorDetail
from pegboard.postgres import database

References = Mapping[str, tuple[str, str]]
"""The JSON name and the target resource of each reference field, by the field's attribute."""


def is_set(references: References, item: Mapping[str, Any]) -> bool:
    """Return whether an item has any reference to check."""
    for attribute in references:  # noqa: SIM110 - a generator takes three times as long
        if item.get(attribute) is not None:
            return True
    return False


async def check(
    context: Context,
    references: References,
    resources: Callable[[str], Any],
    items: Sequence[Mapping[str, Any]],
    *,
    indexed: bool = False,
    check_missing: bool = False,
) -> None:
    """Raise `ApiError` 422 with a pointer to every invalid reference; with `indexed`, it begins with the item's index.

    References to items hidden from the client are always checked. References to missing items are checked only if there
    are hidden ones, or with `check_missing`: otherwise, the foreign keys check them when the items are written.
    """
    invalid = {} if check_missing else await _invalid_ids(context, references, resources, items, dangling=False)
    if check_missing or any(invalid.values()):
        invalid = await _invalid_ids(context, references, resources, items, dangling=True)
    details = [
        ErrorDetail(
            errors.InvalidValue.code, database.NO_SUCH_ITEM, errors.pointer((index, field) if indexed else (field,))
        )
        for index, item in enumerate(items)
        for attribute, (field, _) in references.items()
        if str(item.get(attribute)) in invalid.get(attribute, ())
    ]
    if details:
        raise errors.InvalidValue(details=tuple(details))


async def _invalid_ids(
    context: Context,
    references: References,
    resources: Callable[[str], Any],
    items: Sequence[Mapping[str, Any]],
    *,
    dangling: bool,
) -> dict[str, set[str]]:
    """Return, by attribute, the referenced ids that are dangling, or else those that are hidden from the client."""
    invalid = {}
    # Another resource may read items in it.
    context = derive(context, context.query)
    for attribute, (_, name) in references.items():
        ids = {str(item[attribute]) for item in items if item.get(attribute) is not None}
        try:
            if ids:
                target = resources(name)
                find = target.dangling_ids if dangling else backend_of(target).hidden_ids
                invalid[attribute] = await find(context, ids)
        except ApiError:
            # Its plugin is unavailable: the foreign key still applies, and no client can read the item.
            continue
    return invalid
