"""The numbers that a schema accepts: their range in the database, and their format in text."""

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1
"""The range of `bigint`."""

MAX_DIGITS = 100
"""The most digits before the point of a decimal number."""

DECIMAL = rf"-?\d{{1,{MAX_DIGITS}}}(\.\d+)?"
"""The pattern of a decimal number."""
