"""Which trace a request belongs to: the header `traceparent` of W3C Trace Context."""

from __future__ import annotations

import re
from collections.abc import Sequence

_VERSION_0 = 55
_TRACE, _PARENT = "(?!0{32})[0-9a-f]{32}", "(?!0{16})[0-9a-f]{16}"
_FORM = re.compile(f"(?!ff)[0-9a-f]{{2}}-{_TRACE}-{_PARENT}-[0-9a-f]{{2}}(-.*)?", re.DOTALL).fullmatch
_LONGEST = 512


def parse(values: Sequence[str]) -> str | None:
    """Return the `traceparent` that stands in the headers of that name; None where there is not one, well-formed.

    What is malformed is passed over, as W3C Trace Context §3.2.2 asks: it is no fault of the request. Of a version to
    come, the part that is known is returned as version 00.
    """
    if len(values) != 1 or len(values[0]) > _LONGEST:
        return None
    value = values[0].strip(" \t")
    if not _FORM(value) or (value.startswith("00") and len(value) != _VERSION_0):
        return None
    return value if value.startswith("00") else f"00{value[2:53]}{_sampled(value[53:55])}"


def trace_id(traceparent: str) -> str:
    """Return the 32 hexadecimal digits that name the trace."""
    return traceparent[3:35]


def _sampled(flags: str) -> str:
    """Return the flags of a later version as version 00 has them: whether the trace is recorded, and nothing else."""
    return f"{int(flags, 16) & 1:02x}"
