"""`Resource`: the base class of all resources, with their verbs and actions."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from pegboard import errors, rendering
from pegboard.api import listing, operation
from pegboard.api.changes import BackgroundTasks, Change
from pegboard.api.content import Content
from pegboard.api.context import Context
from pegboard.api.listing import Position
from pegboard.api.operation import Operation
from pegboard.auth.clients import Client
from pegboard.auth.passwords import Hash, Passwords, prepare
from pegboard.errors import ApiError
from pegboard.postgres.share import Shares
from pegboard.query import mapping
from pegboard.query.query import Query, Rules
from pegboard.schema.ddl import ID
from pegboard.schema.fields import Password
from pegboard.schema.loading import STANDARD, parse_uuid
from pegboard.schema.schema import Schema

COLLECTION_ACTIONS: Mapping[str, str] = {"GET": "list", "HEAD": "list", "POST": "create"}
"""The verbs of a collection and the action for each."""

ITEM_ACTIONS: Mapping[str, str] = {
    "GET": "retrieve",
    "HEAD": "retrieve",
    "PUT": "replace",
    "PATCH": "update",
    "DELETE": "delete",
}
"""The verbs of an item and the action for each."""

CONTENT_ACTIONS: Mapping[str, str] = {"GET": "read_content", "HEAD": "read_content", "PUT": "write_content"}
"""The verbs of an item's content and the action for each."""

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True)
class Services:
    """Hold what the service provides to every resource.

    `database` is the plugin's share of the connection pools. `secret` signs cursors and is the same in all workers.
    `resources` returns the resource served under a name, and raises `ApiError` 503 if there is none or before all
    resources are created. `settings` are those of the resource's own plugin.
    """

    database: Shares
    secret: bytes
    resources: Callable[[str], Resource]
    passwords: Passwords
    background_tasks: BackgroundTasks
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """Hold one page of a collection: its items, the cursors of the pages next to it, and the count if requested."""

    items: Sequence[Any]
    next: str | None = None
    prev: str | None = None
    total: int | None = None


def page(found: Sequence[Any], query: Query, position: Position | None, cursor: Callable[[Any], str]) -> Page:
    """Return the page made of the items `found`, of which there is one more than the limit if more follow.

    They begin next to `position`, that of the client's cursor; for a page before it, the nearest item comes first.
    """
    more, items = len(found) > query.limit, list(found[: query.limit])
    if query.before is not None:
        items.reverse()
        return Page(items, cursor(items[-1]) if items else "", cursor(items[0]) if more else None)
    prev = cursor(items[0]) if position is not None and items else None
    return Page(items, cursor(items[-1]) if more else None, prev)


@dataclass(frozen=True, slots=True)
class Representation:
    """Hold an item's representation: its JSON, the opaque part of its entity tag, and the time of its last change.

    The part of the tag after a dot covers expanded items, and is ignored by `If-Match`.
    """

    body: bytes
    tag: str
    modified: datetime | None


