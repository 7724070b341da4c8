"""Exports of complete collections as NDJSON or CSV (RFC 4180), serialized page by page."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

import orjson

from pegboard import rendering
from pegboard.api.page import Page
from pegboard.api.serializer import ItemSerializer
from pegboard.query.query import Query

NDJSON = "application/x-ndjson"
CSV = "text/csv"
CONTENT_TYPES = {NDJSON: NDJSON, CSV: "text/csv; charset=utf-8; header=present"}

_FORMULA_STARTS = ("=", "@", "\t", "\r", "+", "-")
_NUMBER = re.compile(r"[+-](?:\d[\d,]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
# 6 to 17 digits: from the shortest E.164 numbers to the longest with an extension. Without letters, no formula is run.
_TELEPHONE = re.compile(r"\+(?=(?:[^\d]*\d){6,17}[^\d]*\Z)[\d ()./-]+", re.ASCII)

_GZIP = 16 + zlib.MAX_WBITS
_FASTEST_LEVEL = 1


async def serialize(
    serializer: ItemSerializer, query: Query, media_type: str, first: Page, remaining: AsyncGenerator[Page, None]
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of an export, page by page; `remaining` is always closed."""
    async with aclosing(remaining):
        if media_type == CSV:
            names = serializer.field_names(query)
            yield record(names) + _records(serializer, first, query, names)
            async for page in remaining:
                yield _records(serializer, page, query, names)
        else:
            yield serializer.lines(first.items, query)
            async for page in remaining:
                yield serializer.lines(page.items, query)


def _records(serializer: ItemSerializer, page: Page, query: Query, names: Sequence[str]) -> bytes:
    rows = serializer.rows(page.items, query)
    try:
        return records(rows, names)
    except TypeError:
        return records(serializer.representable(rows), names)


async def compressed(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield `chunks` compressed by gzip, at level 1 since the client waits for them."""
    async with aclosing(chunks):
        compressor = zlib.compressobj(_FASTEST_LEVEL, wbits=_GZIP)
        async for chunk in chunks:
            yield await asyncio.to_thread(compressor.compress, chunk)
        yield compressor.flush()


def records(items: Sequence[Any], names: Sequence[str]) -> bytes:
    """Return a CSV record for each item, its fields in the order of `names`."""
    return b"".join([record([item.get(name) for name in names]) for item in items])


def record(values: Sequence[Any]) -> bytes:
    """Return one CSV record."""
    return (",".join([cell(value) for value in values]) + "\r\n").encode()


def cell(value: Any) -> str:
    """Return a value as a CSV field: null is empty, empty text is `""`, a list or an object is JSON.

    Text that a spreadsheet would evaluate as a formula gets a leading `'`; numbers and telephone numbers do not.
    """
    return _CELLS.get(type(value), _json)(value)


def _text(text: str) -> str:
    if text.startswith(_FORMULA_STARTS) and not (_NUMBER.fullmatch(text) or _TELEPHONE.fullmatch(text)):
        text = "'" + text
    return _quoted(text)


def _quoted(text: str) -> str:
    """Return text, quoted if required, or if it has white space at its ends, which some readers would strip."""
    if '"' in text:
        return '"' + text.replace('"', '""') + '"'
    needed = "," in text or "\n" in text or "\r" in text or not text or text[0].isspace() or text[-1].isspace()
    return f'"{text}"' if needed else text


def _json(value: Any) -> str:
    """Return a value as JSON, but text without the quotes of JSON."""
    serialized = rendering.dumps(value).decode()
    if serialized.startswith('"'):
        return _text(orjson.loads(serialized))
    return "" if serialized == "null" else _quoted(serialized)


_CELLS: Mapping[type, Callable[[Any], str]] = {
    type(None): lambda value: "",
    str: _text,
    int: str,
    bool: lambda value: "true" if value else "false",
    datetime: rendering.instant,
}
"""The functions for frequent types, which are faster than `_json`."""
