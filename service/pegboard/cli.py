"""The command line: `pegboard serve`, `healthcheck`, `migrate`, `plugins`, `openapi`, `client`."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from importlib.metadata import version
from typing import Any, TypeVar

import asyncpg
import click

from pegboard import discovery, logs, running
from pegboard.access.clients import Clients
from pegboard.app import Service, migrations, note_outcomes, open_database
from pegboard.discovery import Plugin
from pegboard.errors import ApiError
from pegboard.openapi.specification import Specification
from pegboard.postgres.embedded import EmbeddedError, EmbeddedServer, dsn_of
from pegboard.running import StartError
from pegboard.settings import SETTINGS, Expected, Setting, Settings, SettingsError
from pegboard.tables import migrating
from pegboard.tables.sqlfiles import MigrationError

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

_EXPECTED = (SettingsError, EmbeddedError, StartError, MigrationError, ApiError)
_DATABASE = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
# Where a service is reached that listens on every address.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_HEALTH_TIMEOUT = 3.0


class Commands(click.Group):
    """Tell every expected fault in one line, and end with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except _EXPECTED as error:
            raise click.ClickException(str(error)) from error
        except _DATABASE as error:
            raise click.ClickException(f"the database cannot be used: {' '.join(str(error).split())}") from error


class SettingType(click.ParamType[Any]):
    """Take what the setting takes that the option stands for."""

    def __init__(self, setting: Setting) -> None:
        self.name = setting.name
        self._setting = setting

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value of the setting."""
        try:
            return self._setting.parse(value)
        except Expected as expected:
            self.fail(f"{value!r}: it must be {expected}.", param, ctx)


def _option(name: str) -> Callable[[Command], Command]:
    setting = next(setting for setting in SETTINGS if setting.name == name)
    meaning = f"{setting.description} [{setting.variable}; default {setting.default}]"
    return click.option(f"--{name}", type=SettingType(setting), help=meaning)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("pegboard"), message="%(prog)s %(version)s")
def main() -> None:
    """Run and look after a Pegboard service. Settings come from PEGBOARD_* in the environment."""
    # What is wrong is told by the command itself; only a service has a log.
    logs.configure("critical", "text")


@main.command()
@_option("host")
@_option("port")
@_option("workers")
def serve(**options: Any) -> None:
    """Serve the API until interrupted."""
    running.end_on_signals()
    given = {name: value for name, value in options.items() if value is not None}
    settings = dataclasses.replace(_settings(), **given)
    logs.configure(settings.log_level, settings.log_format)
    with running.listen(settings.host, settings.port) as listening, _database(settings) as settings:
        address = _address(listening)
        kept = _serve(settings, given, listening, lambda: _announce(address))
    if kept is not None:
        running.begin_anew(kept)


def _serve(
    settings: Settings, given: Mapping[str, Any], listening: socket.socket, announce: Callable[[], None]
) -> socket.socket | None:
    """Serve until told to stop; return the socket on which this process is to begin anew, if it is."""

    def read_settings() -> Settings:
        fresh = dataclasses.replace(_settings(), **given)
        # An embedded database stays where it is.
        return dataclasses.replace(fresh, database_url=fresh.database_url or settings.database_url)

    if settings.workers == 1:

        def started(service: Service) -> None:
            running.require(service)
            announce()

        return running.run(running.serve(settings, _plugins(settings), listening, started, read_settings))
    # Only here, since gunicorn is more than a single process should hold in memory.
    from pegboard import workers

    workers.prepare(settings, _plugins)
    workers.Workers(read_settings, _plugins, listening, announce).run()
    return None


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(address: str) -> None:
    click.echo(f"Pegboard {version('pegboard')} serves on {address}")


@main.command()
def healthcheck() -> None:
    """Ask the service on this machine for its health: status 0 if it serves, 1 if it does not."""
    settings = _settings()
    host = _LOOPBACK.get(settings.host, settings.host)
    # Not urllib: it would ask a proxy that the environment names.
    connection = HTTPConnection(host, settings.port, timeout=_HEALTH_TIMEOUT)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise click.ClickException(f"no service answers on {host}:{settings.port}: {reason}") from error
    finally:
        connection.close()
    if status != 200:
        raise click.ClickException(f"{host}:{settings.port} answers {status}")
    click.echo("ok")


@main.command()
def migrate() -> None:
    """Bring the tables of the core and of every plugin up to date."""
    settings = _settings()
    with _database(settings, attach=True) as settings:
        plugins = _plugins(settings)
        outcomes = asyncio.run(migrating.migrate(settings.database_url or "", migrations(plugins)))
    note_outcomes(plugins, outcomes)
    for name, outcome in outcomes.items():
        done = f"applied {', '.join(outcome.now)}" if outcome.now else "nothing to do"
        click.echo(f"{name}: {outcome.failure or done}" if outcome.installed else f"{name}: no longer installed")
    faults = {plugin.name: plugin.fault for plugin in plugins if plugin.fault}
    for name in faults.keys() - outcomes.keys():
        click.echo(f"{name}: {faults[name]}")
    if faults:
        raise SystemExit(1)


@main.command()
def plugins() -> None:
    """List the plugins that are installed, and why one of them does not serve."""
    settings = _settings()
    with _database(settings, attach=True) as settings:
        found = _plugins(settings)
        outcomes = asyncio.run(migrating.status(settings.database_url or "", migrations(found)))
    note_outcomes(found, outcomes)
    for plugin in found:
        parts = (plugin.name, f"{plugin.distribution} {plugin.version}", plugin.state, plugin.fault or "")
        click.echo("\t".join(parts).rstrip())


@main.command()
def openapi() -> None:
    """Print the OpenAPI document of all that is installed; no database is needed."""
    settings = _settings()
    specification = Specification(version("pegboard"), settings, _plugins(settings))
    click.echo(json.dumps(specification.document(), indent=2, ensure_ascii=False))


@main.group()
def client() -> None:
    """Look after the clients: who may use the API, and for what."""


_username = click.argument("username")
_grants = click.argument("grants", nargs=-1)


@client.command("add")
@_username
@_grants
def add(username: str, grants: tuple[str, ...]) -> None:
    """Add a client that holds GRANTS, such as contacts:GET or '*:*'.

    The password is asked for; where there is no terminal, it is the first line of standard input.
    """
    password = _ask()
    _with_clients(lambda clients: clients.add(username, password, grants))
    click.echo(f"{username} was added.")


@client.command("list")
def list_clients() -> None:
    """List the clients with their grants."""
    for found in _with_clients(lambda clients: clients.list()):
        parts = (found.username, " ".join(sorted(found.grants)), "" if found.active else "inactive")
        click.echo("\t".join(parts).rstrip())


@client.command()
@_username
def passwd(username: str) -> None:
    """Give a client another password.

    It is asked for; where there is no terminal, it is the first line of standard input.
    """
    password = _ask()
    _with_clients(lambda clients: clients.set_password(username, password))
    click.echo(f"{username} has a new password.")


@client.command()
@_username
@_grants
def grant(username: str, grants: tuple[str, ...]) -> None:
    """Let a client hold GRANTS and no others."""
    _with_clients(lambda clients: clients.set_grants(username, grants))
    click.echo(f"{username} holds {' '.join(grants) or 'no grants'}.")


@client.command()
@_username
def remove(username: str) -> None:
    """Remove a client."""
    _with_clients(lambda clients: clients.remove(username))
    click.echo(f"{username} was removed.")


def _ask() -> str:
    """Return a password, which never stands on the command line: others could read it there."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().removesuffix("\n")


