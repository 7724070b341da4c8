"""The application: the only place where the parts are joined and their lifetimes begin and end."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec

from aiohttp import web

from pegboard import errors, pipeline, system
from pegboard.access.auth import Authentication
from pegboard.access.clients import Clients
from pegboard.access.passwords import Passwords
from pegboard.discovery import Plugin, State
from pegboard.errors import ApiError
from pegboard.isolation.bulkheads import Bulkhead, Sweeper
from pegboard.isolation.watchdog import Watchdog
from pegboard.metrics import Metrics
from pegboard.openapi.specification import Specification
from pegboard.postgres.database import Database, Unusable
from pegboard.postgres.pool import Pool
from pegboard.postgres.share import Shares
from pegboard.reference.docs import Docs
from pegboard.resources import endpoint
from pegboard.resources.aftermath import Aftermath
from pegboard.resources.idempotency import Idempotency
from pegboard.resources.lifespan import Lifespan
from pegboard.resources.resource import Resource, Services
from pegboard.resources.table import TableResource
from pegboard.settings import Settings
from pegboard.tables import migrating
from pegboard.tables.ddl import TableSpec
from pegboard.tables.sqlfiles import MigrationError
from pegboard.tables.standing import NewerSchema, Outcome, PluginMigrations
from pegboard.telemetry import tracing
from pegboard.telemetry.sharing import Shared
from pegboard.telemetry.tracing import Tracing
from pegboard.web.cors import Cors
from pegboard.web.routing import Mount, Router
from pegboard.web.server import PIPELINE, REFUSALS

log = logging.getLogger("pegboard")

_DESCRIBING = 10.0
"""So many seconds a plugin has to say what its table is."""

_STARTING = Mount(fault="the service has not reached its database yet")

_SECRET = """
WITH made AS (INSERT INTO pegboard.secret (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING value)
SELECT value FROM made UNION ALL SELECT value FROM pegboard.secret WHERE name = $1 LIMIT 1"""


class Service:
    """Hold the parts of one running service and know how it fares."""

    def __init__(
        self,
        settings: Settings,
        plugins: Sequence[Plugin],
        passwords: Passwords | None = None,
        shared: Shared | None = None,
    ) -> None:
        self.settings = settings
        self.plugins = plugins
        self.tracing = Tracing(*tracing.provider()) if settings.tracing else None
        self.database = open_database(settings, self._bring_up, self.tracing.pools() if self.tracing else Pool)
        self.clients = Clients(self.database.write, passwords)
        public = system.Public(settings.docs_public)
        self.authentication = Authentication(self.clients, settings, public, self._admits)
        self.draining = False
        self.bulkheads = {plugin.name: _bulkhead(plugin, self.database, settings) for plugin in plugins}
        self._resources: dict[str, Resource] = {}
        self._aftermath = Aftermath()
        self._lifespans: list[Lifespan] = []
        prefix = settings.path_prefix
        release = version("pegboard")
        hashing = self.clients.passwords
        self.metrics = Metrics(release, self.database, self.authentication, hashing, plugins, self.bulkheads, shared)
        self.specification = Specification(release, settings, plugins)
        docs = Docs(release, settings, plugins, self.specification.document)
        own = system.places(release, plugins, self._ready, prefix)
        self._router = Router((*own, self.metrics.place(), self.specification.place(), *docs.places()), prefix)
        self._router.mounts = {plugin.name: _STARTING for plugin in plugins}
        cors = (Cors(settings.cors_origins),) if settings.cors_origins else ()
        # Without a replica there is nothing to wait for.
        settled = (partial(pipeline.settle, self.database),) if settings.read_database_url else ()
        traced = () if self.tracing is None else (self.tracing,)
        steps = (
            *traced,
            partial(pipeline.finish, self.metrics.traffic),
            *cors,
            pipeline.tell_errors,
            self.authentication,
            *settled,
        )
        self.answer = pipeline.compose(steps, pipeline.dispatcher(self._router))

    async def lifespan(self, _: web.Application) -> AsyncIterator[None]:
        """Reach the database, or go on trying beside what can be served without; let go of everything at the end."""
        sweeper = Sweeper(self.bulkheads.values())
        watchdog = Watchdog(self.bulkheads, sweeper, self.settings.plugin_blocking)
        await self.database.start()
        sweeper.start()
        watchdog.start()
        self.metrics.start()
        yield
        await self._aftermath.close()
        for lifespan in reversed(self._lifespans):
            await lifespan.end()
        await self.metrics.stop()
        watchdog.stop()
        sweeper.stop()
        await self.authentication.close()
        await self.database.close()
        if self.tracing is not None:
            await self.tracing.close()

    def _admits(self, method: str, path: str) -> bool:
        return self._router.admits(method, path)

    def drain(self) -> None:
        """Tell whoever asks that no more requests should come."""
        self.draining = True

    async def shut_down(self, _: web.Application) -> None:
        """Take part in the end of the application, which has begun."""
        self.drain()

    def missing(self) -> list[str]:
        """Return the names of the required plugins that do not serve."""
        serving = {plugin.name for plugin in self.plugins if plugin.state is State.READY}
        return [name for name in self.settings.plugins_required if name not in serving]

    def resource(self, name: str) -> Resource:
        """Return the resource that serves under `name`; raises `ApiError` 503 where none does."""
        resource = self._resources.get(name)
        if resource is None:
            message = f"The plugin {name} is unavailable."
            raise ApiError(errors.PLUGIN_UNAVAILABLE, message, headers={"Retry-After": "60"})
        return resource

    async def _ready(self) -> ApiError | None:
        if self.draining:
            return ApiError(errors.SHUTTING_DOWN)
        if not (self.database.available and await self.database.answers()):
            message = self.database.fault if not self.database.available else None
            return ApiError(errors.DATABASE_UNAVAILABLE, message or None, headers={"Retry-After": "1"})
        missing = self.missing()
        return ApiError(errors.PLUGIN_UNAVAILABLE, f"Plugins are missing: {', '.join(missing)}.") if missing else None

    async def _bring_up(self) -> None:
        """Bring the database up to date and mount the plugins, as soon as the database answers."""
        try:
            outcomes = await migrating.migrate(self.settings.direct_url, migrations(self.plugins))
        except MigrationError as error:
            raise Unusable(str(error), final=isinstance(error, NewerSchema)) from error
        note_outcomes(self.plugins, outcomes)
        self.metrics.outcomes = outcomes
        made_up = await self.clients.ensure_administrator(self.settings.admin_password)
        if made_up is not None:
            # On the terminal and not in the log: it is told once, to whoever starts the service.
            print(f"The administrator is admin with the password {made_up}", flush=True)  # noqa: T201
        secret: bytes = await self.database.write.fetchval(_SECRET, "shared", secrets.token_bytes(32))
        await self.authentication.open()
        self.mount(secret)
        await self._begin_lifespans()

    async def _begin_lifespans(self) -> None:
        """Mount each plugin once its lifespan has begun, all at the same time, and take out those whose has not."""
        mounts = self._router.mounts
        waiting = {name: one for name, one in self._resources.items() if type(one).lifespan is not Resource.lifespan}
        for name in waiting:
            del self._resources[name]
        self._router.mounts = {**mounts, **dict.fromkeys(waiting, _STARTING)}
        plugins = {plugin.name: plugin for plugin in self.plugins}

        async def begin(name: str, resource: Resource) -> None:
            lifespan = Lifespan(resource, self.settings.lifespan_timeout)
            self._lifespans.append(lifespan)
            fault = await lifespan.begin()
            if fault is not None:
                self._lifespans.remove(lifespan)
                self._take_out(plugins[name], fault)
                return
            self._resources[name] = resource
            self._router.mounts = {**self._router.mounts, name: mounts[name]}
            lifespan.watch(partial(self._take_out, plugins[name]))

        await asyncio.gather(*(begin(*one) for one in waiting.items()))

    def _take_out(self, plugin: Plugin, fault: str) -> None:
        """Let a plugin serve no more."""
        plugin.fail(fault)
        self._resources.pop(plugin.name, None)
        self._router.mounts = {**self._router.mounts, plugin.name: _outage(plugin)}

    def mount(self, secret: bytes) -> None:
        """Mount the plugins; what cannot be mounted is out. They can work once the database has answered."""
        self._router.mounts = {plugin.name: self._mount(plugin, secret) for plugin in self.plugins}

    def _mount(self, plugin: Plugin, secret: bytes) -> Mount:
        if plugin.state is State.READY and plugin.resource is not None:
            bulkhead = self.bulkheads[plugin.name]
            services = Services(
                bulkhead.shares, secret, self.resource, self.clients.passwords, self._aftermath, plugin.settings
            )
            with plugin.guarded("it cannot be mounted", self.settings.plugin_load_timeout):
                resource = plugin.resource(plugin.name, services)
                mount = bulkhead.guard(endpoint.mount(resource, Idempotency(bulkhead.shares, secret), self.settings))
                self._resources[plugin.name] = resource
                return mount
        return _outage(plugin)


def _outage(plugin: Plugin) -> Mount:
    """Return what stands where a plugin does not serve: whoever needs no credentials there is told that, too."""
    public = frozenset(plugin.resource.public_verbs()) if plugin.resource else frozenset()
    return Mount(fault=plugin.fault or plugin.state, public=public)


SERVICE = web.AppKey("service", Service)


def create_app(
    settings: Settings,
    plugins: Sequence[Plugin],
    passwords: Passwords | None = None,
    shared: Shared | None = None,
) -> web.Application:
    """Return the application that serves `plugins`; give it to a `server.Runner`.

    `passwords` says how passwords are hashed, where that is not to be as secure as it should be. `shared` is where
    workers tell each other what they have counted.
    """
    app = web.Application()
    app[SERVICE] = service = Service(settings, plugins, passwords, shared)
    app[PIPELINE] = service.answer
    app[REFUSALS] = service.metrics.traffic.refusals
    app.cleanup_ctx.append(service.lifespan)
    app.on_shutdown.append(service.shut_down)
    return app


def open_database(
    settings: Settings,
    on_available: Callable[[], Awaitable[None]] | None = None,
    pool: Callable[..., Pool] = Pool,
) -> Database:
    """Return the database that `settings` name; nothing is opened yet."""
    return Database(
        settings.database_url or "",
        settings.read_database_url,
        write_size=settings.pool_size,
        read_size=settings.read_pool_size,
        timeout=settings.pool_timeout,
        statement_timeout=settings.database_timeout,
        pool=pool,
        prepare=settings.direct_database_url is None,
        on_available=on_available,
    )


def _bulkhead(plugin: Plugin, database: Database, settings: Settings) -> Bulkhead:
    name = plugin.name
    shares = Shares.of(database, settings.plugin_pool_share.of(name))
    requests, seconds = settings.plugin_requests.of(name), settings.plugin_timeout.of(name)
    return Bulkhead(name, requests, seconds, shares, plugin.package)


def migrations(plugins: Sequence[Plugin]) -> list[PluginMigrations]:
    """Return where the tables of each plugin that was loaded come from; one whose table cannot be is out."""
    found = []
    places = {name: place for plugin in plugins for name, place in _places(plugin)}
    for plugin in plugins:
        if plugin.state is not State.READY or plugin.resource is None:
            continue
        with plugin.guarded("its table cannot be made", _DESCRIBING):
            table = _described(plugin.resource, plugin.name, places)
            found.append(PluginMigrations(plugin.name, _sql_folder(plugin.package, plugin.name), table))
    return found


Place = tuple[str, str]


def _places(plugin: Plugin) -> Iterator[tuple[str, Place]]:
    """Yield where the items of a plugin are, as a schema and a table, where that was there before."""
    resource = plugin.resource
    if resource is not None and issubclass(resource, TableResource) and resource.table is not None:
        spec = resource.spec(plugin.name)
        yield plugin.name, (spec.schema, spec.name)


def _described(resource: type[Resource], name: str, places: Mapping[str, Place]) -> TableSpec | None:
    """Return the table that is made for a resource; None for one that has none, or one that is there already."""
    if not issubclass(resource, TableResource) or resource.table is not None:
        return None
    spec = resource.spec(name)
    columns = [
        replace(column, references=places.get(column.references[0], column.references)) if column.references else column
        for column in spec.columns
    ]
    return replace(spec, columns=tuple(columns))


def _sql_folder(package: str, name: str) -> Traversable | None:
    """Return a package's folder `migrations/NAME`, or else `migrations`; a single module has neither."""
    spec = find_spec(package)
    if not (spec and spec.submodule_search_locations):
        return None
    folder = files(package) / "migrations"
    return folder / name if (folder / name).is_dir() else folder


def note_outcomes(plugins: Sequence[Plugin], outcomes: dict[str, Outcome]) -> None:
    """Write into each plugin what became of its migrations."""
    for plugin in plugins:
        outcome = outcomes.get(plugin.name)
        if outcome is None or plugin.state is not State.READY:
            continue
        plugin.applied = outcome.applied
        if outcome.failure is not None:
            plugin.fail(outcome.failure)
