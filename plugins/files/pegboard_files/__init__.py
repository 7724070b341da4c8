"""Files: documents, pictures and the like, attached to items of other resources, as a resource of Pegboard."""

from collections.abc import Mapping
from typing import Any

from pegboard import ApiError, Content, ContentResource, Context, Schema, errors, fields, validate


class Limits(Schema):
    """PEGBOARD_FILES_MAX_SIZE: the maximum size of a file in bytes."""

    max_size = fields.Integer(load_default=100 * 1024 * 1024, validate=validate.Range(1))


class File(Schema):
    """One file: its name, the item that it is attached to, and the properties of its content."""

    name = fields.String(required=True, validate=validate.Length(1, 255), metadata={"example": "report.pdf"})
    description = fields.String(
        allow_none=True, validate=validate.Length(max=10_000), metadata={"example": "The figures of the year."}
    )
    resource = fields.String(
        allow_none=True,
        validate=validate.Length(1, 40),
        metadata={"description": "The resource of the item that it is attached to.", "example": None},
    )
    item = fields.String(
        allow_none=True,
        validate=validate.Length(1, 200),
        metadata={"description": "The id of that item.", "example": None},
    )
    media_type = fields.String(dump_only=True, metadata={"example": "application/pdf"})
    size = fields.Integer(
        dump_only=True, metadata={"description": "How many bytes its content has; null before the first upload."}
    )
    sha256 = fields.String(
        dump_only=True,
        metadata={"description": "The SHA-256 of its content, in hexadecimal.", "example": "9f86d081" * 8},
    )


class Files(ContentResource):
    """Documents, pictures and the like, each attached to an item of any resource, or to none.

    Create a file with its name, then PUT its content to `/files/{id}/content`.
    """

    schema = File
    settings_schema = Limits
    content = Content(max_size="max_size", name="name")
    indexes = ("resource,item", "name", "created_at")
    search_fields = ("name", "description")

    async def create(self, context: Context, data: Mapping[str, Any]) -> dict[str, Any]:
        """Create a file; raises `ApiError` 422 if the client cannot read the item to attach it to."""
        async with self.transaction(context):
            return await super().create(context, await self._attached(context, data))

    async def replace(self, context: Context, id: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the fields of a file, but not its content."""
        async with self.transaction(context):
            return await super().replace(context, id, await self._attached(context, data))

    async def update(self, context: Context, id: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Update the fields of a file; either of `resource` and `item` is combined with the other's current value."""
        async with self.transaction(context):
            if not data.keys().isdisjoint(("resource", "item")):
                before = await self.retrieve(context, id)
                data = {name: before[name] for name in ("resource", "item")} | {**data}
                data = await self._attached(context, data)
            return await super().update(context, id, data)

    async def _attached(self, context: Context, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return `data` with the item's id normalized; raises `ApiError` 422 unless the client can read the item."""
        name, item = data.get("resource"), data.get("item")
        if name is None and item is None:
            return data
        if name is None or item is None:
            missing = "resource" if name is None else "item"
            raise errors.MissingField("Send both resource and item, or neither.", pointer=f"/{missing}")
        try:
            resource = self.resource(name)
        except ApiError:
            raise errors.InvalidValue("No such resource.", pointer="/resource") from None
        id = resource.parse_id(item)
        if id is None or not context.client.holds(f"{name}:GET") or "GET" not in resource.verbs:
            raise _no_such_item()
        try:
            await resource.retrieve(context.without_locks(), id)
        except errors.NotFound:
            raise _no_such_item() from None
        return {**data, "item": id}


def _no_such_item() -> ApiError:
    return errors.InvalidValue("No such item.", pointer="/item")
