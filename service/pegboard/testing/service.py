"""A running service for tests: on a free port, with its own database and cheap hashes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from uuid import uuid4

import aiohttp
import asyncpg
from aiohttp import web

from pegboard.app import SERVICE, create_app
from pegboard.auth.passwords import Cost, Passwords
from pegboard.hosting.discovery import Plugin, State
from pegboard.postgres import hosts
from pegboard.running import make_runner
from pegboard.settings import PREFIX, Settings
from pegboard.testing.cleaning import Cleaner
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
    connection = await hosts.connect(postgres, 60, {})
    try:
        await connection.execute(f'CREATE DATABASE "{name}" STRATEGY wal_log')
    finally:
        await connection.close()
    return url_of(postgres, name)


def url_of(postgres: str, database: str) -> str:
    """Return the URL of a database on the server of the URL `postgres`.

    It can be pasted into a shell after `psql`: the folder of a socket takes the place of the host, so that there are no
    parameters, whose `?` and `&` a shell would interpret.
    """
    parts = urlsplit(postgres)
    parameters = dict(parse_qsl(parts.query))
    netloc = parts.netloc
    if not netloc and "host" in parameters:
        host, user, port = (parameters.pop(name, "") for name in ("host", "user", "port"))
        netloc = f"{quote(user, safe='')}@" if user else ""
        netloc += quote(host, safe="") + (f":{port}" if port else "")
    query = f"?{urlencode(parameters, quote_via=quote, safe='')}" if parameters else ""
    # Unlike `urlunsplit`, with two slashes even before an empty host.
    return f"{parts.scheme}://{netloc}/{quote(database, safe='')}{query}"


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


def _names_setting(error: str) -> bool:
    return PREFIX in error


class Running:
    """Run a service, as the fixture `service` does.

    `url` is its URL, `database_url` that of its database, `client` a client that holds all grants.
    """

    def __init__(self, loop: Loop, settings: Settings, plugins: Sequence[Plugin]) -> None:
        self.loop = loop
        self._cleaner: Cleaner | None = None
        self._launched = loop.run(launch(settings, plugins))
        failed = [
            f"{plugin.name}: {plugin.error}" for plugin in plugins if plugin.state in (State.FAILED, State.CONFLICT)
        ]
        if failed:
            self.close()
            hint = " (the fixture pegboard_settings provides settings)" if any(map(_names_setting, failed)) else ""
            raise RuntimeError("these plugins are not ready: " + "; ".join(failed) + hint)
        self._plugins = tuple(plugins)
        self.client = self._launched.client
        self._service = self.client._target.service
        self.url = self.client.url
        self.database_url = settings.database_url or ""
        self._usernames = set(loop.run(self._list_usernames()))
        # Other servers than that of the kit may not allow it.
        with suppress(asyncpg.InsufficientPrivilegeError):
            self._cleaner = loop.run(Cleaner.start(self.database_url))

    def client_with(self, *grants: str) -> Client:
        """Create a client that holds only `grants`, each of the form `books:GET`."""
        username, password = f"client-{secrets.token_hex(8)}", secrets.token_urlsafe(18)
        self.loop.run(self._service.clients.add(username, password, grants))
        self._usernames.add(username)
        return self.client.as_client(username, password)

    def clean(self) -> None:
        """Restore the tables of all plugins to their state after the start, and remove clients that others created."""
        if self._cleaner is None:
            raise RuntimeError("only a superuser of the database can restore its tables")
        self.loop.run(self._clean(self._cleaner))

    def close(self) -> None:
        """Stop the service."""
        self.loop.run(self._close())

    async def _clean(self, cleaner: Cleaner) -> None:
        await cleaner.restore()
        for username in await self._list_usernames():
            if username not in self._usernames:
                await self._service.clients.remove(username)

    async def _list_usernames(self) -> list[str]:
        return [client.username for client in await self._service.clients.list()]

    async def _close(self) -> None:
        if self._cleaner is not None:
            await self._cleaner.close()
        await self._launched.close()
