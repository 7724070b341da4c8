"""Checks of the fields that queries and clients may use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from difflib import get_close_matches

from pegboard.api import declared
from pegboard.api.resource import Resource
from pegboard.query import mapping, operators
from pegboard.rendering import short
from pegboard.schema.column import Column

_MOST_NAMES = 10  # listed in a message


def me_writable(found: type[Resource]) -> Iterator[str]:
    """Check the fields that clients may change of their own item."""
    if found.me_writable is not None and "PATCH" not in found.me:
        yield "me_writable is set, but me does not contain PATCH: add it, or remove me_writable"
    names = [mapping.name_of(field, name) for name, field in found.schema().load_fields.items()]
    yield from unknown("me_writable", found.me_writable or (), names)


def filters_and_sorts(found: type[Resource]) -> Iterator[str]:
    """Check that what filters and sorts by a field is declared of has a column that allows it."""
    columns = _columns(found)
    for attribute, doing, allows in (
        ("filterable", "filtered", lambda column: bool(operators.of(column))),
        ("sortable", "sorted", lambda column: column.is_sortable),
        ("ignore_accents", "filtered by a part of its text", lambda column: column.is_text),
    ):
        for name in getattr(found, attribute) or ():
            yield from unknown(attribute, (name,), columns)
            yield from unsuitable(attribute, columns[name], doing, allows)


def filter_names(found: type[Resource]) -> Iterator[str]:
    """Check that no field has the name of a filter."""
    columns = _columns(found)
    filters = {
        f"{name}__{operator.name}": name for name, column in columns.items() for operator in operators.of(column)
    }
    for name in columns:
        if name in filters:
            yield f"the field {name} has the name of a filter of the field {filters[name]}: rename it"


def _columns(found: type[Resource]) -> dict[str, Column]:
    return {column.field: column for column in declared.columns(found)}


def unsuitable(attribute: str, column: Column, doing: str, allows: Callable[[Column], bool]) -> Iterator[str]:
    """Check that a column can be read, and that it allows what `attribute` declares."""
    if not column.readable:
        yield f"{attribute} names {column.field}, which is write-only: remove it"
    elif not allows(column):
        yield f"{attribute} names {column.field}, which cannot be {doing}: remove it"


def unknown(attribute: str, names: Iterable[str], known: Collection[str]) -> Iterator[str]:
    """Check that all names are known; a problem names the one that was probably meant."""
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            more = ["..."] if len(known) > _MOST_NAMES else []
            hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join([*known][:_MOST_NAMES] + more)}"
            yield f"{attribute} names {short(name)}, which is not a field of the schema: {hint}"
