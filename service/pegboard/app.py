"""The application: the one module that creates the parts, connects them, and starts and stops them."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pegboard import errors, middlewares
from pegboard.api.backend import Services
from pegboard.api.changes import BackgroundTasks
from pegboard.api.resource import Resource, create
from pegboard.auth.basic import Authentication
from pegboard.auth.clients import Clients
from pegboard.auth.passwords import Passwords
from pegboard.docs.openapi.specification import Specification
from pegboard.docs.reference.handlers import Docs
from pegboard.endpoints import system
from pegboard.endpoints.describe.plugins import describe
from pegboard.endpoints.describe.service import service_endpoints
from pegboard.endpoints.handlers import resource_handlers
from pegboard.endpoints.idempotency import Idempotency
from pegboard.endpoints.table import ROOT, Table
from pegboard.errors import ApiError
from pegboard.hosting import discovery, extensions
from pegboard.hosting.bulkheads import Bulkhead, Sweeper
from pegboard.hosting.discovery import Plugin, State
from pegboard.hosting.lifespan import Lifespan
from pegboard.hosting.migrations import migrations, record_outcomes
from pegboard.hosting.watchdog import Watchdog
from pegboard.http import protocol
from pegboard.http.cors import Cors
from pegboard.http.request import Limits, RequestIds
from pegboard.migrations import runner
from pegboard.migrations.sqlfiles import MigrationError
from pegboard.migrations.status import NewerSchema
from pegboard.postgres.database import Database, Unusable
from pegboard.postgres.pool import Pool
from pegboard.postgres.share import Shares
from pegboard.schema.loading import parse_uuid
from pegboard.settings import Settings, SettingsError
from pegboard.telemetry import tracing
from pegboard.telemetry.metrics import Metrics
from pegboard.telemetry.sharing import SharedMetrics
from pegboard.telemetry.tracing import Tracing

log = logging.getLogger("pegboard")

_SECRET = """
WITH inserted AS (INSERT INTO pegboard.secret (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING value)
SELECT value FROM inserted UNION ALL SELECT value FROM pegboard.secret WHERE name = $1 LIMIT 1"""


class Service:
    """Hold the parts of one running service, and report whether it is ready."""

    def __init__(
        self,
        settings: Settings,
        plugins: Sequence[Plugin],
        passwords: Passwords | None = None,
        shared: SharedMetrics | None = None,
    ) -> None:
        self.settings = settings
        self.plugins = plugins
        self.draining = False
        self._is_worker = shared is not None
        self.prefix = settings.path_prefix
        """The prefix of all paths: the one that a proxy removes, then the one that the application is mounted under."""
        self.tracing = Tracing(*tracing.provider()) if settings.tracing else None
        self.database = open_database(settings, self._on_available, self.tracing.pools() if self.tracing else Pool)
        self._names = {alias: plugin.name for plugin in plugins for alias in plugin.aliases}
        self.clients = Clients(self.database.write, passwords, self._names)
        self.authentication = Authentication(self.clients, settings)
        self.bulkheads = {plugin.name: _bulkhead(plugin, self.database, settings) for plugin in plugins}
        self._resources: dict[str, Resource] = {}
        self._background_tasks = BackgroundTasks()
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
        own_endpoints = service_endpoints(handlers, docs.assets(), docs_public=settings.docs_public)
        self.table = Table(
            (*own_endpoints, *described.endpoints), self.bulkheads, settings.path_prefix, described.public, self._names
        )
        self.specification = Specification(release, plugins, self.table, described, self._prefix)

    def _prefix(self) -> str:
        return self.prefix

    def middlewares(self, ids: RequestIds) -> Iterator[Middleware]:
        """Yield the enabled middlewares, outermost first."""
        settings = self.settings
        limits = Limits(settings.max_body, settings.receive_timeout)
        yield middlewares.observe(self.table, ids, limits, self.metrics.traffic, lambda: self.draining)
        if self.tracing is not None:
            yield self.tracing
        if settings.cors_origins:
            yield middlewares.preflight(Cors(settings.cors_origins))
        yield middlewares.handle_errors
        yield from extensions.middlewares(settings.middlewares)
        yield self.authentication
        # Only a replica can lag behind.
        if settings.read_database_url:
            yield middlewares.wait_for_replica(self.database)
        yield middlewares.authorize
        yield middlewares.enforce_plugin_limits

    async def lifespan(self, app: web.Application) -> AsyncIterator[None]:
        """Start the parts of the service, and stop them in the reverse order.

        While the database is unavailable, the service retries the connection and serves what needs no database.
        """
        if not self.settings.database_url:
            raise SettingsError("PEGBOARD_DATABASE_URL is not set: set it, or start the service with pegboard serve.")
        if self.draining:
            raise RuntimeError("This application was shut down; create another with create_app().")
        # Only now is it known whether another application has mounted this one.
        self.prefix = self.settings.path_prefix + str(app.router[ROOT].url_for()).rstrip("/")
        sweeper = Sweeper(self.bulkheads.values())
        watchdog = Watchdog(self.bulkheads, sweeper, self.settings.plugin_blocking)
        await self.database.start()
        sweeper.start()
        watchdog.start()
        self.metrics.start()
        yield
        await self._background_tasks.close()
        for lifespan in reversed(self._lifespans):
            await lifespan.stop()
        await self.metrics.stop()
        watchdog.stop()
        sweeper.stop()
        await self.authentication.close()
        await self.database.close()
        if self.tracing is not None:
            await self.tracing.close()

    def drain(self) -> None:
        """Report the service as not ready, so that load balancers stop sending requests; retry no more requests."""
        self.draining = True
        for bulkhead in self.bulkheads.values():
            bulkhead.retries.stop()

    async def shut_down(self, _: web.Application) -> None:
        """Drain when the application shuts down."""
        self.drain()

    def missing_plugins(self) -> list[str]:
        """Return the names of the required plugins that are not ready."""
        serving = {plugin.name for plugin in self.plugins if plugin.state is State.READY}
        return [name for name in self.settings.plugins_required if name not in serving]

    def resource(self, name: str) -> Resource:
        """Return the resource named `name`; raises `ApiError` 503 if it is not available."""
        resource = self._resources.get(self._names.get(name, name))
        if resource is None:
            message = f"The plugin {name} is unavailable."
            raise errors.PluginUnavailable(message, headers={"Retry-After": "60"})
        return resource

    async def _ready(self) -> ApiError | None:
        if self.draining:
            return errors.ShuttingDown()
        if not (self.database.available and await self.database.ping()):
            message = self.database.problem if not self.database.available else None
            return errors.DatabaseUnavailable(message or None, headers={"Retry-After": "1"})
        missing = self.missing_plugins()
        return errors.PluginUnavailable(f"Plugins not available: {', '.join(missing)}.") if missing else None

    async def _on_available(self) -> None:
        """Migrate the database and mount the plugins, once the database is available."""
        try:
            outcomes = await runner.migrate(self.settings.direct_url, migrations(self.plugins))
        except MigrationError as error:
            raise Unusable(str(error), final=isinstance(error, NewerSchema)) from error
        record_outcomes(self.plugins, outcomes)
        self.metrics.outcomes = outcomes
        generated = await self.clients.ensure_administrator(self.settings.admin_password)
        if generated is not None:
            # On the terminal and not in the log: it is shown once, to the operator who starts the service.
            print(f"The administrator is admin with the password {generated}", flush=True)  # noqa: T201
        # Workers do not repeat what the process that prepared the database has logged.
        if self.settings.admin_password is not None and not self._is_worker:
            await self.clients.warn_of_other_password(self.settings.admin_password)
        secret: bytes = await self.database.write.fetchval(_SECRET, "shared", secrets.token_bytes(32))
        await self.authentication.open()
        self.mount(secret)
        await self._start_lifespans()

    async def _start_lifespans(self) -> None:
        """Start the lifespans of the plugins concurrently; each plugin serves once its own has started."""
        waiting = {
            name: resource
            for name, resource in self._resources.items()
            if type(resource).lifespan is not Resource.lifespan
        }
        handlers = {name: self.bulkheads[name].handlers for name in waiting}
        for name in waiting:
            del self._resources[name]
            self.bulkheads[name].handlers = {}
        plugins = {plugin.name: plugin for plugin in self.plugins}

        async def begin(name: str, resource: Resource) -> None:
            lifespan = Lifespan(resource, self.settings.lifespan_timeout)
            self._lifespans.append(lifespan)
            reason = await lifespan.start()
            if reason is not None:
                self._lifespans.remove(lifespan)
                self._fail_plugin(plugins[name], reason)
                return
            self._resources[name] = resource
            self.bulkheads[name].handlers = handlers[name]
            lifespan.on_early_end(partial(self._fail_plugin, plugins[name]))

        await asyncio.gather(*(begin(name, resource) for name, resource in waiting.items()))

    def _fail_plugin(self, plugin: Plugin, reason: str) -> None:
        plugin.fail(reason)
        self._resources.pop(plugin.name, None)
        self.bulkheads[plugin.name].handlers = {}

    def mount(self, secret: bytes) -> None:
        """Mount the plugins; one that cannot be mounted fails. Requests that need the database wait for it."""
        for plugin in self.plugins:
            if plugin.state is State.READY and plugin.resource is not None:
                for alias in plugin.aliases:
                    log.info("plugin %s: /%s redirects to it, and grants on %s apply to it", plugin.name, alias, alias)
                with plugin.guarded("it cannot be mounted", self.settings.plugin_load_timeout):
                    self._mount(plugin, plugin.resource, secret)

    def _mount(self, plugin: Plugin, resource: type[Resource], secret: bytes) -> None:
        bulkhead, declared = self.bulkheads[plugin.name], self.description.declared[plugin.name]
        services = Services(
            bulkhead.shares,
            secret,
            self.resource,
            self.clients.passwords,
            self._background_tasks,
            plugin.storage,
            plugin.settings,
        )
        instance = create(resource, plugin.name, services)
        idempotency = Idempotency(bulkhead.shares, secret, plugin.name, plugin.storage)
        path = f"{self.prefix}/{plugin.name}"
        handlers = resource_handlers(instance, declared, idempotency, self.settings, path)
        bulkhead.parse_id = parse_uuid if declared.has_uuids else instance.parse_id
        bulkhead.handlers, self._resources[plugin.name] = handlers, instance


SERVICE = web.AppKey("service", Service)


def create_app(
    settings: Settings | None = None,
    plugins: Sequence[Plugin] | None = None,
    passwords: Passwords | None = None,
    shared: SharedMetrics | None = None,
) -> web.Application:
    """Return the application that serves `plugins`, to run on its own or to mount in another application.

    Without `settings`, they are read from the environment; without `plugins`, all installed plugins are served that the
    settings do not exclude. An application can be started once: to start another, call this function again. `passwords`
    replaces the hashing of passwords, for instance by a faster one in tests. `shared` is where workers exchange their
    metrics.

    Raises `SettingsError` for invalid settings, and if a middleware that they name cannot be imported. Starting the
    application raises it if no database is configured, and `RuntimeError` if the application was stopped before.
    """
    if settings is None:
        settings = Settings.load(os.environ, [point.name for point in discovery.installed()])
    if plugins is None:
        plugins = discovery.discover(
            discovery.installed(), settings.plugins, settings.plugin_load_timeout, mounts=dict(settings.mounts)
        )
    service, ids = Service(settings, plugins, passwords, shared), RequestIds()
    app = web.Application(middlewares=service.middlewares(ids), client_max_size=settings.max_body)
    app[SERVICE] = service
    service.table.register(app.router)
    app.on_response_prepare.append(middlewares.add_headers)
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
    """Return the database that `settings` name, without a connection to it."""
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
