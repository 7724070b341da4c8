"""Whole collections as NDJSON or as CSV (RFC 4180), part by part."""

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
from pegboard.api.resource import Page, Resource
from pegboard.query.query import Query

NDJSON = "application/x-ndjson"
CSV = "text/csv"
CONTENT_TYPES = {NDJSON: NDJSON, CSV: "text/csv; charset=utf-8; header=present"}

_RUN = ("=", "@", "\t", "\r", "+", "-")
_NUMBER = re.compile(r"[+-](?:\d[\d,]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
# So many digits has E.164, the shortest of islands and the longest with an extension; without letters nothing is run.
_TELEPHONE = re.compile(r"\+(?=(?:[^\d]*\d){6,17}[^\d]*\Z)[\d ()./-]+", re.ASCII)

_GZIP = 16 + zlib.MAX_WBITS
_FASTEST = 1


async def lines(
    resource: Resource, query: Query, media_type: str, first: Page, rest: AsyncGenerator[Page, None]
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of an export, a part at a time; `rest` is closed in any case."""
    async with aclosing(rest):
        if media_type == CSV:
            names = resource.shown(query)
            yield record(names) + records(resource.plain(first.items, query), names)
            async for part in rest:
                yield records(resource.plain(part.items, query), names)
        else:
            yield resource.represent_lines(first.items, query)
            async for part in rest:
                yield resource.represent_lines(part.items, query)


async def compressed(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield `chunks` in gzip, level 1: they are made while the client waits."""
    async with aclosing(chunks):
        packing = zlib.compressobj(_FASTEST, wbits=_GZIP)
        async for chunk in chunks:
            yield await asyncio.to_thread(packing.compress, chunk)
        yield packing.flush()


def records(items: Sequence[Any], names: Sequence[str]) -> bytes:
    """Return a CSV record for each item, its fields in the order of `names`."""
    return b"".join([record([item.get(name) for name in names]) for item in items])


def record(values: Sequence[Any]) -> bytes:
    """Return one CSV record."""
    return (",".join([cell(value) for value in values]) + "\r\n").encode()


def cell(value: Any) -> str:
    """Return a value as a CSV field: null is empty, empty text is `""`, a list or an object is JSON.

    Text that a spreadsheet would take for a formula gets a leading `'`, but numbers and telephone numbers do not.
    """
    return _CELLS.get(type(value), _other)(value)


def _text(text: str) -> str:
    if text.startswith(_RUN) and not (_NUMBER.fullmatch(text) or _TELEPHONE.fullmatch(text)):
        text = "'" + text
    return _quoted(text)


def _quoted(text: str) -> str:
    """Return text in quotes where it needs them, as does white space at its ends, which some readers drop."""
    if '"' in text:
        return '"' + text.replace('"', '""') + '"'
    needed = "," in text or "\n" in text or "\r" in text or not text or text[0].isspace() or text[-1].isspace()
    return f'"{text}"' if needed else text


def _other(value: Any) -> str:
    """Return what JSON says, text without the quotes of JSON."""
    plain = rendering.dumps(value).decode()
    if plain.startswith('"'):
        return _text(orjson.loads(plain))
    return "" if plain == "null" else _quoted(plain)


_CELLS: Mapping[type, Callable[[Any], str]] = {
    type(None): lambda value: "",
    str: _text,
    int: str,
    bool: lambda value: "true" if value else "false",
    datetime: rendering.instant,
}
"""How a value of these types is written, and faster than by way of JSON."""
