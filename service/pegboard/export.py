"""Whole collections as NDJSON or CSV (RFC 4180), batch by batch."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from pegboard import rendering

NDJSON = "application/x-ndjson"
CSV = "text/csv"

_QUOTED = re.compile(r'[",\r\n]|^\s|\s$|^$')
_RUN = re.compile(r"[=@\t\r]|[+-](?![\d.][\d .,()/-]*(?:[eE][+-]?\d+)?$|\([\d .,()/-]*$)")

Item = Mapping[str, Any]


def ndjson(items: Sequence[Item], _: Sequence[str]) -> bytes:
    """Return a line of JSON for each item."""
    return b"".join(rendering.dumps(item) + b"\n" for item in items)


def csv(items: Sequence[Item], columns: Sequence[str]) -> bytes:
    """Return a CSV record for each item."""
    return "".join(",".join(cell(item.get(name)) for name in columns) + "\r\n" for item in items).encode()


def cell(value: Any) -> str:
    """Return a value as a CSV field.

    Null is empty and empty text is `""`; text that a spreadsheet would take for a formula gets a leading `'`, numbers and
    telephone numbers excepted; lists and objects are JSON.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        value = rendering.dumps(value).decode()
        if value.startswith('"'):
            value = value[1:-1]
    elif _RUN.match(value):
        value = "'" + value
    return '"' + value.replace('"', '""') + '"' if _QUOTED.search(value) else value


async def lines(
    batches: AsyncIterator[Sequence[Item]], media_type: str, columns: Sequence[str]
) -> AsyncIterator[bytes]:
    """Yield the export's bytes, a batch at a time; CSV begins with a row of the columns' names."""
    write: Callable[[Sequence[Item], Sequence[str]], bytes] = csv if media_type == CSV else ndjson
    if media_type == CSV:
        yield (",".join(cell(name) for name in columns) + "\r\n").encode()
    async for batch in batches:
        yield write(batch, columns)
