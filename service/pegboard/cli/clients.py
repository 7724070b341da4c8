"""`pegboard client`: who may use the API, looked after beside the service or without it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from pegboard.app import open_database
from pegboard.auth.clients import Clients
from pegboard.cli import surroundings
from pegboard.migrations import runner
from pegboard.settings import Settings

T = TypeVar("T")


@click.group()
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
        await runner.migrate(settings.direct_url, [])
        database = open_database(settings)
        await database.write.open()
        try:
            return await act(Clients(database.write))
        finally:
            await database.close()

    with surroundings.database(surroundings.settings(), attach=True) as settings:
        return asyncio.run(inside(settings))
