"""JSON bodies of requests (RFC 8259, I-JSON RFC 7493), parsed to plain values."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from pegboard import errors
from pegboard.rendering import exact_float

# A double holds any number of 15 digits. The search is linear: a match ends at a fixed length.
_LONG_NUMBER = re.compile(rb"[0-9.]{17}|[0-9][eE][+-]?[0-9]{3}")
_LONGEST_INTEGER = 400


def parse(body: bytes, max_nesting: int, *, exact: bool = False) -> Any:
    """Return the JSON value in `body`; with `exact`, a number that a double cannot hold is a `Decimal` or an `int`.

    Raises `ApiError` 400 for an empty body, for invalid JSON, and for more than `max_nesting` levels of arrays and
    objects.
    """
    if not body or body.isspace():
        raise errors.MissingBody("Send a JSON body.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise errors.InvalidJson from None
    if body.count(b"[") + body.count(b"{") > max_nesting and exceeds_depth(value, max_nesting):
        raise errors.InvalidBody(f"The body is nested deeper than {max_nesting} levels.")
    if exact and _LONG_NUMBER.search(body):
        return json.loads(body, parse_float=_number, parse_int=_integer)
    return value


def parse_object(body: bytes, max_nesting: int, *, exact: bool = False) -> dict[str, Any]:
    """Return the JSON object in `body`; raises `ApiError` 400 as `parse` does, and for any other value."""
    value = parse(body, max_nesting, exact=exact)
    if not isinstance(value, dict):
        raise errors.InvalidBody("Send a JSON object.", pointer="")
    return value


def _number(text: str) -> float | Decimal:
    try:
        exact = Decimal(text)
    except InvalidOperation:
        raise errors.InvalidJson from None
    number = exact_float(exact)
    return exact if number is None else number


def _integer(text: str) -> int | Decimal:
    # Python refuses to convert thousands of digits.
    return int(text) if len(text) <= _LONGEST_INTEGER else Decimal(text)


def exceeds_depth(value: Any, levels: int) -> bool:
    """Return whether arrays and objects are nested deeper than `levels`, without recursion."""
    layer = _containers([value])
    for _ in range(levels):
        layer = [part for container in layer for part in _containers(container)]
        if not layer:
            return False
    return True


def _containers(container: Any) -> list[Any]:
    values = container.values() if isinstance(container, dict) else container
    return [part for part in values if isinstance(part, dict | list)]
