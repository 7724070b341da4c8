"""A plugin that uses every part of the API, to be checked by type checkers; no test runs it."""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import asyncpg
from marshmallow import post_load

from pegboard import (
    Actions,
    ApiError,
    Change,
    Client,
    Conditions,
    Connections,
    Content,
    ContentResource,
    Context,
    Database,
    EntityTags,
    ExistingTable,
    Filter,
    Page,
    Query,
    Resource,
    Schema,
    Serializer,
    Sort,
    Stored,
    TableResource,
    Unique,
    Upload,
    ValidationError,
    check_grant,
    check_username,
    errors,
    fields,
    operation,
    validate,
    validates,
    validates_schema,
)


class Taken(ApiError, number=1, status=409, message="The room is taken."): ...


class Full(errors.Conflict, message="The house is full."): ...


class Limits(Schema):
    most = fields.Integer(load_default=10, validate=validate.Range(1))


class Count(Schema):
    count = fields.Integer(required=True)


def not_empty(text: str) -> None:
    if not text.strip():
        raise ValidationError("Empty.")


class Room(Schema):
    name = fields.String(required=True, validate=[validate.Length(1, 100), not_empty])
    owner = fields.String(validate=check_username)
    grant = fields.String(validate=check_grant)
    house = fields.Reference("houses", allow_none=True)
    begins = fields.DateTime(load_default=lambda: datetime.now(UTC))
    tags = fields.List(fields.String(), load_default=list)
    media_type = fields.String(dump_only=True)
    size = fields.Integer(dump_only=True)
    sha256 = fields.String(dump_only=True)

    @validates("owner")
    def check_owner(self, value: str, data_key: str) -> None:
        not_empty(value)

    @validates_schema
    def check(self, data: Mapping[str, Any], **_: Any) -> None:
        if data["name"] == data["owner"]:
            raise ValidationError("Equal.", "owner")

    @post_load
    def strip(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**data, "name": data["name"].strip()}


class Rooms(ContentResource):
    schema = Room
    verbs = ["GET", "POST", "PATCH", "DELETE"]
    filterable = ("name",)
    sortable = ["name"]
    ignore_accents = ("name",)
    default_limit = 10
    max_limit = 20
    error_codes = [Taken]
    needs_match = True
    creates_by_put = False
    public = ("GET",)
    content = Content(max_size="most", types=("image/*",), name="name")
    settings_schema = Limits
    former_names = ["chambers"]
    me = ("GET", "PATCH")
    me_writable = ("name",)
    unique = (Unique("name", ignore_case=True),)
    indexes = ["name", "-created_at"]
    search_fields = ("name",)
    owned = False
    table = ExistingTable("house.rooms", key="number", key_type="bigint", without=["_version"])
    constraint_errors = {"rooms_taken": Taken, "house_full": Full}

    def __init__(self) -> None:
        super().__init__()
        self.most: int = self.settings["most"]
        self.watched = f"{self.name}:any"

    def parse_id(self, text: str) -> str | None:
        return super().parse_id(text)

    def get_own_id(self, client: Client) -> str:
        return client.id if client.holds(self.watched) else super().get_own_id(client)

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        async with super().lifespan():
            yield

    @asynccontextmanager
    async def transaction(self, context: Context) -> AsyncGenerator[asyncpg.Connection]:
        async with super().transaction(context) as connection:
            yield connection

    async def list(self, context: Context) -> Page:
        page = await super().list(context)
        return Page([*page.items], page.next, page.prev, page.total)

    async def create(self, context: Context, data: Mapping[str, Any]) -> dict[str, Any]:
        async with self.transaction(context) as connection:
            count: int = await connection.fetchval("SELECT count(*) FROM house.rooms")
            if count >= self.most:
                raise Full(details=[errors.ErrorDetail(Full.code, Full.message, errors.pointer(["name"]))])
            context.after_commit(lambda: None)
            return await super().create(context, {**data, "count": count})

    async def retrieve(self, context: Context, id: str) -> dict[str, Any]:
        return await super().retrieve(context.without_locks() if context.in_transaction else context, id)

    async def replace(self, context: Context, id: str, data: Mapping[str, Any]) -> dict[str, Any]:
        return await super().replace(context, id, data)

    async def update(self, context: Context, id: str, data: Mapping[str, Any]) -> dict[str, Any]:
        house: Actions = self.resource("houses")
        if "GET" in house.verbs and data.get("house"):
            await house.retrieve(context, data["house"])
        return await super().update(context, id, data)

    async def delete(self, context: Context, id: str) -> None:
        await super().delete(context, id)

    async def dangling_ids(self, context: Context, ids: Collection[str]) -> set[str]:
        return await super().dangling_ids(context, ids)

    async def before_commit(self, context: Context, change: Change) -> None:
        await context.connection.execute("INSERT INTO house.log VALUES ($1, $2)", change.action, change.id)
        if change.before is None and change.after["name"] == "attic":
            raise Taken(pointer="/name", headers={"Retry-After": "60"})

    async def after_commit(self, context: Context, change: Change) -> None:
        dumped = self.serializer.dump(change.after)
        dumped["by"] = context.client.username

    async def read_content(self, context: Context, id: str) -> Stored | None:
        return await super().read_content(context, id)

    async def write_content(self, context: Context, id: str, upload: Upload) -> dict[str, Any]:
        if upload.size > self.most:
            raise errors.BodyTooLarge
        return await super().write_content(context, id, upload)

    @operation
    async def empty(self, context: Context, id: str, data: Mapping[str, Any]) -> dict[str, Any]:
        return await self.update(context, id, {"name": "empty"})

    @operation(on="collection", request=Limits, response=Count)
    async def count(self, context: Context, data: Mapping[str, Any]) -> dict[str, int]:
        return {"count": await self.database.read.fetchval("SELECT count(*) FROM house.rooms")}

    @operation(response=None)
    async def lock(self, context: Context, id: str, data: Mapping[str, Any]) -> None:
        item = await self.empty(context, id, data)
        assert item["name"]


