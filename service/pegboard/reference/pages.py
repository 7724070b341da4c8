"""The pages of the reference: what stands on each, and how it is laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

from pegboard.discovery import Plugin, State
from pegboard.queries.query import Rules
from pegboard.reference import frame, markup, samples
from pegboard.reference.frame import STATES, Section, Site
from pegboard.reference.manual import Answer, Field, Manual, Operation
from pegboard.reference.markup import Html, element
from pegboard.reference.prose import code, prose

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


def overview(site: Site, texts: Sequence[str], values: Mapping[str, str], codes: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the page that tells what holds for every resource; the codes end it."""
    parts = [prose(Template(text).substitute(values), 2, anchored=True) for text in texts]
    sections = [Section(*section) for part in parts for section in part.sections]
    content = [part.html for part in parts]
    return frame.page(site, "", "Overview", sections, element("div", content, _codes(codes), class_="prose"))


def resource(site: Site, plugin: Plugin, told: Manual, rules: Rules, text: str) -> bytes:
    """Return the page of one resource that serves."""
    operations = told.operations
    sections = [
        *([Section("fields", "Fields")] if told.fields else []),
        *(Section(one.anchor, one.title, frame.verb(one.verb)) for one in operations),
    ]
    head = element("div", prose(text, 2).html, _origin_of(plugin), class_="lead prose")
    shown = element("div", _endpoints(site, operations), _item(operations), class_="shown")
    content = (
        element("div", head, shown, _fields(told.fields) if told.fields else None, class_="intro"),
        [_operation(site, one, rules) for one in operations],
    )
    return frame.page(site, plugin.name, plugin.name, sections, markup.join(content))


def outage(site: Site, plugins: Sequence[Plugin]) -> bytes:
    """Return the page of a name at which nothing serves."""
    state = plugins[0].state
    content = element(
        "div",
        element("p", element("strong", f"This resource is {STATES[state]}."), " ", _OUTAGES[state]),
        element(
            "p",
            "Requests to ",
            element("code", f"/{plugins[0].name}"),
            " are answered with ",
            element("code", "503"),
            ".",
        ),
        [_origin_of(plugin) for plugin in plugins],
        class_="prose",
    )
    return frame.page(site, plugins[0].name, plugins[0].name, [], content)


def _origin_of(plugin: Plugin) -> Html:
    return element("p", "From ", element("code", f"{plugin.distribution} {plugin.version}"), ".", class_="source")


def _endpoints(site: Site, operations: Sequence[Operation]) -> Html:
    rows = [
        element(
            "li", element("a", frame.verb(one.verb), element("code", site.prefix + one.path), href=f"#{one.anchor}")
        )
        for one in operations
    ]
    return element("div", element("p", "Endpoints", class_="caption"), element("ul", rows), class_="panel endpoints")


def _item(operations: Sequence[Operation]) -> Html | None:
    """Return an example of an item, as one of the answers has it."""
    values = [one.success.value for one in operations if one.success and "{id}" in one.path]
    value = next((value for value in values if isinstance(value, Mapping)), None)
    return samples.panel("An item", code(samples.pretty(value), "json")) if value else None


def _fields(fields: Sequence[Field]) -> Html:
    return element(
        "section", element("h2", "Fields"), _table(("Field", "What it holds"), fields), id="fields", class_="prose"
    )


def _table(titles: tuple[str, str], fields: Sequence[Field]) -> Html:
    rows = [
        element(
            "tr",
            element("th", element("code", one.name), element("span", one.kind, class_="kind"), scope="row"),
            element("td", [element("span", rule, class_=_rule(rule)) for rule in one.rules], _text(one.text)),
        )
        for one in fields
    ]
    head = element("thead", element("tr", [element("th", title, scope="col") for title in titles]))
    return element("div", element("table", head, element("tbody", rows), class_="fields"), class_="table")


def _rule(rule: str) -> str:
    return "rule required" if rule == "required" else "rule"


def _text(text: str) -> Html | None:
    return prose(text, 3).html if text else None


