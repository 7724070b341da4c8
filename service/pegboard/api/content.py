"""Content: the bytes that an item has in addition to its JSON: their declaration, upload and download."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from pegboard import rendering
from pegboard.api.actions import CONTENT_ACTIONS

BLOCK_SIZE = 256 * 1024
"""The number of bytes of content held in memory at a time, per upload or download."""

_IN_MEMORY = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Content:
    """Declare that items have content, at `/NAME/{id}/content`.

    `max_size` is the maximum size of an upload in bytes, or the name of the setting that holds it; PUT responds with
    413 to a larger one. `types` are the accepted media types, such as `image/*`; PUT responds with 415 to others.
    `name` is the field that holds the file name for downloads. `verbs` are any of GET, HEAD and PUT; they require the
    same grants as on items.
    """

    max_size: int | str = 100 * 1024 * 1024
    types: Sequence[str] = ("*/*",)
    name: str | None = None
    verbs: Sequence[str] = tuple(CONTENT_ACTIONS)


def size_limit(content: Content, settings: Mapping[str, Any]) -> int:
    """Return the maximum size of an upload in bytes, according to the plugin's settings."""
    return int(settings[content.max_size] if isinstance(content.max_size, str) else content.max_size)


def accepts(content: Content, media_type: str) -> bool:
    """Return whether content of this type is accepted; it must be in lower case and without parameters."""
    family = media_type.partition("/")[0]
    return not {"*/*", f"{family}/*", media_type}.isdisjoint(content.types)


@dataclass(frozen=True, slots=True)
class Stored:
    """Describe stored content and how to read it.

    `read(start, stop)` yields the bytes from `start` up to but not including `stop`, in chunks of any size. All of them
    are from the same content: if it is replaced or deleted meanwhile, `read` raises. `media_type` is the value of
    `Content-Type`, and `sha256` has 32 bytes.
    """

    size: int
    media_type: str
    sha256: bytes
    read: Callable[[int, int], AsyncGenerator[bytes, None]]
    modified: datetime | None = None
    name: str | None = None

    @property
    def tag(self) -> str:
        """Return the opaque part of the entity tag, which depends on the bytes and on their type."""
        return rendering.digest(self.sha256 + self.media_type.encode())


@dataclass(frozen=True, slots=True)
class Upload:
    """Represent a complete upload: its type as it was sent, its size in bytes and its SHA-256 (32 bytes)."""

    media_type: str
    size: int
    sha256: bytes
    _file: IO[bytes]

    async def read(self) -> AsyncIterator[bytes]:
        """Yield the content from its beginning, in blocks of 256 KiB except for the last."""
        await asyncio.to_thread(self._file.seek, 0)
        while block := await asyncio.to_thread(self._file.read, BLOCK_SIZE):
            yield block


@asynccontextmanager
async def receive(media_type: str, blocks: AsyncGenerator[bytes, None]) -> AsyncIterator[Upload]:
    """Collect `blocks` into one upload; a large one is in a temporary file, which is deleted afterwards.

    No database connection is held during the upload, as the client may be slow.
    """
    digest, size = sha256(), 0
    with SpooledTemporaryFile(_IN_MEMORY) as file:
        async with aclosing(blocks):
            async for block in blocks:
                # In a thread, because a disk may be slow.
                await asyncio.to_thread(file.write, block)
                digest.update(block)
                size += len(block)
        yield Upload(media_type, size, digest.digest(), file)
