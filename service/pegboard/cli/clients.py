"""`pegboard client`: manages API clients, with or without a running service."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from pegboard.app import open_database
from pegboard.auth.clients import Clients
from pegboard.cli import environment
from pegboard.migrations import runner
from pegboard.settings import Settings

T = TypeVar("T")


@click.group()
def client() -> None:
    """Manage the clients: who may use the API, and for what."""


_username = click.argument("username")
_grants = click.argument("grants", nargs=-1)


@client.command("add")
@_username
@_grants
def add(username: str, grants: tuple[str, ...]) -> None:
    """Add a client that holds GRANTS, such as contacts:GET or '*:*'.

    Prompts for the password; without a terminal, it is the first line of standard input.
    """
    password = _read_password()
    _with_clients(lambda clients: clients.add(username, password, grants))
    click.echo(f"{username} was added.")


@client.command("list")
def list_clients() -> None:
    """List the clients with their grants."""
    for stored in _with_clients(lambda clients: clients.list()):
        parts = (stored.username, " ".join(sorted(stored.grants)), "" if stored.active else "inactive")
        click.echo("\t".join(parts).rstrip())


@client.command()
@_username
def passwd(username: str) -> None:
    """Give a client another password.

    Prompts for it; without a terminal, it is the first line of standard input.
    """
    password = _read_password()
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


def _read_password() -> str:
    """Read a password; never from the command line, where other users could see it."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().removesuffix("\n")


def _with_clients(use: Callable[[Clients], Awaitable[T]]) -> T:
    """Return the result of `use`, called with the clients of the database after its migrations have run."""

    async def run(settings: Settings) -> T:
        await runner.migrate(settings.direct_url, [])
        database = open_database(settings)
        await database.write.open()
        try:
            return await use(Clients(database.write))
        finally:
            await database.close()

    with environment.database(environment.load_settings(), attach=True) as settings:
        return asyncio.run(run(settings))