def _operation(site: Site, one: Operation, rules: Rules) -> Html:
    told: tuple[Html | None, ...] = (
        element("h2", one.title),
        element("p", frame.verb(one.verb), element("code", site.prefix + one.path), class_="endpoint"),
        _text(one.text),
    )
    # What HEAD takes and what goes wrong with it is told of GET.
    if one.verb != "HEAD":
        told += _details(one, rules)
    shown = (*samples.requests(site, one), samples.answer(one), samples.form(site, one))
    return element(
        "section",
        element("div", told, class_="told prose"),
        element("div", shown, class_="shown"),
        id=one.anchor,
        class_="operation",
    )


def _details(one: Operation, rules: Rules) -> tuple[Html | None, ...]:
    """Return what an operation takes beside its body, and what it answers."""
    plain = [field for field in one.parameters if field.name not in rules.filters]
    is_searched = any(field.name == "sort" or field.name in rules.filters for field in one.parameters)
    return (
        _titled("Parameters", _table(("Parameter", "Meaning"), plain) if plain else None),
        _titled("Filters and sorting", _searches(rules) if is_searched else None),
        _titled("Headers", _table(("Header", "Meaning"), one.headers) if one.headers else None),
        _titled("Answers", _answers([answer for answer in one.answers if answer not in one.errors])),
        _errors(one.errors),
    )


def _titled(title: str, content: Html | None) -> Html | None:
    return markup.join((element("h3", title), content)) if content else None


def _searches(rules: Rules) -> Html:
    """Return the table of what each field can be filtered and sorted by."""
    operators: dict[str, list[str]] = {column.name: [] for column in rules.columns}
    for column, operator in rules.filters.values():
        operators[column.name].append(operator)
    rows = [
        element(
            "tr",
            element("th", element("code", name), scope="row"),
            element(
                "td", [[element("code", _operator(operator)), " "] for operator in _OPERATORS if operator in found]
            ),
            element("td", "yes" if name in rules.sorts else "no"),
        )
        for name, found in operators.items()
        if found or name in rules.sorts
    ]
    head = element(
        "thead", element("tr", [element("th", title, scope="col") for title in ("Field", "Filters", "Sort")])
    )
    return element("div", element("table", head, element("tbody", rows), class_="filters"), class_="table")


def _operator(operator: str) -> str:
    return "=" if operator == "eq" else f"__{operator}"


def _answers(answers: Sequence[Answer]) -> Html:
    rows = [
        element("tr", element("th", element("code", one.status), scope="row"), element("td", _text(one.text)))
        for one in answers
    ]
    head = element("thead", element("tr", element("th", "Status", scope="col"), element("th", "When", scope="col")))
    return element("div", element("table", head, element("tbody", rows), class_="answers"), class_="table")


def _errors(answers: Sequence[Answer]) -> Html | None:
    """Return the errors that the request may be answered with, folded away: they are many, and much the same."""
    if not answers:
        return None
    statuses = ", ".join(one.status for one in answers)
    return element("details", element("summary", element("strong", "Errors"), f" {statuses}"), _answers(answers))


def _codes(codes: Sequence[Mapping[str, Any]]) -> Html:
    """Return the table of error codes, range by range."""
    ends = [start for start, _ in _RANGES[1:]] + [10**9]
    bodies = []
    for (start, title), end in zip(_RANGES, ends, strict=True):
        rows = [_code(one) for one in codes if start <= one["code"] < end]
        group = element("tr", element("th", title, colspan="3", scope="rowgroup"), class_="group")
        bodies.append(element("tbody", group, rows) if rows else None)
    titles = [element("th", title, scope="col") for title in ("Code", "Status", "Message")]
    return element(
        "div", element("table", element("thead", element("tr", titles)), bodies, class_="codes"), class_="table"
    )


def _code(one: Mapping[str, Any]) -> Html:
    owner = element("span", one["plugin"], class_="note") if one["plugin"] else None
    return element(
        "tr",
        element("td", element("code", str(one["code"]))),
        element("td", str(one["status"])),
        element("td", one["message"], " " if owner else None, owner),
        id=f"error-{one['code']}",
    )
