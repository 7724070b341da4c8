"""What the class of a resource declares, read by the service."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pegboard.api import operation
from pegboard.api.actions import COLLECTION_ACTIONS, ITEM_ACTIONS
from pegboard.api.operation import Operation
from pegboard.http.request import VERBS
from pegboard.query import mapping
from pegboard.query.existing import ExistingTable, key_column
from pegboard.query.query import Rules
from pegboard.schema.column import Column
from pegboard.schema.ddl import ID, Index, TableSpec

# A resource is its class; `Any`, as only classes of tables have the attributes of tables.
Declared = Any


def actions(resource: Declared) -> frozenset[str]:
    """Return the names of the implemented actions."""
    names = {*COLLECTION_ACTIONS.values(), *ITEM_ACTIONS.values()}
    return frozenset(name for name in names if callable(getattr(resource, name, None)))


def verbs(resource: Declared) -> tuple[str, ...]:
    """Return the declared verbs, in their standard order; by default, those whose actions are implemented."""
    if resource.verbs is not None:
        return tuple(verb for verb in VERBS if verb in resource.verbs)
    implemented = actions(resource)
    return tuple(
        verb
        for verb in VERBS
        if implemented.intersection(table[verb] for table in (COLLECTION_ACTIONS, ITEM_ACTIONS) if verb in table)
    )


def public_verbs(resource: Declared) -> tuple[str, ...]:
    """Return the verbs that require no credentials; GET includes HEAD."""
    public = resource.public
    return tuple(verb for verb in verbs(resource) if verb in public or (verb == "HEAD" and "GET" in public))


def operations(resource: Declared) -> Mapping[str, Operation]:
    """Return the declared operations by name."""
    return operation.operations(resource)


def text(resource: Declared) -> str:
    """Return the docstring."""
    return (inspect.getdoc(resource) or "") if resource.__doc__ else ""


def summary(resource: Declared) -> str:
    """Return the first line of the docstring."""
    return text(resource).partition("\n")[0]


def existing_table(resource: Declared) -> ExistingTable | None:
    """Return the declaration of an existing table that differs from the service's own, or None."""
    table = getattr(resource, "table", None)
    return table if isinstance(table, ExistingTable) else None


def has_uuids(resource: Declared) -> bool:
    """Return whether the ids are UUIDs, which is the case unless the resource overrides `parse_id`."""
    existing = existing_table(resource)
    return operation.is_core_class(_owner(resource, "parse_id")) and (existing is None or existing.key_type == "uuid")


def _owner(resource: type, name: str) -> type:
    """Return the class that defines a member."""
    return next(parent for parent in resource.__mro__ if name in vars(parent))


def overrides(resource: Declared, *names: str) -> bool:
    """Return whether an author's class overrides one of the members."""
    return not all(operation.is_core_class(_owner(resource, name)) for name in names)


def columns(resource: Declared) -> tuple[Column, ...]:
    """Return the columns of the fields that items have."""
    existing = existing_table(resource)
    key = key_column(existing) if existing else ID if has_uuids(resource) else mapping.NAME
    return mapping.columns(resource.schema(), existing.without if existing else (), key)


def rules(resource: Declared) -> Rules:
    """Return the rules for queries of the resource; raises `ValueError` for a field that is a query parameter."""
    schema = resource.schema()
    return Rules(
        tuple(_as_compared(resource)),
        _optional(resource.filterable),
        _optional(resource.sortable),
        expandable=tuple(mapping.references(schema)),
        computed=mapping.computed(schema),
        searchable=bool(getattr(resource, "search_fields", ())),
        default_limit=resource.default_limit,
        max_limit=resource.max_limit,
    )


def _as_compared(resource: Declared) -> Iterator[Column]:
    """Yield the columns with what the comparisons of each ignore."""
    uniques = [unique for unique in getattr(resource, "unique", ()) if unique.ignore_case]
    for column in columns(resource):
        ignores_case = column.is_text and any(column.name in unique.columns for unique in uniques)
        ignores_accents = column.field in resource.ignore_accents
        yield replace(column, ignores_case=ignores_case, ignores_accents=ignores_accents)


def _optional(names: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def table_spec(resource: Declared, name: str) -> TableSpec:
    """Return the declared table; raises `ValueError` if it is impossible."""
    own = mapping.table_columns(resource.schema())
    indexes = tuple(Index(tuple(part.strip() for part in index.split(","))) for index in resource.indexes)
    existing = existing_table(resource)
    qualified_name = existing.table if existing else str(resource.table or f"{name}.{name}")
    schema, _, table = qualified_name.rpartition(".")
    search = tuple(resource.search_fields)
    spec = TableSpec(schema, table, own, tuple(resource.unique), indexes, search, resource.owned)
    return replace(spec, content=True) if resource._pegboard_stores_content else spec
