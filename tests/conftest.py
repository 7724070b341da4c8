"""A real PostgreSQL for the session, and real services over HTTP with their own databases."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]  # it ships no types

from pegboard.app import SERVICE, Service, create_app
from pegboard.auth.passwords import Cost, Passwords
from pegboard.hosting import discovery, error_blocks
from pegboard.hosting.checks.declaration import problem
from pegboard.hosting.discovery import Plugin
from pegboard.migrations import history, sqlfiles
from pegboard.postgres.embedded import EmbeddedServer
from pegboard.settings import Settings
from pegboard.testing.client import ADMIN, PASSWORD, Client, Response, Target, basic
from pegboard.testing.service import new_database, settings_for

__all__ = ("ADMIN", "PASSWORD", "Api", "Response", "Serve", "basic", "create_core_tables", "new_database", "plugin")

# The repository itself is not a plugin, so the fixtures are not loaded automatically.
pytest_plugins = ["pegboard.testing.fixtures"]


class Api(Client):
    """A client with access to the service itself."""

    @property
    def service(self) -> Service:
        return self._target.service

    @property
    def session(self) -> aiohttp.ClientSession:
        return self._target.session


# The slowest files start first, so that no process is left with one of them at the end.
LONGEST = (
    "test_docs",
    "test_openapi_tools",
    "test_cli",
    "test_paging",
    "test_embedded",
    "test_grants",
    "test_rolling",
    "test_backup",
)


class ByFile(LoadFileScheduling):  # type: ignore[misc]  # as above
    """Schedule tests by file, except those of pages, which are scheduled one by one."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if "/test_docs.py::" in nodeid else str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest files first."""
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session")
def postgres(pegboard_postgres: str) -> str:
    """Return the URL of the session's PostgreSQL."""
    return pegboard_postgres


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """Provide a PostgreSQL for the module that can be stopped."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(Path(folder) / "data")
        yield server
        server.stop()


@pytest.fixture(scope="module")
def dsn(server: EmbeddedServer) -> str:
    """Start the module's PostgreSQL and return its URL."""
    return server.start()


@pytest.fixture(scope="module")
def database_url(pegboard_database: str) -> str:
    """Return the URL of the module's database."""
    return pegboard_database


async def create_core_tables(connection: asyncpg.Connection) -> None:
    """Create the tables and functions of the core, which the tables of plugins use."""
    await connection.execute(history.BOOTSTRAP)
    for file in sqlfiles.read(files("pegboard") / "migrations"):
        await connection.execute(file.text)


def plugin(name: str, resource: type, package: str = "none", **about: Any) -> Plugin:
    """Return a plugin for a resource defined in a test, as discovery would."""
    error = problem(resource)
    if error is None:
        error_blocks.assign(getattr(resource, "error_codes", ()), 20_000)
    result = Plugin(name, about.pop("distribution", "tests"), about.pop("version", "1"), package=package, **about)
    result.resource = resource
    if error:
        result.fail(error)
    return result


def document_of(plugins: Sequence[Plugin], **changes: Any) -> dict[str, Any]:
    """Return the OpenAPI document of a service with these plugins and settings, without starting it."""
    return dict(create_app(Settings(**changes), plugins)[SERVICE].specification.document())


Serve = Callable[..., Awaitable[Api]]


AiohttpClient = Callable[..., Awaitable[TestClient[Any, Any]]]


@pytest.fixture(scope="module")
async def aiohttp_client() -> AsyncIterator[AiohttpClient]:
    """Provide pytest-aiohttp's client factory with module scope."""
    clients: list[TestClient[Any, Any]] = []

    async def start(
        app: web.Application, *, server_kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> TestClient[Any, Any]:
        server = TestServer(app)
        await server.start_server(**(server_kwargs or {}))
        clients.append(TestClient(server, **options))
        await clients[-1].start_server()
        return clients[-1]

    yield start
    for client in clients:
        await client.close()


@pytest.fixture(scope="module")
def serve(aiohttp_client: AiohttpClient, database_url: str) -> Serve:
    """Return a function that starts a service with plugins and settings; all are stopped at the end of the module."""

    async def start(plugins: Sequence[Plugin] | None = None, **changes: Any) -> Api:
        settings = replace(settings_for(database_url, {}), **changes)
        if plugins is None:
            plugins = discovery.discover(discovery.installed())
        app = create_app(settings, plugins, Passwords(Cost(memory=8, passes=1)))
        running = {"shutdown_timeout": settings.shutdown_timeout, "access_log": None}
        connector = aiohttp.TCPConnector(limit=0)
        client = await aiohttp_client(app, server_kwargs=running, auto_decompress=False, connector=connector)
        target = Target(app[SERVICE], client.session, asyncio.get_running_loop())
        return Api(target, str(client.make_url("")).rstrip("/"))

    return start


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    """Run a service with the installed plugins."""
    return await serve()


@pytest.fixture
async def api(running: Api) -> Api:
    """Return the running service with all contacts deleted."""
    await running.service.database.write.execute("TRUNCATE contacts.contacts")
    return running