class Memory(Resource):
    schema = Room
    checks_version = True

    def __init__(self) -> None:
        super().__init__()
        self.items: dict[str, dict[str, Any]] = {}

    async def list(self, context: Context) -> Sequence[Mapping[str, Any]]:
        return sorted_by(self.items.values(), context.query)

    async def retrieve(self, context: Context, id: str) -> Mapping[str, Any]:
        try:
            return self.items[id]
        except KeyError:
            raise errors.NotFound from None

    async def replace(self, context: Context, id: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        if not allows(context.conditions, tag(self.serializer, self.items[id])):
            raise errors.PreconditionFailed(header="If-Match")
        self.items[id] = {"id": id, **data}
        return self.items[id]

    async def delete(self, context: Context, id: str) -> None:
        del self.items[id]

    async def read_content(self, context: Context, id: str) -> Stored:
        content = b"content"

        async def read(start: int, stop: int) -> AsyncGenerator[bytes, None]:
            yield content[start:stop]

        return Stored(len(content), "text/plain", sha256(content).digest(), read)

    async def write_content(self, context: Context, id: str, upload: Upload) -> None:
        self.items[id]["content"] = b"".join([block async for block in upload.read()])

    @asynccontextmanager
    async def transaction(self, context: Context) -> AsyncGenerator[None]:
        yield


class Plain(TableResource):
    schema = Room


class Extended(Rooms):
    default_limit = 5
    unique = (Unique("owner"),)


def sorted_by(items: Collection[Mapping[str, Any]], query: Query) -> Sequence[Mapping[str, Any]]:
    kept = [item for item in items if all(matches(part, item) for part in query.filters)]
    for sort in reversed(query.sort):
        kept.sort(key=key_of(sort)[0], reverse=sort.descending)
    return kept[: query.limit]


def key_of(sort: Sort) -> tuple[Any, bool]:
    def key(item: Mapping[str, Any]) -> str:
        return str(item[sort.field])

    return key, sort.descending


def matches(part: Filter, item: Mapping[str, Any]) -> bool:
    return part.operator != "eq" or item[part.field] == part.value


def allows(conditions: Conditions, tag: str) -> bool:
    tags: EntityTags | None = conditions.if_match
    return tags is None or tags.match_strongly(tag)


def tag(serializer: Serializer, item: Mapping[str, Any]) -> str:
    return str(sorted(serializer.dump(item)))


async def names(database: Database) -> list[str]:
    async with database.write.transaction() as connection:
        await connection.execute("SELECT 1")
    return [row["name"] for row in await fetch(database.read)]


async def fetch(connections: Connections) -> Sequence[asyncpg.Record]:
    return await connections.fetch("SELECT name FROM house.rooms")
