"""`pegboard check`: checks all plugins and settings without starting the service."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import asyncpg
import click

from pegboard.app import Service
from pegboard.cli import environment
from pegboard.hosting import discovery, extensions
from pegboard.hosting.discovery import Plugin, State
from pegboard.hosting.migrations import migrations
from pegboard.migrations import order, runner
from pegboard.migrations.status import PluginMigrations, files_pending, ordered, statuses
from pegboard.postgres.embedded import dsn_of
from pegboard.query import mapping
from pegboard.schema.fields import Reference
from pegboard.settings import Settings, SettingsError


@click.command()
def check() -> None:
    """Load everything that is installed and report its problems, one per line.

    No database is needed; if one responds, the tables are compared with the schemas.
    """
    settings = environment.load_settings()
    plugins = environment.load_plugins(settings)
    sources = migrations(plugins)
    asyncio.run(_mount(settings, plugins))
    checks = (
        _plugin_errors(plugins),
        _uninstalled_entry_points(Path.cwd()),
        _migration_errors(sources),
        _table_errors(settings, sources),
        _reference_errors(plugins),
        _required_plugin_errors(plugins, settings),
        _middleware_errors(settings),
    )
    problems = list(dict.fromkeys(chain(*checks)))
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise SystemExit(1)
    serving = [plugin.name for plugin in plugins if plugin.state is State.READY]
    click.echo(f"no problems found: {', '.join(serving) or 'no plugin is installed'}")


async def _mount(settings: Settings, plugins: Sequence[Plugin]) -> None:
    """Describe and mount the plugins as a service does once its database is available."""
    Service(settings, plugins).mount(bytes(32))


def _plugin_errors(plugins: Sequence[Plugin]) -> Iterator[str]:
    for plugin in plugins:
        if plugin.error:
            yield f"{plugin.name}: {plugin.error}"


def _uninstalled_entry_points(folder: Path) -> Iterator[str]:
    """Yield the entry points of the project in `folder` that are not installed, as they were added later."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        declared = project["entry-points"][discovery.GROUP].items()
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return
    installed = {(point.name, point.value) for point in discovery.installed()}
    for name, value in declared:
        if (name, value) not in installed:
            yield f"{name}: pyproject.toml declares {name} = {value!r}, which is not installed: run pip install -e ."


def _migration_errors(sources: Sequence[PluginMigrations]) -> Iterator[str]:
    """Yield the errors of the SQL files, including those of the core, for an empty database."""
    core_first = ordered(sources)
    outcomes = statuses(core_first, {})
    sound = [source for source in core_first if not outcomes[source.plugin].failure]
    blocked = order.schedule(sound, {source.plugin: files_pending(source, {})[1] for source in sound}, {})[1]
    for source in core_first:
        error = outcomes[source.plugin].failure or blocked.get(source.plugin)
        if error:
            yield f"{source.plugin}: {error}"


def _table_errors(settings: Settings, sources: Sequence[PluginMigrations]) -> Iterator[str]:
    """Yield the differences of the tables and the schemas, if a database responds."""
    url = settings.direct_database_url or settings.database_url or dsn_of(settings.data_dir)
    if url is None:
        return
    try:
        outcomes = asyncio.run(runner.status(url, sources))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return
    for name, outcome in outcomes.items():
        if outcome.failure and outcome.installed:
            yield f"{name}: {outcome.failure}"


def _reference_errors(plugins: Sequence[Plugin]) -> Iterator[str]:
    """Yield the fields that refer to a resource that is not available."""
    serving = {name for p in plugins if p.state is State.READY for name in (p.name, *p.aliases)}
    for plugin in plugins:
        if plugin.name not in serving or plugin.resource is None:
            continue
        for attribute, field, _ in mapping.stored(plugin.resource.schema()):
            if isinstance(field, Reference) and field.resource not in serving:
                yield f"{plugin.name}: the field {attribute} refers to {field.resource}, which is not available"


def _required_plugin_errors(plugins: Sequence[Plugin], settings: Settings) -> Iterator[str]:
    """Yield the plugins that the settings name but that are not installed, or require but that are not ready."""
    states = {plugin.name: plugin.state for plugin in plugins}
    for name in settings.plugins or ():
        if name not in states:
            yield f"{name}: PEGBOARD_PLUGINS names it, but it is not installed"
    for name in settings.plugins_required:
        state = states.get(name)
        if state is not State.READY:
            status = "not installed" if state is None else "in conflict" if state is State.CONFLICT else state
            yield f"{name}: PEGBOARD_PLUGINS_REQUIRED names it, but it is {status}"


def _middleware_errors(settings: Settings) -> Iterator[str]:
    """Yield the error with which the configured middlewares would stop the service from starting."""
    try:
        extensions.check(settings.middlewares)
    except SettingsError as error:
        yield str(error)
