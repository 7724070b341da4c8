"""The command line: `pegboard serve`, `migrate`, `plugins`, `client`."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypeVar

import click

from pegboard import discovery, logs, migrating, running
from pegboard.app import migrations, note_outcomes, open_database
from pegboard.clients import Clients
from pegboard.discovery import Plugin
from pegboard.embedded import EmbeddedError, EmbeddedServer, dsn_of
from pegboard.errors import ApiError
from pegboard.running import StartError
from pegboard.settings import Settings, SettingsError
from pegboard.sqlfiles import MigrationError

T = TypeVar("T")


class Commands(click.Group):
    """Tell every expected fault in one line, and end with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except (SettingsError, EmbeddedError, StartError, MigrationError, ApiError) as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(f"the database cannot be reached: {error}") from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("pegboard"), message="%(prog)s %(version)s")
def main() -> None:
    """Run and look after a Pegboard service. Settings come from PEGBOARD_* in the environment."""


@main.command()
@click.option("--host", help="Address to listen on (PEGBOARD_HOST).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on (PEGBOARD_PORT).")
@click.option("--workers", type=click.IntRange(1, 256), help="Worker processes (PEGBOARD_WORKERS).")
def serve(**options: Any) -> None:
    """Serve the API until interrupted."""
    settings = _settings()
    settings = dataclasses.replace(settings, **{name: value for name, value in options.items() if value is not None})
    logs.configure(settings.log_level, settings.log_format)
    with running.listen(settings.host, settings.port) as listening, _database(settings) as settings:
        if settings.workers == 1:
            running.run(running.serve(settings, _plugins(settings), listening, lambda: _announce(listening)))
        else:
            running.Workers(settings, lambda: _plugins(settings), listening, lambda: _announce(listening)).run()


def _announce(listening: socket.socket) -> None:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"Pegboard {version('pegboard')} serves on http://{shown}:{port}")


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
    if any(outcome.failure for outcome in outcomes.values()):
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
        click.echo(
            f"{plugin.name}\t{plugin.distribution} {plugin.version}\t{plugin.state}\t{plugin.fault or ''}".rstrip()
        )


@main.group()
def client() -> None:
    """Look after the clients: who may use the API, and for what."""


_grants = click.argument("grants", nargs=-1)


@client.command("add")
@click.argument("username")
@_grants
@click.option("--password", envvar="PEGBOARD_CLIENT_PASSWORD", help="Its password; asked for when it is not given.")
def add(username: str, grants: tuple[str, ...], password: str | None) -> None:
    """Add a client that holds GRANTS, such as contacts:GET or '*:*'."""
    chosen = _ask(password)
    _with_clients(lambda clients: clients.add(username, chosen, grants))
    click.echo(f"{username} was added.")


@client.command("list")
def list_clients() -> None:
    """List the clients with their grants."""
    for found in _with_clients(lambda clients: clients.list()):
        state = "" if found.active else "\tinactive"
        click.echo(f"{found.username}\t{' '.join(sorted(found.grants))}{state}")


@client.command()
@click.argument("username")
@click.option("--password", envvar="PEGBOARD_CLIENT_PASSWORD", help="The new password; asked for when it is not given.")
def passwd(username: str, password: str | None) -> None:
    """Give a client another password."""
    chosen = _ask(password)
    _with_clients(lambda clients: clients.set_password(username, chosen))
    click.echo(f"{username} has a new password.")


@client.command()
@click.argument("username")
@_grants
def grant(username: str, grants: tuple[str, ...]) -> None:
    """Let a client hold GRANTS and no others."""
    _with_clients(lambda clients: clients.set_grants(username, grants))
    click.echo(f"{username} holds {' '.join(grants) or 'no grants'}.")


@client.command()
@click.argument("username")
def remove(username: str) -> None:
    """Remove a client."""
    _with_clients(lambda clients: clients.remove(username))
    click.echo(f"{username} was removed.")


def _ask(password: str | None) -> str:
    return (
        password if password is not None else str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    )


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
    server = EmbeddedServer(settings.data_dir)
    try:
        yield dataclasses.replace(settings, database_url=server.start())
    finally:
        server.stop()
