"""What a plugin declares and does: a resource, its verbs, its actions."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from pegboard import errors, rendering
from pegboard.api import listing, operation
from pegboard.api.changes import Aftermath, Change
from pegboard.api.content import Content
from pegboard.api.context import Context
from pegboard.api.listing import Place
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
"""The verbs of a collection and the action that each calls."""

ITEM_ACTIONS: Mapping[str, str] = {
    "GET": "retrieve",
    "HEAD": "retrieve",
    "PUT": "replace",
    "PATCH": "update",
    "DELETE": "delete",
}
"""The verbs of an item and the action that each calls."""

CONTENT_ACTIONS: Mapping[str, str] = {"GET": "read_content", "HEAD": "read_content", "PUT": "write_content"}
"""The verbs of an item's content and the action that each calls."""

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True)
class Services:
    """Hold what the service gives every resource.

    `database` lends the connections that the resource may have. `secret` seals cursors and is the same in all workers.
    `resources` gives the resource that serves under a name, and raises `ApiError` 503 where none does; it has none to
    give before all are made. `settings` are those of the resource's own plugin.
    """

    database: Shares
    secret: bytes
    resources: Callable[[str], Resource]
    passwords: Passwords
    aftermath: Aftermath
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """Hold one page of a collection: its items, the cursors of the pages beside it, the count if it was asked for."""

    items: Sequence[Any]
    next: str | None = None
    prev: str | None = None
    total: int | None = None


def page(found: Sequence[Any], query: Query, place: Place | None, cursor: Callable[[Any], str]) -> Page:
    """Return the page of `found`, which is one item longer than the limit where there are more.

    It begins next to `place`, which is where the client's cursor leads; before it, the nearest item comes first.
    """
    more, shown = len(found) > query.limit, list(found[: query.limit])
    if query.before is not None:
        shown.reverse()
        return Page(shown, cursor(shown[-1]) if shown else "", cursor(shown[0]) if more else None)
    prev = cursor(shown[0]) if place is not None and shown else None
    return Page(shown, cursor(shown[-1]) if more else None, prev)


@dataclass(frozen=True, slots=True)
class Representation:
    """Hold an item as it goes out: JSON, the opaque part of its entity tag, its last change.

    What follows a dot in the tag is about other items that are shown with it, and no matter of `If-Match`.
    """

    body: bytes
    tag: str
    modified: datetime | None


