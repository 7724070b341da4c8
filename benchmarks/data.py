"""The rows that both services store: each can be derived from its number, in SQL and in Python."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg

_FIRST_DAY = date(1950, 1, 1)
_FIRST_MOMENT = datetime(2024, 1, 1, tzinfo=UTC)

# The value of row `i` in each column that a table may have. The ids ascend, as UUIDv7 do.
_EXPRESSIONS = {
    "id": "('018cc251-f400-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid",
    "created_at": "timestamptz '2024-01-01T00:00:00Z' + i * interval '1 second'",
    "updated_at": "timestamptz '2024-01-01T00:00:00Z' + i * interval '2 seconds'",
    "version": "i",
    "_version": "i",
    "name": "'Person ' || i",
    "email": "'person' || i || '@example.com'",
    "phone": "'+1555' || lpad(i::text, 7, '0')",
    "notes": "CASE WHEN i % 2 = 0 THEN 'Met at the fair; likes tea, café crème and long walks. Number ' || i END",
    "birthday": "date '1950-01-01' + i % 20000",
    "tags": "ARRAY['friend', 'tag' || i % 100]",
    "last_contacted_at": "CASE WHEN i % 3 = 0 THEN timestamptz '2024-01-01T00:00:00Z' + i * interval '3 seconds' END",
}

_COLUMNS = """
SELECT column_name, is_nullable = 'NO' AND column_default IS NULL AS required
FROM information_schema.columns
WHERE table_schema = $1 AND table_name = $2 AND is_generated = 'NEVER' AND is_identity = 'NO'
ORDER BY ordinal_position
"""


def identity(number: int) -> str:
    """Return the id of row `number`, counted from 1."""
    return f"018cc251-f400-7000-8000-{number:012x}"


def person(number: int) -> dict[str, Any]:
    """Return row `number` as both services must return it."""
    return {
        "id": identity(number),
        "created_at": _instant(number),
        "updated_at": _instant(2 * number),
        "name": f"Person {number}",
        "email": f"person{number}@example.com",
        "phone": f"+1555{number:07}",
        "company": None,
        "notes": None if number % 2 else f"Met at the fair; likes tea, café crème and long walks. Number {number}",
        "birthday": (_FIRST_DAY + timedelta(days=number % 20_000)).isoformat(),
        "tags": ["friend", f"tag{number % 100}"],
        "last_contacted_at": None if number % 3 else _instant(3 * number),
    }


async def fill(dsn: str, schema: str, table: str, rows: int) -> None:
    """Insert `rows` rows into an empty table and update the statistics of the planner.

    Raises `LookupError` if the table is missing or requires an unknown column.
    """
    connection = await asyncpg.connect(dsn)
    try:
        columns = {row["column_name"]: row["required"] for row in await connection.fetch(_COLUMNS, schema, table)}
        unknown = [name for name, required in columns.items() if required and name not in _EXPRESSIONS]
        if unknown or "id" not in columns:
            raise LookupError(f"{schema}.{table}: " + (f"unknown columns {unknown}" if unknown else "no such table"))
        fillable = [name for name in columns if name in _EXPRESSIONS]
        names = ", ".join(f'"{name}"' for name in fillable)
        values = ", ".join(_EXPRESSIONS[name] for name in fillable)
        target = f'"{schema}"."{table}"'
        await connection.execute(f"INSERT INTO {target} ({names}) SELECT {values} FROM generate_series(1, {rows}) AS i")
        await connection.execute(f"VACUUM (ANALYZE) {target}")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def _instant(seconds: int) -> str:
    return (_FIRST_MOMENT + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
