"""Byte ranges (RFC 9110 §14): the part of a representation that the client requests."""

from __future__ import annotations

import re

from pegboard import errors

_SINGLE_RANGE = re.compile(r"[ \t]*(?:(\d{1,19})-(\d{1,19})?|-(\d{1,19}))[ \t]*", re.ASCII)


def parse(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the start and the stop of the requested range of `size` bytes; None for the complete content.

    Several ranges, a malformed header and other units are ignored, as RFC 9110 §14.2 allows. Raises `ApiError` 416 for
    a range that starts at the end of the content or after it.
    """
    unit, _, ranges = (header or "").partition("=")
    match = _SINGLE_RANGE.fullmatch(ranges) if unit.strip().lower() == "bytes" else None
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


def if_range_matches(header: str | None, tag: str) -> bool:
    """Return whether a range may be sent for this `If-Range` (§13.1.5); `tag` is the opaque part of the entity tag.

    A date never matches: two changes within a second would have the same one.
    """
    return header is None or header.strip(" \t") == f'"{tag}"'
