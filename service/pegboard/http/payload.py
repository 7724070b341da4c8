"""The body of a request: JSON bytes (RFC 8259, I-JSON RFC 7493) to plain values."""

from __future__ import annotations

from typing import Any

import orjson

from pegboard import errors


def parse(body: bytes, max_nesting: int) -> Any:
    """Return the value that `body` says.

    Raises `ApiError` 400: nothing there, not JSON, or nested deeper than `max_nesting` arrays and objects.
    """
    if not body or body.isspace():
        raise errors.MissingBody("Send a JSON body.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise errors.InvalidJson from None
    if body.count(b"[") + body.count(b"{") > max_nesting and deeper(value, max_nesting):
        raise errors.InvalidBody(f"The body is nested deeper than {max_nesting} levels.")
    return value


def parse_object(body: bytes, max_nesting: int) -> dict[str, Any]:
    """Return the object that `body` says; raises `ApiError` 400 for anything else too."""
    value = parse(body, max_nesting)
    if not isinstance(value, dict):
        raise errors.InvalidBody("Send a JSON object.", pointer="")
    return value


def deeper(value: Any, levels: int) -> bool:
    """Tell whether containers stand in each other more than `levels` deep, without recursion."""
    layer = _containers([value])
    for _ in range(levels):
        layer = [part for holder in layer for part in _containers(holder)]
        if not layer:
            return False
    return True


def _containers(holder: Any) -> list[Any]:
    values = holder.values() if isinstance(holder, dict) else holder
    return [part for part in values if isinstance(part, dict | list)]
