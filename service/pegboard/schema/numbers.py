"""The numbers that a schema accepts: their range in the database, and their format in text."""

from __future__ import annotations

from collections.abc import Mapping

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1
"""The range of `bigint`."""

INTEGERS: Mapping[str, tuple[int, int]] = {
    "smallint": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "bigint": (MIN_INTEGER, MAX_INTEGER),
}
"""The ranges of PostgreSQL's integers."""

MAX_JSON_INTEGER = 2**64 - 1
"""The largest integer that JSON can hold without becoming a floating-point number."""

MAX_DIGITS = 100
"""The most digits before the point of a decimal number."""

MAX_PLACES = 20
"""The most digits after the point of a decimal number, unless its field declares another number."""

DECIMAL = rf"-?\d{{1,{MAX_DIGITS}}}(\.\d+)?"
"""The pattern of a decimal number."""
