"""Ranges of bytes (RFC 9110 §14): which part of a representation the client asks for."""

from __future__ import annotations

import re

from pegboard import errors

_ONE = re.compile(r"[ \t]*(?:(\d{1,19})-(\d{1,19})?|-(\d{1,19}))[ \t]*", re.ASCII)


def wanted(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last that a `Range` asks for, of `size` bytes; None for all of them.

    All is also the answer to several ranges, and to a header that is malformed or counts in another unit, as RFC 9110
    §14.2 allows. Raises `ApiError` 416 for a range that begins at the end or beyond it.
    """
    unit, _, ranges = (header or "").partition("=")
    match = _ONE.fullmatch(ranges) if unit.strip().lower() == "bytes" else None
    if match is None:
        return None
    first, last, suffix = (None if part is None else int(part) for part in match.groups())
    if first is None:
        start, stop = max(size - (suffix or 0), 0), size
    else:
        start, stop = first, size if last is None else min(last + 1, size)
        if last is not None and last < first:
            return None
    if start >= size:
        message = f"The range is not satisfiable: the content has {size} bytes."
        raise errors.RangeNotSatisfiable(message, header="Range", headers={"Content-Range": f"bytes */{size}"})
    return start, stop


def still_meant(header: str | None, tag: str) -> bool:
    """Tell whether a part may be sent for this `If-Range` (§13.1.5), `tag` being the opaque part of the entity tag.

    A date never allows it: two changes within a second would have the same one.
    """
    return header is None or header.strip(" \t") == f'"{tag}"'
