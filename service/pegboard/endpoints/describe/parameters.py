"""What can be said beside a body: the query parameters of a resource, and the headers of requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pegboard.endpoints.describe.examples import NOTHING
from pegboard.endpoints.describe.json_fields import CLOCK
from pegboard.endpoints.endpoint import JsonSchema, Parameter
from pegboard.query import parsing
from pegboard.query.query import Rules
from pegboard.schema.column import Column

_INTEGER = {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1}
_NUMBER = {"type": "number", "format": "double"}
_TYPES: Mapping[str, JsonSchema] = {
    "boolean": {"type": "boolean"},
    "smallint": _INTEGER,
    "integer": _INTEGER,
    "bigint": _INTEGER,
    "real": _NUMBER,
    "double precision": _NUMBER,
    "numeric": {"type": "string", "pattern": r"^-?\d{1,100}(\.\d+)?$"},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "pattern": CLOCK},
    "timestamptz": {"type": "string", "format": "date-time"},
    "uuid": {"type": "string", "format": "uuid"},
}
"""What a value of each PostgreSQL type looks like in a URL; what is not here is text."""

_SYNTAX = re.compile(r"([\^$\\.*+?()\[\]{}|/])")
"""What ECMA-262 lets be escaped, and no more."""

_TEXT = {"type": "string"}
_WHOLE = r"-?\d{1,18}"
_LISTED: Mapping[str, str] = {
    "boolean": "(true|false)",
    "smallint": _WHOLE,
    "integer": _WHOLE,
    "bigint": _WHOLE,
    "date": r"\d{4}-\d{2}-\d{2}",
    "uuid": "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
}
"""What several values of a type look like, between commas; of the others the pattern says nothing."""

_MEANINGS: Mapping[str, str] = {
    "eq": "Only items whose `{}` is this.",
    "ne": "Only items whose `{}` is not this; one that is null is not.",
    "lt": "Only items whose `{}` is less than this.",
    "lte": "Only items whose `{}` is this or less.",
    "gt": "Only items whose `{}` is greater than this.",
    "gte": "Only items whose `{}` is this or greater.",
    "in": "Only items whose `{}` is one of these, separated by commas; `\\,` is a comma within a value.",
    "prefix": "Only items whose `{}` begins with this.",
    "contains": "Only items whose `{}` contains this, in upper or lower case.",
    "isnull": "Only items whose `{}` is null, or only those where it is not.",
    "has": "Only items whose `{}` has this among its elements.",
}

_DIGESTED = "The SHA-256 of the body (RFC 9530): another body is refused."
_DIGEST = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
_TAGS = r'^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)$'
_CURSOR = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}


def _query(name: str, description: str, schema: JsonSchema, example: Any = NOTHING) -> Parameter:
    return Parameter(name, "query", description, schema, example=example, component=name)


def _header(name: str, description: str, schema: JsonSchema = _TEXT, *, example: Any = NOTHING) -> Parameter:
    return Parameter(name, "header", description, schema, example=example, component=name)


SHARED: Mapping[str, Parameter] = {
    "after": _query("after", "Go on behind this place: a cursor, as `next` has it.", _CURSOR),
    "before": _query("before", "Go back from this place: a cursor, as `prev` has it.", _CURSOR),
    "count": _query(
        "count",
        "Count the items: `total` in the page, and `X-Total-Count`.",
        {"type": "string", "enum": ["exact", "estimated"]},
    ),
    "q": _query(
        "q",
        "Only items in which these words are found.",
        {"type": "string", "minLength": 1, "maxLength": parsing.MAX_SEARCH_LENGTH, "pattern": r"\S"},
    ),
    "X-Request-Id": _header(
        "X-Request-Id",
        "What the request is to be called in the answer and in the log: 1 to 128 characters of `A-Za-z0-9._-`.",
    ),
    "If-Match": _header(
        "If-Match",
        "Go on only if the item still has one of these entity tags; else 412.",
        {"type": "string", "pattern": _TAGS},
        example='"2c1f7a90b35d8e64"',
    ),
    "If-Match-Required": Parameter(
        "If-Match",
        "header",
        "Go on only if the item still has one of these entity tags; else 412, and 428 without.",
        {"type": "string", "pattern": _TAGS},
        required=True,
        example='"2c1f7a90b35d8e64"',
        component="If-Match-Required",
    ),
    "If-None-Match": _header(
        "If-None-Match",
        "Reading: 304 if what is there still has one of these entity tags. Writing: 412 then.",
        {"type": "string", "pattern": _TAGS},
        example='"2c1f7a90b35d8e64"',
    ),
    "If-Modified-Since": _header(
        "If-Modified-Since",
        "304 if nothing has changed since this HTTP date; without effect beside `If-None-Match`.",
        example="Sun, 15 Feb 2015 05:21:07 GMT",
    ),
    "If-Unmodified-Since": _header(
        "If-Unmodified-Since",
        "412 if the item has changed since this HTTP date; without effect beside `If-Match`.",
        example="Sun, 15 Feb 2015 05:21:07 GMT",
    ),
    "Range": _header(
        "Range",
        "Only these bytes: `bytes=0-499`, `bytes=500-` or the last ones, `bytes=-500`; several ranges give all of it.",
        example="bytes=0-499",
    ),
    "If-Range": _header(
        "If-Range",
        "The part only if the content still has this entity tag, else all of it.",
        example='"2c1f7a90b35d8e64"',
    ),
    "Content-Digest": _header("Content-Digest", _DIGESTED, example=_DIGEST),
    "Repr-Digest": _header("Repr-Digest", _DIGESTED, example=_DIGEST),
    "Prefer": _header("Prefer", "`return=minimal` answers without the item (RFC 7240).", example="return=minimal"),
    "Idempotency-Key": _header(
        "Idempotency-Key",
        "Makes repeating safe: the first response to this key is kept for 24 hours and sent again.",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
        example="8e03978e-40d5-43dd-bc93-6894a57f9324",
    ),
}
"""The parameters that are the same wherever they are taken."""

READING = ("If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since")
WRITING = ("If-Match", "If-None-Match", "If-Unmodified-Since")


def headers(*names: str) -> tuple[Parameter, ...]:
    """Return headers of a request, by the names of their components, and the one that every request may have."""
    return tuple(SHARED[name] for name in (*names, "X-Request-Id"))


def conditions(*, needed: bool) -> tuple[str, ...]:
    """Return the names of the components of the conditions that a write takes; `needed` says that it takes one."""
    return tuple(f"{name}-Required" if needed and name == "If-Match" else name for name in WRITING)


def of_item(resource: str, rules: Rules) -> tuple[Parameter, ...]:
    """Return the query parameters that an item takes."""
    own = [_fields(rules)] + ([_expand(rules)] if rules.expandable else [])
    return tuple(_named(resource, parameter) for parameter in own)


def of_collection(resource: str, rules: Rules) -> tuple[Parameter, ...]:
    """Return the query parameters that a collection takes."""
    own = [_limit(rules), *([_sort(rules)] if rules.sorts else [])]
    shared = ["after", "before", "count", *(["q"] if "q" in rules.reserved else [])]
    filters = [_filter(name, column, operator) for name, (column, operator) in sorted(rules.filters.items())]
    return (
        *(_named(resource, parameter) for parameter in own),
        *(SHARED[name] for name in shared),
        *of_item(resource, rules),
        *(_named(resource, parameter) for parameter in filters),
    )


def _named(resource: str, parameter: Parameter) -> Parameter:
    # The keys of components take these characters and no others.
    kept = "".join(one if one.isascii() and (one.isalnum() or one in "-_") else "." for one in parameter.name)
    return replace(parameter, component=f"{resource}.{kept}")


def _limit(rules: Rules) -> Parameter:
    bounds = {"minimum": 1, "maximum": rules.max_limit, "default": rules.default_limit}
    return _query("limit", "How many items a page has at most.", {"type": "integer", **bounds})


def _sort(rules: Rules) -> Parameter:
    return _listed(
        "sort", "Sort by these fields, `-` in front of one for descending; by `id` without.", rules.sorts, "-?"
    )


def _fields(rules: Rules) -> Parameter:
    return _listed("fields", "Only these fields; `id` always comes.", [c.field for c in rules.columns if c.readable])


def _expand(rules: Rules) -> Parameter:
    return _listed("expand", "Show these items in place of their ids.", rules.expandable)


def _listed(name: str, description: str, choices: Iterable[str], sign: str = "") -> Parameter:
    """Return a parameter that takes names separated by commas: as text, since few clients can write a list so."""
    names = list(choices)
    escaped = [_SYNTAX.sub(r"\\\1", choice) for choice in names]
    one = f"{sign}({'|'.join(escaped)})"
    about = f"{description} Separated by commas, out of {', '.join(f'`{choice}`' for choice in names)}."
    return _query(name, about, {"type": "string", "pattern": f"^{one}(,{one})*$"}, names[-1])


def _filter(name: str, column: Column, operator: str) -> Parameter:
    kind = column.base_type.removesuffix("[]")
    one = _TYPES.get(kind, _TEXT)
    own = {
        "in": {"type": "string", **({"pattern": f"^{_LISTED[kind]}(,{_LISTED[kind]})*$"} if kind in _LISTED else {})},
        "isnull": {"type": "boolean"},
        "prefix": _TEXT,
        "contains": _TEXT,
    }
    return _query(name, _MEANINGS[operator].format(column.field), own.get(operator, one))