class Resource:
    """Answer at `/NAME`, NAME being the entry point's.

    A subclass sets `schema` and `verbs` and writes the actions of its verbs as coroutines: `list(context)` for GET on
    the collection, `create(context, data)` for POST, and on an item `retrieve(context, id)` for GET,
    `replace(context, id, data)` for PUT, `update(context, id, data)` for PATCH, `delete(context, id)` for DELETE.
    `data` is what the schema loaded. An action returns an item (a mapping, or any object the schema can dump); `list`
    all of them, which are then filtered, sorted and paged, or a `Page` that it has made itself; `delete` nothing. It
    raises `ApiError` to refuse, `errors.NotFound()` for an item that is not there. What is no verb's is an
    `@operation`.
    """

    schema: ClassVar[type[Schema]]
    verbs: ClassVar[tuple[str, ...]]
    filterable: ClassVar[tuple[str, ...] | None] = None
    """The fields that can be filtered by; None means all whose type allows it."""
    sortable: ClassVar[tuple[str, ...] | None] = None
    """The fields that can be sorted by; None means all whose type allows it."""
    default_limit: ClassVar[int] = 50
    """How many items a page has where the client does not say."""
    max_limit: ClassVar[int] = 500
    """How many items a client may ask for at once."""
    error_codes: ClassVar[tuple[type[ApiError], ...]] = ()
    needs_match: ClassVar[bool] = False
    """Whether PUT, PATCH and DELETE need `If-Match` (428 without)."""
    creates_by_put: ClassVar[bool] = False
    """Whether PUT creates an item that is not there, for a client that holds POST too."""
    public: ClassVar[tuple[str, ...]] = ()
    """The verbs that need no credentials, out of GET, HEAD and POST; HEAD follows GET."""
    checks_version: ClassVar[bool] = False
    """Whether the actions hold `context.conditions.if_match` against the item, in the statement that writes."""
    content: ClassVar[Content | None] = None
    """The bytes that each item has at `/NAME/{id}/content`, if it has any. GET and HEAD need the action
    `read_content(context, id)`, which returns `Stored`, or None while there are none; PUT needs
    `write_content(context, id, upload)`, which puts an `Upload` in their place."""
    settings: Any = None
    """The schema of the plugin's settings, `PEGBOARD_NAME_*`; on an instance what it loaded, by attribute."""
    me: ClassVar[tuple[str, ...]] = ()
    """The verbs of `/NAME/me`, the client's own item, out of GET, HEAD and PATCH: there they need no grant."""
    me_writable: ClassVar[tuple[str, ...] | None] = None
    """The fields that a client changes there, any other being 403; None means all."""
    name: str
    """What stands in the path: the entry point's."""
    database: Shares
    resources: Callable[[str], Resource]
    """Returns the resource that serves under a name; raises `ApiError` 503 where none does."""

    def __init__(self, name: str, services: Services) -> None:
        self.name = name
        self.database = services.database
        self.resources = services.resources
        self._secret = services.secret
        self._dumper: Schema = self.schema()
        self._passwords = services.passwords
        self._aftermath = services.aftermath
        self.settings = services.settings
        self._hashed = tuple(
            attribute for attribute, field, _ in mapping.stored(self._dumper) if isinstance(field, Password)
        )

    @classmethod
    def actions(cls) -> frozenset[str]:
        """Return the names of the actions that there are."""
        names = {*COLLECTION_ACTIONS.values(), *ITEM_ACTIONS.values()}
        return frozenset(name for name in names if callable(getattr(cls, name, None)))

    @classmethod
    def public_verbs(cls) -> tuple[str, ...]:
        """Return the declared verbs that need no credentials."""
        return tuple(
            verb for verb in cls.verbs if ("GET" if verb == "HEAD" else verb) in cls.public or verb in cls.public
        )

    @classmethod
    def operations(cls) -> Mapping[str, Operation]:
        """Return the declared operations by their names."""
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
        """Return what the queries of the resource may ask for."""
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
        """Run beside the requests of each process: entered once the tables are there, left once all is answered."""
        yield

    async def before_commit(self, context: Context, change: Change) -> None:
        """Look at what was done while it can be undone: in the same transaction, which an `ApiError` raised here ends.

        It is called for what clients ask for, once for each item, not for what one action does by calling another.
        """

    async def after_commit(self, context: Context, change: Change) -> None:
        """Follow what is done and sure to stay: beside the requests, for `aftermath.LONGEST` seconds at most.

        It is not called for what was undone, nor for an answer that is given again. What it raises is logged.
        """

    async def retrieve_all(self, context: Context, identities: Sequence[str]) -> Sequence[Any]:
        """Read the items of these ids that there are, for others that refer to them."""
        found = []
        for identity in identities:
            try:
                found.append(await self.retrieve(context, identity))  # type: ignore[attr-defined]  # there, as GET is declared
            except errors.NotFound:
                continue
        return found

    async def hidden(self, context: Context, identities: Collection[str]) -> set[str]:
        """Return the ids, of those given, of items that the client must not know of, and so cannot refer to."""
        return set()

    async def missing(self, context: Context, identities: Collection[str]) -> set[str]:
        """Return the ids, of those given, that lead to no item for the client, as far as others may refer to them."""
        return set()

    def parse_id(self, text: str) -> str | None:
        """Return the id that stands in a URL as the items carry it; None where it can be no id (404)."""
        return parse_uuid(text)

    @classmethod
    def has_uuids(cls) -> bool:
        """Tell whether the ids are UUIDs, as they are unless the resource reads them in its own way."""
        return cls.parse_id is Resource.parse_id

    def my_id(self, client: Client) -> str:
        """Return the id of the client's own item, which answers at `/NAME/me`."""
        return client.id

    async def hashed(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return `data` with the hashes of its passwords in their place; best before a transaction begins."""
        plain = {name: data[name] for name in self._hashed if data.get(name) is not None}
        hashes = {
            name: password if isinstance(password, Hash) else await self._passwords.hash(prepare(password))
            for name, password in plain.items()
        }
        return {**data, **hashes} if hashes else data

    @asynccontextmanager
    async def transaction(self, context: Context) -> AsyncIterator[None]:
        """Do what is inside as a whole or not at all, as far as the source of the data can."""
        yield

    def stream(self, context: Context) -> AsyncGenerator[Page, None]:
        """Yield the whole collection in parts, the count in the first of them where it was asked for.

        It is what `list` returns, and what follows that, unless there is a better way.
        """
        return listed(self, context, context.query.limit)

    def paged(self, items: Sequence[Any], query: Query) -> Page:
        """Return the page of `items`, which are all there are, that `query` asks for."""
        found = listing.matching(items, query)
        place = query.position(self._secret, self.name)
        beside = found if place is None else listing.beside(found, query, place)
        if query.before is not None:
            beside.reverse()

        def cursor(item: Any) -> str:
            return query.cursor(self._secret, self.name, listing.place(item, query))

        return replace(page(beside, query, place, cursor), total=len(found) if query.count else None)

    def dump(self, item: Any) -> dict[str, Any]:
        """Return an item's plain values by the schema, the standard fields among them where the item has them."""
        dumped = self._dumper.dump(item)
        found = {name: value for name in STANDARD if (value := listing.read(item, name)) is not None}
        if "id" not in found:
            raise TypeError(f"an action of {self.name} returned an item without an id")
        return {"id": found.pop("id"), **dumped, **found}

    def represent(self, item: Any, query: Query) -> Representation:
        """Return an item as it goes out; its tag is made of all its fields, whichever of them are asked for."""
        dumped = self.dump(item)
        whole = rendering.dumps(dumped)
        modified = _modified(dumped.get("updated_at"))
        body = whole if query.fields is None else rendering.dumps(_only(dumped, query))
        return Representation(body, rendering.digest(whole), modified)

    def represent_all(self, items: Sequence[Any], query: Query) -> bytes:
        """Return the items of a page as a JSON array."""
        return rendering.dumps(self.plain(items, query))

    def represent_lines(self, items: Sequence[Any], query: Query) -> bytes:
        """Return the items of a part of the collection as lines of JSON."""
        return b"".join([rendering.dumps(item) + b"\n" for item in self.plain(items, query)])

    def plain(self, items: Sequence[Any], query: Query) -> Sequence[Mapping[str, Any]]:
        """Return the items' values as they go out."""
        return [_only(self.dump(item), query) for item in items]

    def shown(self, query: Query) -> tuple[str, ...]:
        """Return the names of the fields that go out, in their order."""
        own = [mapping.name_of(field, name) for name, field in self._dumper.dump_fields.items()]
        names = dict.fromkeys(("id", *own, "created_at", "updated_at"))
        return tuple(name for name in names if query.fields is None or name in query.fields)


async def listed(resource: Any, context: Context, most: int) -> AsyncGenerator[Page, None]:
    """Yield what `resource` lists from its beginning on, by pages of at most `most` items, up to the query's limit."""
    query = context.query
    left = query.limit
    while True:
        context.query = replace(query, limit=min(left, most))
        found = await resource.list(context)
        part = found if isinstance(found, Page) else resource.paged(list(found), context.query)
        yield replace(part, items=part.items[:left])
        left -= len(part.items)
        if not part.next or left <= 0:
            return
        query = replace(query, after=part.next, count=None)


def _modified(moment: Any) -> datetime | None:
    """Return the last change as headers tell it: in UTC, whole seconds; None where nobody knows."""
    if not isinstance(moment, datetime):
        return None
    utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return utc.replace(microsecond=0)


def _only(dumped: dict[str, Any], query: Query) -> dict[str, Any]:
    wanted = query.fields
    return dumped if wanted is None else {key: value for key, value in dumped.items() if key == "id" or key in wanted}
