"""`Resource`: what a plugin declares and does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from pegboard.api import declared
from pegboard.api.actions import Actions
from pegboard.api.backend import Backend, Services
from pegboard.api.changes import Change
from pegboard.api.content import Content
from pegboard.api.context import Context
from pegboard.api.database import Database
from pegboard.api.serializer import ItemSerializer, Serializer
from pegboard.auth.clients import Client
from pegboard.errors import ApiError
from pegboard.query.query import DEFAULT_LIMIT, MAX_LIMIT
from pegboard.schema.loading import parse_uuid
from pegboard.schema.schema import Schema


class Resource:
    """Serve a REST resource at `/NAME`, where NAME is the name of its entry point.

    A subclass sets `schema` and implements actions as coroutines: `list(context)` for GET on the collection,
    `create(context, data)` for POST, and on an item `retrieve(context, id)` for GET, `replace(context, id, data)` for
    PUT, `update(context, id, data)` for PATCH, `delete(context, id)` for DELETE. `data` is what the schema loaded, with
    passwords hashed. An action returns an item (a mapping, or any object that the schema can dump). `list` returns all
    items, which are then filtered, sorted and paged, or a `Page` of its own; `delete` returns nothing. To reject a
    request, an action raises an `ApiError`; for a missing item, `errors.NotFound`. Declare any other function as an
    `@operation`.
    """

    schema: ClassVar[type[Schema]]
    """The schema of an item."""
    verbs: ClassVar[Sequence[str] | None] = None
    """The verbs to serve; None means all whose actions are implemented."""
    filterable: ClassVar[Sequence[str] | None] = None
    """The fields that clients can filter by; None means all whose type supports it."""
    sortable: ClassVar[Sequence[str] | None] = None
    """The fields that clients can sort by; None means all whose type supports it."""
    ignore_accents: ClassVar[Sequence[str]] = ()
    """The text fields whose filters `prefix` and `contains` ignore case and accents."""
    default_limit: ClassVar[int] = DEFAULT_LIMIT
    """The number of items on a page if the client does not set a limit."""
    max_limit: ClassVar[int] = MAX_LIMIT
    """The largest limit that a client may set."""
    error_codes: ClassVar[Sequence[type[ApiError]]] = ()
    """The author's own errors that the actions and operations raise, for the reference."""
    needs_match: ClassVar[bool] = False
    """Whether PUT, PATCH and DELETE require `If-Match` (428 without it)."""
    creates_by_put: ClassVar[bool] = False
    """Whether PUT creates a missing item, for a client that also holds the grant for POST."""
    public: ClassVar[Sequence[str]] = ()
    """The verbs that require no credentials: any of GET, HEAD and POST; GET includes HEAD."""
    checks_version: ClassVar[bool] = False
    """Whether the actions check `context.conditions.if_match` themselves, in the statement that writes."""
    content: ClassVar[Content | None] = None
    """The content of each item at `/NAME/{id}/content`, if items have any. GET and HEAD require the action
    `read_content(context, id)`, which returns `Stored`, or None while there is none; PUT requires
    `write_content(context, id, upload)`, which replaces it by an `Upload`."""
    settings_schema: ClassVar[type[Schema] | None] = None
    """The schema of the plugin's settings, `PEGBOARD_NAME_*`."""
    me: ClassVar[Sequence[str]] = ()
    """The verbs of `/NAME/me`, the client's own item: any of GET, HEAD and PATCH, which require no grant there."""
    me_writable: ClassVar[Sequence[str] | None] = None
    """The fields that a client may change there (403 for others); None means all."""
    former_names: ClassVar[Sequence[str]] = ()
    """The names that the resource had in earlier versions, oldest first. Its table, grants and links stay valid."""
    name: str
    """The name in the path."""
    database: Database
    """The connections of the plugin: `database.read` for statements that only read, `database.write` for others."""
    settings: Mapping[str, Any]
    """The values of the plugin's settings, by the names in `settings_schema`."""
    serializer: Serializer
    """`serializer.dump(item)` returns the fields of an item as a client sees them."""
    _pegboard: Backend

    def _pegboard_start(self, name: str, services: Services) -> None:
        """Set the attributes, before the author's `__init__` is called."""
        self.name = name
        self.database = services.database
        self.settings = services.settings
        if type(self).verbs is None:
            self.verbs = declared.verbs(type(self))  # type: ignore[misc]  # what a class leaves out, an instance has
        self._pegboard = self._pegboard_backend(services)
        self.serializer = self._pegboard.serializer

    def _pegboard_backend(self, services: Services) -> Backend:
        return Backend(self, services, ItemSerializer(self.schema(), self.name))

    def resource(self, name: str) -> Actions:
        """Return the resource served under a name; raises `errors.PluginUnavailable` if there is none."""
        found: Actions = self._pegboard.services.resources(name)
        return found

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
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

    async def dangling_ids(self, context: Context, ids: Collection[str]) -> set[str]:
        """Return those of `ids` that no item visible to the client has; references to them are refused."""
        return set()

    def parse_id(self, text: str) -> str | None:
        """Return the id in a URL in the form that items have it, or None if it cannot be an id (404)."""
        return parse_uuid(text)

    def get_own_id(self, client: Client) -> str:
        """Return the id of the client's own item, served at `/NAME/me`."""
        return client.id

    @asynccontextmanager
    async def transaction(self, context: Context) -> AsyncGenerator[Any]:
        """Run the body atomically, as far as the data source supports it."""
        yield None


def create(kind: type[Resource], name: str, services: Services) -> Resource:
    """Create the resource served under a name; its `__init__` can use all attributes that the service sets."""
    resource = kind.__new__(kind)
    resource._pegboard_start(name, services)
    kind.__init__(resource)
    return resource
