"""`ContentResource`: a table whose items have content, stored in the same database."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, ClassVar

from pegboard.api import declared
from pegboard.api.backend import Services
from pegboard.api.content import BLOCK_SIZE, Content, Stored, Upload
from pegboard.api.context import Context
from pegboard.api.table import TableResource
from pegboard.api.table_backend import TableBackend
from pegboard.schema import ddl, fields

FIELDS = {"media_type": fields.String, "size": fields.Integer, "sha256": fields.String}
"""The read-only fields that describe an item's content; all are null while it has none."""


class ContentResource(TableResource):
    """Store items in a table, and the content of each in a second one; subclasses set `schema` and `content`.

    The schema must have the fields `media_type` (a String), `size` (an Integer) and `sha256` (a String, in hex), each
    with `dump_only=True`: their values come from the content itself. Content is deleted with its item.
    """

    content: ClassVar[Content | None] = Content()
    _pegboard: _ContentBackend
    _pegboard_stores_content: ClassVar[bool] = True

    def _pegboard_backend(self, services: Services) -> _ContentBackend:
        return _ContentBackend(self, services)

    async def read_content(self, context: Context, id: str) -> Stored | None:
        """Return the content of an item, or None if it has none yet; raises `ApiError` 404 for a missing item."""
        item = await self.retrieve(context, id)
        if item["sha256"] is None:
            return None
        return Stored(
            size=item["size"],
            media_type=item["media_type"],
            sha256=bytes.fromhex(item["sha256"]),
            read=partial(self._pegboard.chunks.read, self.database.read, id, item["sha256"]),
            modified=item["updated_at"],
            name=item[self.content.name] if self.content and self.content.name else None,
        )

    async def write_content(self, context: Context, id: str, upload: Upload) -> dict[str, Any]:
        """Replace an item's content by `upload`, and return the updated item."""
        digest = upload.sha256.hex()
        values = {"media_type": upload.media_type, "size": upload.size, "sha256": digest}
        async with self.transaction(context) as connection:
            # Locks the item, so that concurrent uploads do not mix, and the last one wins.
            await self.retrieve(context, id)
            await self._pegboard.chunks.write(connection, id, digest, upload)
            return await self._pegboard.change(context, id, values)


class _ContentBackend(TableBackend):
    """The backend of a resource with a table of items and one of their content."""

    def __init__(self, resource: Any, services: Services) -> None:
        super().__init__(resource, services)
        self.chunks = _Chunks(ddl.content_name(declared.table_spec(resource, services.storage)))


class _Chunks:
    """Access the table of chunks: rows of `BLOCK_SIZE` bytes, with the item, the digest of its content and a number.

    The digest ensures that a reader of one content never receives a chunk of another.
    """

    def __init__(self, table: str) -> None:
        self._insert = f"INSERT INTO {table} VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
        self._others = f"DELETE FROM {table} WHERE item = $1 AND sha256 <> $2"
        self._select = f"SELECT data FROM {table} WHERE item = $1 AND sha256 = $2 AND number = $3"

    async def write(self, connection: Any, item: str, digest: str, upload: Upload) -> None:
        """Replace the item's chunks by those of an upload."""
        number = 0
        async for block in upload.read():
            await connection.execute(self._insert, item, digest, number, block)
            number += 1
        await connection.execute(self._others, item, digest)

    async def read(self, source: Any, item: str, digest: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `start` up to but not including `stop`, one chunk at a time.

        No connection is held between chunks, as the client may be slow. Raises `LookupError` if the content no longer
        exists.
        """
        for number in range(start // BLOCK_SIZE, -(-stop // BLOCK_SIZE)):
            data = await source.fetchval(self._select, item, digest, number)
            if data is None:
                raise LookupError(f"the content {digest} of {item} was replaced or deleted while it was read")
            first = number * BLOCK_SIZE
            yield data[max(start - first, 0) : stop - first]
