"""A service as a test runs it: on a free port, on a database of its own, with hashes that cost next to nothing."""

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
from pegboard.testing.client import PASSWORD, Client

T = TypeVar("T")

_COST = Cost(memory=8, passes=1)


class Loop:
    """Run an event loop on a thread of its own, for tests that have another loop or none."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = Thread(target=self.loop.run_forever, name="pegboard", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns; it blocks, so it is not for coroutines of this loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def stop(self) -> None:
        """End the loop, once all that was begun on it has ended."""
        self.run(self.loop.shutdown_asyncgens())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def new_database(postgres: str) -> str:
    """Make an empty database beside the one at the URL `postgres`, and return its URL."""
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f'CREATE DATABASE "{name}" STRATEGY wal_log')
    finally:
        await connection.close()
    return urlunsplit(urlsplit(postgres)._replace(path=f"/{name}"))


def settings_for(database_url: str, environ: Mapping[str, str], names: Sequence[str] = ()) -> Settings:
    """Return the settings of a service for tests; `environ` is what an operator would set, `names` the plugins'."""
    ours = {
        "PEGBOARD_ADMIN_PASSWORD": PASSWORD,
        "PEGBOARD_DATABASE_URL": database_url,
        "PEGBOARD_SHUTDOWN_TIMEOUT": "2",
    }
    return Settings.load({**ours, **environ}, names)


@dataclass(frozen=True)
class Launched:
    """Hold a service that serves on the loop it was launched on."""

    runner: web.AppRunner
    client: Client

    async def close(self) -> None:
        """Stop it."""
        await self.client.session.close()
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
    client = Client(runner.app[SERVICE], f"http://{host}:{port}", session, asyncio.get_running_loop())
    return Launched(runner, client)


class Running:
    """Be a running service, as the fixture `service` gives it.

    `url` is where it answers, `database_url` what it stores in, `client` one that holds all grants.
    """

    def __init__(self, loop: Loop, settings: Settings, plugins: Sequence[Plugin]) -> None:
        self.loop = loop
        self._launched = loop.run(launch(settings, plugins))
        out = [f"{plugin.name}: {plugin.error}" for plugin in plugins if plugin.state in (State.FAILED, State.CONFLICT)]
        if out:
            self.close()
            raise RuntimeError("these plugins are not ready: " + "; ".join(out))
        self.plugins = tuple(plugins)
        self.client = self._launched.client
        self.url = self.client.url
        self.database_url = settings.database_url or ""

    def client_with(self, *grants: str) -> Client:
        """Make a client that holds `grants`, each like `books:GET`, and no others."""
        username, password = f"client-{secrets.token_hex(8)}", secrets.token_urlsafe(18)
        self.loop.run(self.client.service.clients.add(username, password, grants))
        return self.client.as_client(username, password)

    def close(self) -> None:
        """Stop it."""
        self.loop.run(self._launched.close())
