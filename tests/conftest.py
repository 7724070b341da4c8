"""A real PostgreSQL for the session, and real services over HTTP on databases of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import aiohttp
import asyncpg
import orjson
import pytest
import yarl
from aiohttp import web

from pegboard import discovery
from pegboard.app import SERVICE, Service, create_app
from pegboard.discovery import Plugin
from pegboard.postgres.embedded import EmbeddedServer
from pegboard.settings import Settings
from pegboard.web.server import Runner
from tests import conformance

ADMIN, PASSWORD = "admin", "correct horse"


@dataclass(frozen=True)
class Answer:
    """What came back: all of it, read."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def faults(self) -> list[tuple[int, str | None]]:
        """The code and place of every error."""
        return [
            (error["code"], error.get("pointer", error.get("parameter", error.get("header"))))
            for error in self.json["errors"]
        ]


@dataclass
class Api:
    """A client of a running service, with the credentials of the administrator unless it has others."""

    service: Service
    url: str
    session: aiohttp.ClientSession
    headers: dict[str, str] = field(default_factory=lambda: basic(ADMIN, PASSWORD))

    async def request(self, method: str, path: str, json: Any = None, **options: Any) -> Answer:
        headers = {"Accept-Encoding": "identity", **self.headers, **options.pop("headers", {})}
        if json is not None:
            options["data"] = orjson.dumps(json)
            headers.setdefault("Content-Type", "application/json")
        url = yarl.URL(self.url + path, encoded=True)
        async with self.session.request(method, url, headers=headers, allow_redirects=False, **options) as response:
            answer = Answer(response.status, response.headers, await response.read())
        conformance.of(self.service).check(method, path, answer.status, answer.headers, answer.body)
        return answer

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.request("GET", path, **options)

    async def head(self, path: str, **options: Any) -> Answer:
        return await self.request("HEAD", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> Answer:
        return await self.request("POST", path, json, **options)

    async def put(self, path: str, json: Any = None, **options: Any) -> Answer:
        return await self.request("PUT", path, json, **options)

    async def patch(self, path: str, json: Any = None, **options: Any) -> Answer:
        return await self.request("PATCH", path, json, **options)

    async def delete(self, path: str, **options: Any) -> Answer:
        return await self.request("DELETE", path, **options)

    def as_client(self, username: str, password: str) -> Api:
        """Return the same service as seen by another client; without a user name by nobody."""
        return replace(self, headers=basic(username, password) if username else {})


def basic(username: str, password: str) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(username, password)}


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a PostgreSQL for the session and give its URL."""
    server = EmbeddedServer(tmp_path_factory.mktemp("postgres"))
    yield server.start()
    server.stop()


@pytest.fixture(scope="module")
async def database_url(postgres: str) -> str:
    """Make an empty database and give its URL."""
    return await new_database(postgres)


async def new_database(postgres: str) -> str:
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f'CREATE DATABASE "{name}" STRATEGY wal_log')
    finally:
        await connection.close()
    return urlunsplit(urlsplit(postgres)._replace(path=f"/{name}"))


def plugin(name: str, resource: type, package: str = "none", **about: Any) -> Plugin:
    """Return a plugin as discovery would, for a resource that is written in a test."""
    fault = discovery.mistake(resource)
    found = Plugin(name, about.pop("distribution", "tests"), about.pop("version", "1"), package=package, **about)
    found.resource = resource
    if fault:
        found.fail(fault)
    return found


Serve = Callable[..., Awaitable[Api]]


@pytest.fixture(scope="module")
async def serve(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serve]:
    """Give a function that starts a service with plugins and settings; all stop at the end of the module."""
    runners: list[Runner] = []
    sessions: list[aiohttp.ClientSession] = []

    async def start(plugins: Sequence[Plugin] | None = None, **changes: Any) -> Api:
        settings = Settings.load({"PEGBOARD_ADMIN_PASSWORD": PASSWORD, "PEGBOARD_DATABASE_URL": database_url})
        settings = replace(settings, shutdown_timeout=2.0, **changes)
        if plugins is None:
            plugins = discovery.discover(discovery.installed())
        runner = Runner(create_app(settings, plugins), settings)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        session = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
        sessions.append(session)
        return Api(runner.app[SERVICE], f"http://{host}:{port}", session)

    yield start
    await asyncio.gather(*(session.close() for session in sessions))
    for runner in runners:
        await runner.cleanup()


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    """Run a service with the plugins that are installed."""
    return await serve()


@pytest.fixture
async def api(running: Api) -> Api:
    """Give the running service, its contacts gone."""
    await running.service.database.write.execute("TRUNCATE contacts.contacts")
    return running
