"""The header `traceparent` of W3C Trace Context: the trace that a request belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence

_VERSION_0 = 55
_TRACE, _PARENT = "(?!0{32})[0-9a-f]{32}", "(?!0{16})[0-9a-f]{16}"
_PATTERN = re.compile(f"(?!ff)[0-9a-f]{{2}}-{_TRACE}-{_PARENT}-[0-9a-f]{{2}}(-.*)?", re.DOTALL).fullmatch
_MAX_LENGTH = 512


def parse(values: Sequence[str]) -> str | None:
    """Return the `traceparent` in the headers of that name; None unless there is exactly one, and well-formed.

    A malformed one is ignored, as W3C Trace Context §3.2.2 requires: it is not an error of the request. The known part
    of a later version is returned as version 00.
    """
    if len(values) != 1 or len(values[0]) > _MAX_LENGTH:
        return None
    value = values[0].strip(" \t")
    if not _PATTERN(value) or (value.startswith("00") and len(value) != _VERSION_0):
        return None
    return value if value.startswith("00") else f"00{value[2:53]}{_sampled(value[53:55])}"


def trace_id(traceparent: str) -> str:
    """Return the trace id: 32 hexadecimal digits."""
    return traceparent[3:35]


def _sampled(flags: str) -> str:
    """Return the flags of a later version as version 00 defines them: only whether the trace is recorded."""
    return f"{int(flags, 16) & 1:02x}"
