"""Content: the bytes that an item has beside its JSON, as it is declared, brought by a client and given again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from pegboard import rendering

VERBS = ("GET", "HEAD", "PUT")
BLOCK = 256 * 1024
"""How many bytes of content are in memory at a time, for each client that sends or takes some."""

_IN_MEMORY = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Content:
    """Declare that items have content, at `/NAME/{id}/content`.

    `max_size` is the most bytes that PUT takes (413 beyond), or the name of the setting that says how many; `types` are
    the media types, as `image/*` (415 for another). `name` is the field that has the name under which a browser saves
    it. `verbs` are out of GET, HEAD and PUT; each needs the grant of its own, as on items.
    """

    max_size: int | str = 100 * 1024 * 1024
    types: tuple[str, ...] = ("*/*",)
    name: str | None = None
    verbs: tuple[str, ...] = VERBS

    def limit(self, settings: Mapping[str, Any]) -> int:
        """Return the most bytes that PUT takes, where the plugin's settings are these."""
        return int(settings[self.max_size] if isinstance(self.max_size, str) else self.max_size)

    def takes(self, media_type: str) -> bool:
        """Tell whether content may be of this type, which is in lower case and without parameters."""
        family = media_type.partition("/")[0]
        return not {"*/*", f"{family}/*", media_type}.isdisjoint(self.types)


@dataclass(frozen=True, slots=True)
class Stored:
    """Hold what is known of content that is there, and what reads it.

    `read(start, stop)` yields its bytes from `start` on and before `stop`, 0 to `size`, in parts of any size. What it
    yields is of the same content throughout: where that is there no more, it raises. `media_type` is what stands in
    `Content-Type`; `sha256` has 32 bytes.
    """

    size: int
    media_type: str
    sha256: bytes
    read: Callable[[int, int], AsyncGenerator[bytes, None]]
    modified: datetime | None = None
    name: str | None = None

    @property
    def tag(self) -> str:
        """Return the opaque part of the entity tag: it differs with the bytes and with their type."""
        return rendering.digest(self.sha256 + self.media_type.encode())


@dataclass(frozen=True, slots=True)
class Upload:
    """Hold content that has come as a whole: its type as it was sent, its size in bytes and its SHA-256 (32 bytes)."""

    media_type: str
    size: int
    sha256: bytes
    _file: IO[bytes]

    async def read(self) -> AsyncIterator[bytes]:
        """Yield the content from its beginning, in parts of 256 KiB but for the last."""
        await asyncio.to_thread(self._file.seek, 0)
        while block := await asyncio.to_thread(self._file.read, BLOCK):
            yield block


@asynccontextmanager
async def receive(media_type: str, blocks: AsyncGenerator[bytes, None]) -> AsyncIterator[Upload]:
    """Give what `blocks` yield as one upload, in a file that is gone afterwards where it is large.

    A client may take its time: no connection to the database waits for it.
    """
    digest, size = sha256(), 0
    with SpooledTemporaryFile(_IN_MEMORY) as file:
        async with aclosing(blocks):
            async for block in blocks:
                # On a thread, as a disk may be slow.
                await asyncio.to_thread(file.write, block)
                digest.update(block)
                size += len(block)
        yield Upload(media_type, size, digest.digest(), file)
