"""The table of all checks of the declaration of a resource."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from pegboard.api.resource import Resource
from pegboard.hosting.checks import (
    actions,
    attributes,
    columns,
    content,
    hooks,
    operations,
    overrides,
    queries,
    schemas,
    spelling,
    tables,
)

Check = Callable[[type[Resource], str], Iterator[str]]
"""A check of a class, and of the name of its entry point."""


def _of_class(check: Callable[[type[Resource]], Iterator[str]]) -> Check:
    return lambda found, name: check(found)


CHECKS: tuple[Check, ...] = (
    *map(
        _of_class,
        (
            spelling.attributes,
            spelling.methods,
            schemas.item,
            actions.verbs,
            operations.declared,
            overrides.service_attributes,
            overrides.signatures,
            overrides.constructor,
            actions.signatures,
            actions.implemented,
            actions.unused,
            attributes.content,
            attributes.settings,
            tables.existing,
            hooks.other_schemas,
            attributes.docstring,
            attributes.booleans,
            attributes.limits,
            attributes.names,
            attributes.former_names,
            attributes.error_codes,
            queries.me_writable,
            queries.filters_and_sorts,
            queries.filter_names,
            tables.name,
            tables.constraint_errors,
            tables.uniques,
            tables.indexes,
            tables.search_fields,
            actions.creates_by_put,
            tables.columns,
            columns.kept,
            tables.existing_columns,
            tables.owned,
            tables.index_lengths,
            actions.public_and_me,
            content.fields,
            content.actions,
        ),
    ),
    tables.self_references,
    _of_class(overrides.derived),
)
"""Each yields problems: what is wrong and how to fix it. Each may rely on those before it having found none."""


def problem(found: Any, name: str = "") -> str | None:
    """Return the first problem of what the entry point `name` refers to, with its fix; None if there is none.

    Raises what the author's code raises.
    """
    if not (inspect.isclass(found) and issubclass(found, Resource)):
        hint = ", not an instance: name the class" if isinstance(found, Resource) else ""
        return f"an entry point of pegboard.resources must name a subclass of pegboard.Resource{hint}"
    return next(chain.from_iterable(check(found, name) for check in CHECKS), None)
