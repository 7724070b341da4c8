"""The pages of the reference and their content, rendered by the templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from pegboard import error_codes
from pegboard.docs.reference import frame, samples
from pegboard.docs.reference.frame import STATES, Link, Site
from pegboard.docs.reference.manual import Field, Manual, Operation
from pegboard.docs.reference.prose import prose
from pegboard.hosting.discovery import Plugin, State
from pegboard.query.operators import OPERATORS
from pegboard.query.query import Rules

_OUTAGES: Mapping[State, str] = {
    State.FAILED: "The plugin could not be loaded, migrated or mounted. The other plugins are not affected.",
    State.CONFLICT: "Another plugin has the same name, former name or block of error codes.",
    State.DISABLED: "The plugin is installed, but the operator has disabled it.",
}

_CODE_GROUPS: Mapping[str, range] = {
    "The form of the request": error_codes.REQUEST,
    "Validation": error_codes.VALIDATION,
    "The client": error_codes.CLIENT,
    "The resource": error_codes.RESOURCE,
    "The service": error_codes.SERVICE,
    "Plugins": error_codes.PLUGINS,
}
"""The title of each group of error codes, and its codes."""


@dataclass(frozen=True, slots=True)
class Search:
    """Describe the filter operators of a field, and whether it can be sorted by."""

    name: str
    operators: tuple[str, ...]
    is_sorted: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """Hold what the page of a resource shows for one operation; `address` is its path with the prefix."""

    operation: Operation
    address: str
    parameters: Sequence[Field]
    searches: Sequence[Search]
    commands: Sequence[samples.Command]
    response: samples.Response | None
    form: samples.Form


def overview(site: Site, texts: Sequence[str], values: Mapping[str, str], codes: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the Overview, which applies to every resource and ends with the error codes."""
    parts = [prose(Template(text).substitute(values), 2, anchored=True) for text in texts]
    sections = [Link(title, f"#{anchor}") for part in parts for anchor, title in part.sections]
    return frame.page(site, "", "Overview", sections, "overview.html", texts=parts, groups=list(_code_groups(codes)))


def resource(site: Site, plugin: Plugin, described: Manual, rules: Rules, text: str) -> bytes:
    """Return the page of one resource that is available."""
    operations = described.operations
    sections = [
        *([Link("Fields", "#fields")] if described.fields else []),
        *(Link(op.title, f"#{op.anchor}", verb=op.verb) for op in operations),
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
        entries=[_entry(site, operation, rules) for operation in operations],
    )


def outage(site: Site, plugins: Sequence[Plugin]) -> bytes:
    """Return the page of a resource that is not available."""
    name, state = plugins[0].name, plugins[0].state
    view = {"plugins": plugins, "state": STATES[state], "reason": _OUTAGES[state]}
    return frame.page(site, name, name, [], "outage.html", **view)


def _item(operations: Sequence[Operation]) -> str:
    """Return an example of an item from one of the responses; "" if there is none."""
    values = [op.success.value for op in operations if op.success and "{id}" in op.path]
    value = next((value for value in values if isinstance(value, Mapping)), None)
    return samples.pretty(value) if value else ""


def _entry(site: Site, operation: Operation, rules: Rules) -> Entry:
    is_searched = any(field.name == "sort" or field.name in rules.filters for field in operation.parameters)
    return Entry(
        operation,
        site.prefix + operation.path,
        [field for field in operation.parameters if field.name not in rules.filters],
        list(_searches(rules)) if is_searched else [],
        samples.commands(site, operation),
        samples.response(operation),
        samples.form(operation),
    )


def _searches(rules: Rules) -> Iterator[Search]:
    """Yield the filter operators and the sortability of each field."""
    operators: dict[str, list[str]] = {column.field: [] for column in rules.columns}
    for column, operator in rules.filters.values():
        operators[column.field].append(operator)
    for name, found in operators.items():
        if found or name in rules.sorts:
            shown = tuple(_operator(operator) for operator in OPERATORS if operator in found)
            yield Search(name, shown, name in rules.sorts)


def _operator(operator: str) -> str:
    return OPERATORS[operator].parameter("") or "="


def _code_groups(codes: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    """Yield the groups of error codes with their titles."""
    for title, group_codes in _CODE_GROUPS.items():
        group = [code for code in codes if code["code"] in group_codes]
        if group:
            yield title, group