class Resource:
    """Serve a REST resource at `/NAME`, where NAME is the name of its entry point.

    A subclass sets `schema` and `verbs`, and implements the actions of its verbs as coroutines: `list(context)` for GET
    on the collection, `create(context, data)` for POST, and on an item `retrieve(context, id)` for GET,
    `replace(context, id, data)` for PUT, `update(context, id, data)` for PATCH, `delete(context, id)` for DELETE.
    `data` is what the schema loaded. An action returns an item (a mapping, or any object that the schema can dump).
    `list` returns all items, which are then filtered, sorted and paged, or a `Page` of its own; `delete` returns
    nothing. To reject a request, an action raises `ApiError`; for a missing item, `errors.NotFound()`. Declare any
    other function as an `@operation`.
    """

    schema: ClassVar[type[Schema]]
    verbs: ClassVar[tuple[str, ...]]
    filterable: ClassVar[tuple[str, ...] | None] = None
    """The fields that clients can filter by; None means all whose type supports it."""
    sortable: ClassVar[tuple[str, ...] | None] = None
    """The fields that clients can sort by; None means all whose type supports it."""
    default_limit: ClassVar[int] = 50
    """The number of items on a page if the client does not set a limit."""
    max_limit: ClassVar[int] = 500
    """The largest limit that a client may set."""
    error_codes: ClassVar[tuple[type[ApiError], ...]] = ()
    """The author's own errors that the actions and operations raise, for the reference."""
    needs_match: ClassVar[bool] = False
    """Whether PUT, PATCH and DELETE require `If-Match` (428 without it)."""
    creates_by_put: ClassVar[bool] = False
    """Whether PUT creates a missing item, for a client that also holds the grant for POST."""
    public: ClassVar[tuple[str, ...]] = ()
    """The verbs that require no credentials: any of GET, HEAD and POST; GET includes HEAD."""
    checks_version: ClassVar[bool] = False
    """Whether the actions check `context.conditions.if_match` themselves, in the statement that writes."""
    content: ClassVar[Content | None] = None
    """The content of each item at `/NAME/{id}/content`, if items have any. GET and HEAD require the action
    `read_content(context, id)`, which returns `Stored`, or None while there is none; PUT requires
    `write_content(context, id, upload)`, which replaces it by an `Upload`."""
    settings: Any = None
    """The schema of the plugin's settings, `PEGBOARD_NAME_*`; on an instance, the loaded values by attribute."""
    me: ClassVar[tuple[str, ...]] = ()
    """The verbs of `/NAME/me`, the client's own item: any of GET, HEAD and PATCH, which require no grant there."""
    me_writable: ClassVar[tuple[str, ...] | None] = None
    """The fields that a client may change there (403 for others); None means all."""
    name: str
    """The name in the path, which is that of the entry point."""
    database: Shares
    resources: Callable[[str], Resource]
    """Returns the resource served under a name; raises `ApiError` 503 if there is none."""

    def __init__(self, name: str, services: Services) -> None:
        self.name = name
        self.database = services.database
        self.resources = services.resources
        self._secret = services.secret
        self._dumper: Schema = self.schema()
        self._passwords = services.passwords
        self._background_tasks = services.background_tasks
        self.settings = services.settings
        self._hashed = tuple(
            attribute for attribute, field, _ in mapping.stored(self._dumper) if isinstance(field, Password)
        )

    @classmethod
    def actions(cls) -> frozenset[str]:
        """Return the names of the implemented actions."""
        names = {*COLLECTION_ACTIONS.values(), *ITEM_ACTIONS.values()}
        return frozenset(name for name in names if callable(getattr(cls, name, None)))

    @classmethod
    def public_verbs(cls) -> tuple[str, ...]:
        """Return the declared verbs that require no credentials."""
        return tuple(
            verb for verb in cls.verbs if ("GET" if verb == "HEAD" else verb) in cls.public or verb in cls.public
        )

    @classmethod
    def operations(cls) -> Mapping[str, Operation]:
        """Return the declared operations by name."""
        return operation.operations(cls)

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the docstring."""
        return cls.text().partition("\n")[0]

    @classmethod
    def text(cls) -> str:
        """Return the docstring."""
        return (inspect.getdoc(cls) or "") if cls.__doc__ else ""

    @classmethod
    def rules(cls) -> Rules:
        """Return the rules for queries of the resource."""
        schema = cls.schema()
        return Rules(
            mapping.columns(schema, identity=ID if cls.has_uuids() else mapping.NAME),
            cls.filterable,
            cls.sortable,
            expandable=tuple(mapping.references(schema)),
            computed=mapping.computed(schema),
            default_limit=cls.default_limit,
            max_limit=cls.max_limit,
        )

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Run for as long as each process serves: from the creation of the tables until after the last response."""
        yield

    async def before_commit(self, context: Context, change: Change) -> None:
        """Check a change inside its transaction; raise `ApiError` to roll it back.

        This is called once for each item that a client's request changes, not for changes by one action's call of
        another.
        """

    async def after_commit(self, context: Context, change: Change) -> None:
        """React to a committed change, in a background task of at most `changes.HOOK_TIMEOUT` seconds.

        This is not called after a rollback, nor for a replayed response. Its exceptions are logged.
        """

    async def retrieve_all(self, context: Context, identities: Sequence[str]) -> Sequence[Any]:
        """Return the existing items with these ids, to expand references to them."""
        items = []
        for identity in identities:
            try:
                items.append(await self.retrieve(context, identity))  # type: ignore[attr-defined]  # exists, as GET is declared
            except errors.NotFound:
                continue
        return items

    async def hidden(self, context: Context, identities: Collection[str]) -> set[str]:
        """Return those of `identities` whose items are hidden from the client, which therefore cannot refer to them."""
        return set()

    async def missing(self, context: Context, identities: Collection[str]) -> set[str]:
        """Return those of `identities` that no item visible to the client has; references to them are refused."""
        return set()

    def parse_id(self, text: str) -> str | None:
        """Return the id in a URL in the form that items have it, or None if it cannot be an id (404)."""
        return parse_uuid(text)

    @classmethod
    def has_uuids(cls) -> bool:
        """Return whether the ids are UUIDs, which is the case unless the resource overrides `parse_id`."""
        return cls.parse_id is Resource.parse_id

    def my_id(self, client: Client) -> str:
        """Return the id of the client's own item, served at `/NAME/me`."""
        return client.id

    async def hashed(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return `data` with its passwords replaced by their hashes; preferably before a transaction begins."""
        plain = {name: data[name] for name in self._hashed if data.get(name) is not None}
        hashes = {
            name: password if isinstance(password, Hash) else await self._passwords.hash(prepare(password))
            for name, password in plain.items()
        }
        return {**data, **hashes} if hashes else data

    @asynccontextmanager
    async def transaction(self, context: Context) -> AsyncIterator[None]:
        """Run the body atomically, as far as the data source supports it."""
        yield

    def stream(self, context: Context) -> AsyncGenerator[Page, None]:
        """Yield the entire collection in parts, the first of them with the count if it was requested.

        By default, these are the page that `list` returns and those that follow it.
        """
        return list_pages(self, context, context.query.limit)

    def paged(self, items: Sequence[Any], query: Query) -> Page:
        """Return the page that `query` requests of `items`, which must be all of them."""
        matching = listing.matching(items, query)
        position = query.position(self._secret, self.name)
        remaining = matching if position is None else listing.continue_from(matching, query, position)
        if query.before is not None:
            remaining.reverse()

        def cursor(item: Any) -> str:
            return query.cursor(self._secret, self.name, listing.position_of(item, query))

        return replace(page(remaining, query, position, cursor), total=len(matching) if query.count else None)

    def dump(self, item: Any) -> dict[str, Any]:
        """Dump an item by the schema, and add the standard fields that it has."""
        dumped = self._dumper.dump(item)
        standard = {name: value for name in STANDARD if (value := listing.read(item, name)) is not None}
        if "id" not in standard:
            raise TypeError(f"an action of {self.name} returned an item without an id")
        return {"id": standard.pop("id"), **dumped, **standard}

    def represent(self, item: Any, query: Query) -> Representation:
        """Return an item's representation, whose entity tag covers all fields, even if the query selects only some."""
        dumped = self.dump(item)
        complete = rendering.dumps(dumped)
        modified = _last_modified(dumped.get("updated_at"))
        body = complete if query.fields is None else rendering.dumps(_selected(dumped, query))
        return Representation(body, rendering.digest(complete), modified)

    def represent_all(self, items: Sequence[Any], query: Query) -> bytes:
        """Return the items of a page as a JSON array."""
        return rendering.dumps(self.plain(items, query))

    def represent_lines(self, items: Sequence[Any], query: Query) -> bytes:
        """Return items as JSON lines."""
        return b"".join([rendering.dumps(item) + b"\n" for item in self.plain(items, query)])

    def plain(self, items: Sequence[Any], query: Query) -> Sequence[Mapping[str, Any]]:
        """Return the items as plain values, reduced to the fields that the query selects."""
        return [_selected(self.dump(item), query) for item in items]

    def shown(self, query: Query) -> tuple[str, ...]:
        """Return the names of the fields in the response, in order."""
        own = [mapping.name_of(field, name) for name, field in self._dumper.dump_fields.items()]
        names = dict.fromkeys(("id", *own, "created_at", "updated_at"))
        return tuple(name for name in names if query.fields is None or name in query.fields)


async def list_pages(resource: Any, context: Context, page_size: int) -> AsyncGenerator[Page, None]:
    """Yield the pages that `resource.list` returns, of at most `page_size` items, up to the query's limit."""
    query = context.query
    left = query.limit
    while True:
        context.query = replace(query, limit=min(left, page_size))
        listed = await resource.list(context)
        part = listed if isinstance(listed, Page) else resource.paged(list(listed), context.query)
        yield replace(part, items=part.items[:left])
        left -= len(part.items)
        if not part.next or left <= 0:
            return
        query = replace(query, after=part.next, count=None)


def _last_modified(moment: Any) -> datetime | None:
    """Return the time of the last change in the precision of headers (UTC, in seconds), or None if it is unknown."""
    if not isinstance(moment, datetime):
        return None
    utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return utc.replace(microsecond=0)


def _selected(dumped: dict[str, Any], query: Query) -> dict[str, Any]:
    wanted = query.fields
    return dumped if wanted is None else {key: value for key, value in dumped.items() if key == "id" or key in wanted}
