"""A running service for tests: on a free port, with its own database and cheap hashes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import aiohttp
import asyncpg
from aiohttp import web

from pegboard.app import SERVICE, create_app
from pegboard.auth.passwords import Cost, Passwords
from pegboard.hosting.discovery import Plugin, State
from pegboard.running import make_runner
from pegboard.settings import Settings
from pegboard.testing.client import PASSWORD, Client, Target

T = TypeVar("T")

_COST = Cost(memory=8, passes=1)


class Loop:
    """Run an event loop in a thread, for tests that have another loop or none."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = Thread(target=self.loop.run_forever, name="pegboard", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result; blocks, so it must not be called from this loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def stop(self) -> None:
        """Stop the loop and close it."""
        self.run(self.loop.shutdown_asyncgens())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def new_database(postgres: str) -> str:
    """Create an empty database on the server of the URL `postgres`, and return its URL."""
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f'CREATE DATABASE "{name}" STRATEGY wal_log')
    finally:
        await connection.close()
    return urlunsplit(urlsplit(postgres)._replace(path=f"/{name}"))


def settings_for(database_url: str, environ: Mapping[str, str], names: Sequence[str] = ()) -> Settings:
    """Return the settings of a service for tests; `environ` are the operator's, `names` the names of the plugins."""
    defaults = {
        "PEGBOARD_ADMIN_PASSWORD": PASSWORD,
        "PEGBOARD_DATABASE_URL": database_url,
        "PEGBOARD_SHUTDOWN_TIMEOUT": "2",
    }
    return Settings.load({**defaults, **environ}, names)


@dataclass(frozen=True)
class Launched:
    """Hold a running service; use it on the event loop on which it was launched."""

    runner: web.AppRunner
    client: Client

    async def close(self) -> None:
        """Stop the service."""
        await self.client._target.session.close()
        await self.runner.cleanup()


async def launch(settings: Settings, plugins: Sequence[Plugin]) -> Launched:
    """Start a service on a free port of this machine."""
    runner = make_runner(create_app(settings, plugins, Passwords(_COST)), settings)
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    except BaseException:
        await runner.cleanup()
        raise
    host, port = runner.addresses[0][:2]
    session = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
    client = Client(Target(runner.app[SERVICE], session, asyncio.get_running_loop()), f"http://{host}:{port}")
    return Launched(runner, client)


class Running:
    """Run a service, as the fixture `service` does.

    `url` is its URL, `database_url` that of its database, `client` a client that holds all grants.
    """

    def __init__(self, loop: Loop, settings: Settings, plugins: Sequence[Plugin]) -> None:
        self.loop = loop
        self._launched = loop.run(launch(settings, plugins))
        failed = [
            f"{plugin.name}: {plugin.error}" for plugin in plugins if plugin.state in (State.FAILED, State.CONFLICT)
        ]
        if failed:
            self.close()
            raise RuntimeError("these plugins are not ready: " + "; ".join(failed))
        self._plugins = tuple(plugins)
        self.client = self._launched.client
        self._service = self.client._target.service
        self.url = self.client.url
        self.database_url = settings.database_url or ""

    def client_with(self, *grants: str) -> Client:
        """Create a client that holds only `grants`, each of the form `books:GET`."""
        username, password = f"client-{secrets.token_hex(8)}", secrets.token_urlsafe(18)
        self.loop.run(self._service.clients.add(username, password, grants))
        return self.client.as_client(username, password)

    def close(self) -> None:
        """Stop the service."""
        self.loop.run(self._launched.close())
