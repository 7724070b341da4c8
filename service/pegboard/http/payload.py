"""JSON bodies of requests (RFC 8259, I-JSON RFC 7493), parsed to plain values."""

from __future__ import annotations

from typing import Any

import orjson

from pegboard import errors


def parse(body: bytes, max_nesting: int) -> Any:
    """Return the JSON value in `body`.

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
    return value


def parse_object(body: bytes, max_nesting: int) -> dict[str, Any]:
    """Return the JSON object in `body`; raises `ApiError` 400 as `parse` does, and for any other value."""
    value = parse(body, max_nesting)
    if not isinstance(value, dict):
        raise errors.InvalidBody("Send a JSON object.", pointer="")
    return value


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
