"""`pegboard migrate`: migrates the core and the plugins, or shows their status."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import click

from pegboard.cli import environment
from pegboard.hosting.discovery import Plugin
from pegboard.hosting.migrations import migrations, record_outcomes
from pegboard.migrations import runner
from pegboard.migrations.status import Outcome, PluginMigrations


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the SQL that would run, without running it.")
@click.option(
    "--status", is_flag=True, help="List the applied, pending, missing and failed migrations, without running any."
)
def migrate(dry_run: bool, status: bool) -> None:
    """Bring the tables of the core and of every plugin up to date."""
    if dry_run and status:
        raise click.UsageError("--dry-run and --status cannot be combined.")
    settings = environment.load_settings()
    run = _preview if dry_run else _status if status else _migrate
    with environment.database(settings, attach=True) as settings:
        plugins = environment.load_plugins(settings)
        succeeded = run(settings.direct_url, plugins, migrations(plugins))
    if not succeeded:
        raise SystemExit(1)


def _migrate(dsn: str, plugins: Sequence[Plugin], sources: Sequence[PluginMigrations]) -> bool:
    outcomes = asyncio.run(runner.migrate(dsn, sources))
    record_outcomes(plugins, outcomes)
    for name, outcome in outcomes.items():
        done = f"applied {', '.join(outcome.now)}" if outcome.now else "nothing to do"
        click.echo(f"{name}: {outcome.failure or done}" if outcome.installed else f"{name}: no longer installed")
        for notice in outcome.notices:
            click.echo(f"{name}: notice: {notice}")
    for name, error in _plugin_errors(plugins, outcomes):
        click.echo(f"{name}: {error}")
    return not any(plugin.error for plugin in plugins)


def _preview(dsn: str, plugins: Sequence[Plugin], sources: Sequence[PluginMigrations]) -> bool:
    previews = asyncio.run(runner.preview(dsn, sources))
    errors = list(_plugin_errors(plugins, ()))
    for name, preview in previews.items():
        click.echo(f"-- {name}\n{preview.sql}")
    for name, error in errors:
        click.echo(f"-- {name}\n-- refused: {error}\n")
    if not previews and not errors:
        click.echo("-- nothing to do")
    return not errors and not any(preview.refused for preview in previews.values())


def _status(dsn: str, plugins: Sequence[Plugin], sources: Sequence[PluginMigrations]) -> bool:
    outcomes = asyncio.run(runner.status(dsn, sources))
    for name, outcome in outcomes.items():
        for step, state in _steps(outcome):
            click.echo(f"{name}\t{step}\t{state}")
    errors = [*((name, outcome.failure) for name, outcome in outcomes.items() if outcome.failure)]
    errors += _plugin_errors(plugins, outcomes)
    for name, error in errors:
        click.echo(f"{name}\t-\tfailed\t{error}")
    return not errors


def _steps(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Yield each step with its state; an applied step that has changed since is pending."""
    for step in outcome.applied:
        if step not in outcome.pending:
            yield step, "missing" if step in outcome.missing else "applied"
    for step in outcome.pending:
        yield step, "pending"
    if not outcome.installed:
        for step in outcome.missing:
            yield step, "not installed"


def _plugin_errors(plugins: Sequence[Plugin], reported: Mapping[str, Outcome] | tuple[()]) -> Iterator[tuple[str, str]]:
    """Yield the name and error of each plugin that failed before its migrations were read, unless already reported."""
    errors = {plugin.name: plugin.error for plugin in plugins if plugin.error}
    for name, error in errors.items():
        if name not in reported:
            yield name, error
