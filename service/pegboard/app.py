"""The application: the only place where the parts are joined and their lifetimes begin and end."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pegboard import errors, middlewares
from pegboard.api.changes import Aftermath
from pegboard.api.resource import Resource, Services
from pegboard.api.table import TableResource
from pegboard.auth.basic import Authentication
from pegboard.auth.clients import Clients
from pegboard.auth.passwords import Passwords
from pegboard.docs.openapi.specification import Specification
from pegboard.docs.reference.docs import Docs
from pegboard.endpoints import serving, system
from pegboard.endpoints.describe.plugins import describe
from pegboard.endpoints.describe.service import service_endpoints
from pegboard.endpoints.idempotency import Idempotency
from pegboard.endpoints.table import ROOT, Table
from pegboard.errors import ApiError
from pegboard.hosting import discovery, extensions
from pegboard.hosting.bulkheads import Bulkhead, Sweeper
from pegboard.hosting.discovery import Plugin, State
from pegboard.hosting.lifespan import Lifespan
from pegboard.hosting.watchdog import Watchdog
from pegboard.http import protocol
from pegboard.http.cors import Cors
from pegboard.http.request import Limits, RequestIds
from pegboard.migrations import runner
from pegboard.migrations.sqlfiles import MigrationError
from pegboard.migrations.status import NewerSchema, Outcome, PluginMigrations
from pegboard.postgres.database import Database, Unusable
from pegboard.postgres.pool import Pool
from pegboard.postgres.share import Shares
from pegboard.schema.ddl import TableSpec
from pegboard.schema.loading import parse_uuid
from pegboard.settings import Settings, SettingsError
from pegboard.telemetry import tracing
from pegboard.telemetry.metrics import Metrics
from pegboard.telemetry.sharing import Shared
from pegboard.telemetry.tracing import Tracing

log = logging.getLogger("pegboard")

_DESCRIBING = 10.0
"""So many seconds a plugin has to say what its table is."""

_SECRET = """
WITH made AS (INSERT INTO pegboard.secret (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING value)
SELECT value FROM made UNION ALL SELECT value FROM pegboard.secret WHERE name = $1 LIMIT 1"""


class Service:
    """Hold the parts of one running service, and know whether it is ready."""

    def __init__(
        self,
        settings: Settings,
        plugins: Sequence[Plugin],
        passwords: Passwords | None = None,
        shared: Shared | None = None,
    ) -> None:
        self.settings = settings
        self.plugins = plugins
        self.draining = False
        self.prefix = settings.path_prefix
        """What stands before all paths: the prefix that a proxy takes away, and where the application is mounted."""
        self.tracing = Tracing(*tracing.provider()) if settings.tracing else None
        self.database = open_database(settings, self._bring_up, self.tracing.pools() if self.tracing else Pool)
        self.clients = Clients(self.database.write, passwords)
        self.authentication = Authentication(self.clients, settings)
        self.bulkheads = {plugin.name: _bulkhead(plugin, self.database, settings) for plugin in plugins}
        self._resources: dict[str, Resource] = {}
        self._aftermath = Aftermath()
        self._lifespans: list[Lifespan] = []
        release = version("pegboard")
        hashing = self.clients.passwords
        self.metrics = Metrics(release, self.database, self.authentication, hashing, plugins, self.bulkheads, shared)
        self.description = described = describe(plugins, self.bulkheads, settings.plugin_load_timeout)
        docs = Docs(release, settings, plugins, described.declared, lambda: self.specification.document(), self._prefix)
        handlers: dict[str, Handler] = {
            **system.handlers(release, plugins, described.declared, self._ready, self._prefix),
            "metrics": self.metrics.show,
            "openapi": lambda request: self.specification.show(request),
            "docs": docs.overview,
            "docs.resource": docs.resource,
        }
        own = service_endpoints(handlers, docs.assets(), docs_public=settings.docs_public)
        self.table = Table((*own, *described.endpoints), self.bulkheads, settings.path_prefix, described.public)
        self.specification = Specification(release, plugins, self.table, described, self._prefix)

    def _prefix(self) -> str:
        return self.prefix

    def middlewares(self, ids: RequestIds) -> Iterator[Middleware]:
        """Yield the middlewares, outermost first; what is switched off is not among them."""
        settings = self.settings
        limits = Limits(settings.max_body, settings.receive_timeout)
        yield middlewares.observe(self.table, ids, limits, self.metrics.traffic, lambda: self.draining)
        if self.tracing is not None:
            yield self.tracing
        if settings.cors_origins:
            yield middlewares.cross_origin(Cors(settings.cors_origins))
        yield middlewares.tell_errors
        yield from extensions.middlewares(settings.middlewares)
        yield self.authentication
        # Without a replica there is nothing to wait for.
        if settings.read_database_url:
            yield middlewares.settle(self.database)
        yield middlewares.authorize
        yield middlewares.guard

    async def lifespan(self, app: web.Application) -> AsyncIterator[None]:
        """Reach the database, or go on trying beside what can be served without; let go of everything at the end."""
        if not self.settings.database_url:
            raise SettingsError("PEGBOARD_DATABASE_URL is not set: set it, or start the service with pegboard serve.")
        if self.draining:
            raise RuntimeError("This application has ended: make another one with create_app().")
        # By now it is known whether the application is a part of another.
        self.prefix = self.settings.path_prefix + str(app.router[ROOT].url_for()).rstrip("/")
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
            raise errors.PluginUnavailable(message, headers={"Retry-After": "60"})
        return resource

    async def _ready(self) -> ApiError | None:
        if self.draining:
            return errors.ShuttingDown()
        if not (self.database.available and await self.database.ping()):
            message = self.database.fault if not self.database.available else None
            return errors.DatabaseUnavailable(message or None, headers={"Retry-After": "1"})
        missing = self.missing()
        return errors.PluginUnavailable(f"Plugins not available: {', '.join(missing)}.") if missing else None

    async def _bring_up(self) -> None:
        """Bring the database up to date and mount the plugins, as soon as the database answers."""
        try:
            outcomes = await runner.migrate(self.settings.direct_url, migrations(self.plugins))
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
        """Let each plugin serve once its lifespan has begun, all at the same time; those whose has not are down."""
        waiting = {name: one for name, one in self._resources.items() if type(one).lifespan is not Resource.lifespan}
        handlers = {name: self.bulkheads[name].handlers for name in waiting}
        for name in waiting:
            del self._resources[name]
            self.bulkheads[name].handlers = {}
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
            self.bulkheads[name].handlers = handlers[name]
            lifespan.watch(partial(self._take_out, plugins[name]))

        await asyncio.gather(*(begin(*one) for one in waiting.items()))

    def _take_out(self, plugin: Plugin, fault: str) -> None:
        """Let a plugin serve no more."""
        plugin.fail(fault)
        self._resources.pop(plugin.name, None)
        self.bulkheads[plugin.name].handlers = {}

    def mount(self, secret: bytes) -> None:
        """Let the plugins serve; one that cannot is down. They can work once the database has answered."""
        for plugin in self.plugins:
            if plugin.state is State.READY and plugin.resource is not None:
                with plugin.guarded("it cannot be mounted", self.settings.plugin_load_timeout):
                    self._mount(plugin, plugin.resource, secret)

    def _mount(self, plugin: Plugin, resource: type[Resource], secret: bytes) -> None:
        bulkhead, declared = self.bulkheads[plugin.name], self.description.declared[plugin.name]
        services = Services(
            bulkhead.shares, secret, self.resource, self.clients.passwords, self._aftermath, plugin.settings
        )
        made = resource(plugin.name, services)
        idempotency = Idempotency(bulkhead.shares, secret)
        path = f"{self.prefix}/{plugin.name}"
        handlers = serving.handlers(made, declared, idempotency, self.settings, path)
        bulkhead.parse_id = parse_uuid if declared.has_uuids else made.parse_id
        bulkhead.handlers, self._resources[plugin.name] = handlers, made


SERVICE = web.AppKey("service", Service)


def create_app(
    settings: Settings | None = None,
    plugins: Sequence[Plugin] | None = None,
    passwords: Passwords | None = None,
    shared: Shared | None = None,
) -> web.Application:
    """Return the application that serves `plugins`, to be run by itself or as a part of another application.

    Without `settings`, they are read from the environment; without `plugins`, all that are installed and that the
    settings do not leave out are served. Both are for one application: to start another, call this again. `passwords`
    says how passwords are hashed, where that is not to be as secure as it should be. `shared` is where workers tell
    each other what they have counted.

    Raises `SettingsError` for settings that are wrong, and where a middleware that they name cannot be had; starting
    the application raises it where no database is named, and `RuntimeError` where it has been stopped before.
    """
    if settings is None:
        settings = Settings.load(os.environ, [point.name for point in discovery.installed()])
    if plugins is None:
        plugins = discovery.discover(discovery.installed(), settings.plugins, settings.plugin_load_timeout)
    service, ids = Service(settings, plugins, passwords, shared), RequestIds()
    app = web.Application(middlewares=service.middlewares(ids), client_max_size=settings.max_body)
    app[SERVICE] = service
    service.table.register(app.router)
    app.on_response_prepare.append(middlewares.complete)
    if settings.cors_origins:
        app.on_response_prepare.append(Cors(settings.cors_origins).on_response_prepare)
    app.cleanup_ctx.append(service.lifespan)
    app.on_shutdown.append(service.shut_down)
    protocol.install(app, settings, ids, service.metrics.traffic.refusals)
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
        with plugin.guarded("its table cannot be described", _DESCRIBING):
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
