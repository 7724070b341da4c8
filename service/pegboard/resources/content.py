"""Content: the bytes that an item has beside its JSON, as it is declared, brought by a client and given again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import IO

from pegboard import rendering

VERBS = ("GET", "HEAD", "PUT")
BLOCK = 256 * 1024
"""How many bytes of content are in memory at a time, for each client that sends or takes some."""

_IN_MEMORY = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Content:
    """Declare that items have content, at `/NAME/{id}/content`.

    `max_size` is the most bytes that PUT takes (413 beyond), `types` the media types, as `image/*` (415 for another).
    `name` is the field that has the name under which a browser saves it. `verbs` are out of GET, HEAD and PUT; each
    needs the grant of its own, as on items.
    """

    max_size: int = 100 * 1024 * 1024
    types: tuple[str, ...] = ("*/*",)
    name: str | None = None
    verbs: tuple[str, ...] = VERBS

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


class Upload:
    """Hold content that has come as a whole: in a file that is gone with it, where it is large."""

    def __init__(self, media_type: str, file: IO[bytes]) -> None:
        self.media_type = media_type
        self.size = 0
        self._file = file
        self._digest = sha256()

    @property
    def sha256(self) -> bytes:
        """Return the SHA-256 of the content, 32 bytes."""
        return self._digest.digest()

    def append(self, block: bytes) -> None:
        """Take the bytes that follow."""
        self._digest.update(block)
        self._file.write(block)
        self.size += len(block)

    async def read(self) -> AsyncIterator[bytes]:
        """Yield the content from its beginning, in parts of `BLOCK` bytes but for the last."""
        await asyncio.to_thread(self._file.seek, 0)
        while block := await asyncio.to_thread(self._file.read, BLOCK):
            yield block


@asynccontextmanager
async def receive(media_type: str, blocks: AsyncGenerator[bytes, None]) -> AsyncIterator[Upload]:
    """Give what `blocks` yield as one upload; a client may take its time, and no connection waits for it."""
    with SpooledTemporaryFile(_IN_MEMORY) as file:
        upload = Upload(media_type, file)
        async with aclosing(blocks):
            async for block in blocks:
                # On a thread, as a disk may be slow.
                await asyncio.to_thread(upload.append, block)
        yield upload
