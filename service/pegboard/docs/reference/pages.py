"""The pages of the reference: what stands on each. The templates say how it is laid out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from pegboard.docs.reference import frame, samples
from pegboard.docs.reference.frame import STATES, Link, Site
from pegboard.docs.reference.manual import Field, Manual, Operation
from pegboard.docs.reference.prose import prose
from pegboard.hosting.discovery import Plugin, State
from pegboard.query.query import Rules

_OPERATORS = ("eq", "ne", "lt", "lte", "gt", "gte", "in", "prefix", "contains", "has", "isnull")

_OUTAGES: Mapping[State, str] = {
    State.FAILED: "The plugin could not be loaded, brought up to date or mounted. The others are not touched by it.",
    State.CONFLICT: "More than one distribution claims this name, so none of them serves.",
    State.DISABLED: "The plugin is installed, and the operator has left it out.",
}

_RANGES = (
    (10000, "The form of the request"),
    (11000, "Validation"),
    (12000, "The client"),
    (13000, "The resource"),
    (15000, "The service"),
    (20000, "Plugins"),
)
"""What the error codes from each number on are about."""


@dataclass(frozen=True, slots=True)
class Search:
    """Say what a field can be filtered by, and whether it can be sorted by."""

    name: str
    operators: tuple[str, ...]
    is_sorted: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """Hold what the page of a resource shows of one operation, and at which address it is."""

    operation: Operation
    address: str
    parameters: Sequence[Field]
    searches: Sequence[Search]
    commands: Sequence[samples.Command]
    response: samples.Response | None
    form: samples.Form


def overview(site: Site, texts: Sequence[str], values: Mapping[str, str], codes: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the page that tells what holds for every resource; the codes end it."""
    parts = [prose(Template(text).substitute(values), 2, anchored=True) for text in texts]
    sections = [Link(title, f"#{anchor}") for part in parts for anchor, title in part.sections]
    return frame.page(site, "", "Overview", sections, "overview.html", texts=parts, groups=list(_groups(codes)))


def resource(site: Site, plugin: Plugin, described: Manual, rules: Rules, text: str) -> bytes:
    """Return the page of one resource that serves."""
    operations = described.operations
    sections = [
        *([Link("Fields", "#fields")] if described.fields else []),
        *(Link(one.title, f"#{one.anchor}", verb=one.verb) for one in operations),
    ]
    return frame.page(
        site,
        plugin.name,
        plugin.name,
        sections,
        "resource.html",
        plugin=plugin,
        lead=prose(text, 2),
        item=_item(operations),
        fields=described.fields,
        entries=[_entry(site, one, rules) for one in operations],
    )


def outage(site: Site, plugins: Sequence[Plugin]) -> bytes:
    """Return the page of a name at which nothing serves."""
    name, state = plugins[0].name, plugins[0].state
    view = {"plugins": plugins, "state": STATES[state], "reason": _OUTAGES[state]}
    return frame.page(site, name, name, [], "outage.html", **view)


def _item(operations: Sequence[Operation]) -> str:
    """Return an example of an item, as one of the responses has it."""
    values = [one.success.value for one in operations if one.success and "{id}" in one.path]
    value = next((value for value in values if isinstance(value, Mapping)), None)
    return samples.pretty(value) if value else ""


def _entry(site: Site, one: Operation, rules: Rules) -> Entry:
    is_searched = any(field.name == "sort" or field.name in rules.filters for field in one.parameters)
    return Entry(
        one,
        site.prefix + one.path,
        [field for field in one.parameters if field.name not in rules.filters],
        list(_searches(rules)) if is_searched else [],
        samples.commands(site, one),
        samples.response(one),
        samples.form(one),
    )


def _searches(rules: Rules) -> Iterator[Search]:
    """Yield what each field can be filtered and sorted by."""
    operators: dict[str, list[str]] = {column.field: [] for column in rules.columns}
    for column, operator in rules.filters.values():
        operators[column.field].append(operator)
    for name, found in operators.items():
        if found or name in rules.sorts:
            shown = tuple(_operator(operator) for operator in _OPERATORS if operator in found)
            yield Search(name, shown, name in rules.sorts)


def _operator(operator: str) -> str:
    return "=" if operator == "eq" else f"__{operator}"


def _groups(codes: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    """Yield the error codes, range by range."""
    ends = [start for start, _ in _RANGES[1:]] + [10**9]
    for (start, title), end in zip(_RANGES, ends, strict=True):
        found = [one for one in codes if start <= one["code"] < end]
        if found:
            yield title, found
