"""`pegboard check`: what is installed and set, loaded and held against itself, with nothing started."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import chain

import click

from pegboard.app import Service, migrations
from pegboard.cli import surroundings
from pegboard.hosting import extensions
from pegboard.hosting.discovery import Plugin, State
from pegboard.migrations.status import PluginMigrations, ordered, status_of
from pegboard.query import mapping
from pegboard.schema.fields import Reference
from pegboard.settings import Settings, SettingsError


@click.command()
def check() -> None:
    """Load all that is installed and say what is wrong with it, one line a fault; no database is needed."""
    settings = surroundings.settings()
    plugins = surroundings.plugins(settings)
    sources = migrations(plugins)
    asyncio.run(_mount(settings, plugins))
    told = (_plugins(plugins), _files(sources), _references(plugins), _named(plugins, settings), _middlewares(settings))
    faults = list(dict.fromkeys(chain(*told)))
    for fault in faults:
        click.echo(fault, err=True)
    if faults:
        raise SystemExit(1)
    serving = [plugin.name for plugin in plugins if plugin.state is State.READY]
    click.echo(f"no problems found: {', '.join(serving) or 'no plugin is installed'}")


async def _mount(settings: Settings, plugins: Sequence[Plugin]) -> None:
    """Describe and mount the plugins as a service does that has reached its database."""
    Service(settings, plugins).mount(bytes(32))


def _plugins(plugins: Sequence[Plugin]) -> Iterator[str]:
    for plugin in plugins:
        if plugin.fault:
            yield f"{plugin.name}: {plugin.fault}"


def _files(sources: Sequence[PluginMigrations]) -> Iterator[str]:
    """Yield what is wrong with the SQL files, the core's included, as a database without any would meet it."""
    for source in ordered(sources):
        failure = status_of(source, {}).failure
        if failure:
            yield f"{source.plugin}: {failure}"


def _references(plugins: Sequence[Plugin]) -> Iterator[str]:
    """Yield the fields that refer to a resource that does not serve."""
    serving = {plugin.name for plugin in plugins if plugin.state is State.READY}
    for plugin in plugins:
        if plugin.name not in serving or plugin.resource is None:
            continue
        for attribute, field, _ in mapping.stored(plugin.resource.schema()):
            if isinstance(field, Reference) and field.resource not in serving:
                yield f"{plugin.name}: the field {attribute} refers to {field.resource}, which is not available"


def _named(plugins: Sequence[Plugin], settings: Settings) -> Iterator[str]:
    """Yield the plugins that the settings ask for and that are not there, or required and out."""
    states = {plugin.name: plugin.state for plugin in plugins}
    for name in settings.plugins or ():
        if name not in states:
            yield f"{name}: PEGBOARD_PLUGINS names it, but it is not installed"
    for name in settings.plugins_required:
        state = states.get(name)
        if state is not State.READY:
            fares = "not installed" if state is None else "in conflict" if state is State.CONFLICT else state
            yield f"{name}: PEGBOARD_PLUGINS_REQUIRED names it, but it is {fares}"


def _middlewares(settings: Settings) -> Iterator[str]:
    """Yield why the service could not start with the middlewares that the settings name."""
    try:
        extensions.check(settings.middlewares)
    except SettingsError as error:
        yield str(error)
