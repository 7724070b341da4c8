"""The query parameters of a resource, and the request headers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from pegboard.endpoints.describe.examples import NOTHING
from pegboard.endpoints.describe.json_fields import CLOCK, INTEGER, NUMBER
from pegboard.endpoints.endpoint import JsonSchema, Parameter
from pegboard.http.headers import REQUEST
from pegboard.query import parsing
from pegboard.query.operators import OPERATORS, Operand, Operator
from pegboard.query.query import Rules
from pegboard.schema.column import Column
from pegboard.schema.numbers import DECIMAL, MAX_INTEGER

_TYPES: Mapping[str, JsonSchema] = {
    "boolean": {"type": "boolean"},
    "smallint": INTEGER,
    "integer": INTEGER,
    "bigint": INTEGER,
    "real": NUMBER,
    "double precision": NUMBER,
    "numeric": {"type": "string", "pattern": f"^{DECIMAL}$"},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "pattern": CLOCK},
    "timestamptz": {"type": "string", "format": "date-time"},
    "timestamp": {"type": "string", "format": "date-time"},
    "inet": {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
    "uuid": {"type": "string", "format": "uuid"},
}
"""The schema of a value in a URL for each PostgreSQL type; all others are text."""

_SPECIAL_CHARACTERS = re.compile(r"([\^$\\.*+?()\[\]{}|/])")
"""The characters that ECMA-262 allows to be escaped."""

_TEXT = {"type": "string"}
_INTEGER_PATTERN = rf"-?\d{{1,{len(str(MAX_INTEGER)) - 1}}}"
_LIST_PATTERNS: Mapping[str, str] = {
    "boolean": "(true|false)",
    "smallint": _INTEGER_PATTERN,
    "integer": _INTEGER_PATTERN,
    "bigint": _INTEGER_PATTERN,
    "date": r"\d{4}-\d{2}-\d{2}",
    "uuid": "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
}
"""The pattern of each value in a list separated by commas; other types have none."""

_CURSOR = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}


def _query(name: str, description: str, schema: JsonSchema, example: Any = NOTHING) -> Parameter:
    return Parameter(name, "query", description, schema, example=example, component=name)


def _header(name: str) -> Parameter:
    header = REQUEST[name]
    example = NOTHING if header.example is None else header.example
    return Parameter(name, "header", header.description, header.schema, example=example, component=name)


SHARED: Mapping[str, Parameter] = {
    "after": _query("after", "Return the items after this position: a cursor from `next`.", _CURSOR),
    "before": _query("before", "Return the items before this position: a cursor from `prev`.", _CURSOR),
    "count": _query(
        "count",
        "Count the items: `total` in the page, and `X-Total-Count`.",
        {"type": "string", "enum": ["exact", "estimated"]},
    ),
    "q": _query(
        "q",
        "Only items that contain a word for each of these that begins with it, ignoring case and accents.",
        {"type": "string", "minLength": 1, "maxLength": parsing.MAX_SEARCH_LENGTH, "pattern": r"\S"},
    ),
    **{name: _header(name) for name in REQUEST},
    "If-Match-Required": replace(
        _header("If-Match"),
        description="Proceed only if the item still has one of these entity tags; otherwise 412, and 428 without this "
        "header.",
        required=True,
        component="If-Match-Required",
    ),
}
"""The parameters that all endpoints share."""

READING = ("If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since")
WRITING = ("If-Match", "If-None-Match", "If-Unmodified-Since")


def headers(*names: str) -> tuple[Parameter, ...]:
    """Return the headers with these component names, and the one that every request may have."""
    return tuple(SHARED[name] for name in (*names, "X-Request-Id"))


def conditions(*, needed: bool) -> tuple[str, ...]:
    """Return the component names of the conditions of a write; `needed` is whether `If-Match` is required."""
    return tuple(f"{name}-Required" if needed and name == "If-Match" else name for name in WRITING)


def of_item(resource: str, rules: Rules) -> tuple[Parameter, ...]:
    """Return the query parameters of an item."""
    own = [_fields(rules)] + ([_expand(rules)] if rules.expandable else [])
    return tuple(_with_component(resource, parameter) for parameter in own)


def of_collection(resource: str, rules: Rules) -> tuple[Parameter, ...]:
    """Return the query parameters of a collection."""
    own = [_limit(rules), *([_sort(rules)] if rules.sorts else [])]
    shared = ["after", "before", "count", *(["q"] if "q" in rules.reserved else [])]
    filters = [_filter(name, column, OPERATORS[operator]) for name, (column, operator) in sorted(rules.filters.items())]
    return (
        *(_with_component(resource, parameter) for parameter in own),
        *(SHARED[name] for name in shared),
        *of_item(resource, rules),
        *(_with_component(resource, parameter) for parameter in filters),
    )


def _with_component(resource: str, parameter: Parameter) -> Parameter:
    # The only characters that OpenAPI allows in the keys of components.
    escaped = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "." for c in parameter.name)
    return replace(parameter, component=f"{resource}.{escaped}")


def _limit(rules: Rules) -> Parameter:
    bounds = {"minimum": 1, "maximum": rules.max_limit, "default": rules.default_limit}
    return _query("limit", "The maximum number of items on a page.", {"type": "integer", **bounds})


def _sort(rules: Rules) -> Parameter:
    return _name_list(
        "sort", "Sort by these fields, with the prefix `-` for descending; the default is `id`.", rules.sorts, "-?"
    )


def _fields(rules: Rules) -> Parameter:
    return _name_list("fields", "Only these fields, and always `id`.", [c.field for c in rules.columns if c.readable])


def _expand(rules: Rules) -> Parameter:
    return _name_list("expand", "Embed these items in place of their ids.", rules.expandable)


def _name_list(name: str, description: str, choices: Iterable[str], sign: str = "") -> Parameter:
    """Return a parameter for names separated by commas: as text, since few clients support such lists."""
    names = list(choices)
    escaped = [_SPECIAL_CHARACTERS.sub(r"\\\1", choice) for choice in names]
    pattern = f"{sign}({'|'.join(escaped)})"
    about = f"{description} Separated by commas; one or more of {', '.join(f'`{choice}`' for choice in names)}."
    return _query(name, about, {"type": "string", "pattern": f"^{pattern}(,{pattern})*$"}, names[-1])


def _filter(name: str, column: Column, operator: Operator) -> Parameter:
    schema = _OPERAND_SCHEMAS[operator.operand](column.base_type.removesuffix("[]"))
    return _query(name, operator.describe(column), schema)


def _of_value(type_of: str) -> JsonSchema:
    return _TYPES.get(type_of, _TEXT)


def _of_values(type_of: str) -> JsonSchema:
    pattern = _LIST_PATTERNS.get(type_of)
    return {**_TEXT, **({"pattern": f"^{pattern}(,{pattern})*$"} if pattern else {})}


_OPERAND_SCHEMAS: Mapping[Operand, Callable[[str], JsonSchema]] = {
    Operand.VALUE: _of_value,
    Operand.VALUES: _of_values,
    Operand.TEXT: lambda type_of: _TEXT,
    Operand.BOOLEAN: lambda type_of: {"type": "boolean"},
}
"""The schema of an operand by the PostgreSQL type of a value."""