def _with_clients(act: Callable[[Clients], Awaitable[T]]) -> T:
    """Return what `act` makes of the clients in the database, whose tables are brought up to date first."""

    async def inside(settings: Settings) -> T:
        await migrating.migrate(settings.database_url or "", [])
        database = open_database(settings)
        await database.write.open()
        try:
            return await act(Clients(database.write))
        finally:
            await database.close()

    with _database(_settings(), attach=True) as settings:
        return asyncio.run(inside(settings))


def _settings() -> Settings:
    return Settings.load(os.environ, (point.name for point in discovery.installed()))


def _plugins(settings: Settings) -> list[Plugin]:
    return discovery.discover(discovery.installed(), settings.plugins)


@contextmanager
def _database(settings: Settings, *, attach: bool = False) -> Iterator[Settings]:
    """Lend the settings with a database that is there: the one they name, or the embedded one, started for the time.

    With `attach`, an embedded one that a service runs already will do.
    """
    if settings.database_url is not None:
        yield settings
        return
    running_already = dsn_of(settings.data_dir) if attach else None
    if running_already is not None:
        yield dataclasses.replace(settings, database_url=running_already)
        return
    server, starter = EmbeddedServer(settings.data_dir), os.getpid()
    try:
        yield dataclasses.replace(settings, database_url=server.start())
    finally:
        # A worker is a fork of the process that started PostgreSQL, and leaves here, too.
        if os.getpid() == starter:
            running.ignore_signals()
            server.stop()
