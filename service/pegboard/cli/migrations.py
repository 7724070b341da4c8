"""`pegboard migrate`: the tables of the core and of the plugins, brought up to date, or told how they stand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import click

from pegboard.app import migrations, record_outcomes
from pegboard.cli import surroundings
from pegboard.hosting.discovery import Plugin
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
    settings = surroundings.settings()
    act = _preview if dry_run else _status if status else _migrate
    with surroundings.database(settings, attach=True) as settings:
        plugins = surroundings.plugins(settings)
        sound = act(settings.direct_url, plugins, migrations(plugins))
    if not sound:
        raise SystemExit(1)


def _migrate(dsn: str, plugins: Sequence[Plugin], sources: Sequence[PluginMigrations]) -> bool:
    outcomes = asyncio.run(runner.migrate(dsn, sources))
    record_outcomes(plugins, outcomes)
    for name, outcome in outcomes.items():
        done = f"applied {', '.join(outcome.now)}" if outcome.now else "nothing to do"
        click.echo(f"{name}: {outcome.failure or done}" if outcome.installed else f"{name}: no longer installed")
    for name, fault in _faults(plugins, outcomes):
        click.echo(f"{name}: {fault}")
    return not any(plugin.fault for plugin in plugins)


def _preview(dsn: str, plugins: Sequence[Plugin], sources: Sequence[PluginMigrations]) -> bool:
    previews = asyncio.run(runner.preview(dsn, sources))
    faults = list(_faults(plugins, ()))
    for name, preview in previews.items():
        click.echo(f"-- {name}\n{preview.sql}")
    for name, fault in faults:
        click.echo(f"-- {name}\n-- refused: {fault}\n")
    if not previews and not faults:
        click.echo("-- nothing to do")
    return not faults and not any(preview.refused for preview in previews.values())


def _status(dsn: str, plugins: Sequence[Plugin], sources: Sequence[PluginMigrations]) -> bool:
    outcomes = asyncio.run(runner.status(dsn, sources))
    for name, outcome in outcomes.items():
        for step, state in _steps(outcome):
            click.echo(f"{name}\t{step}\t{state}")
    faults = [*((name, outcome.failure) for name, outcome in outcomes.items() if outcome.failure)]
    faults += _faults(plugins, outcomes)
    for name, fault in faults:
        click.echo(f"{name}\t-\tfailed\t{fault}")
    return not faults


def _steps(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Yield each step with its state; one that is applied and has changed since is pending."""
    for step in outcome.applied:
        if step not in outcome.pending:
            yield step, "missing" if step in outcome.missing else "applied"
    for step in outcome.pending:
        yield step, "pending"
    if not outcome.installed:
        for step in outcome.missing:
            yield step, "not installed"


def _faults(plugins: Sequence[Plugin], told: Mapping[str, Outcome] | tuple[()]) -> Iterator[tuple[str, str]]:
    """Yield the plugins that are out before their migrations are looked at, once by name, and why."""
    faults = {plugin.name: plugin.fault for plugin in plugins if plugin.fault}
    for name, fault in faults.items():
        if name not in told:
            yield name, fault
