"""`pegboard migrate`: the tables of the core and of the plugins, brought up to date."""

from __future__ import annotations

import asyncio

import click

from pegboard.app import migrations, note_outcomes
from pegboard.commands import surroundings
from pegboard.tables import migrating


@click.command()
def migrate() -> None:
    """Bring the tables of the core and of every plugin up to date."""
    settings = surroundings.settings()
    with surroundings.database(settings, attach=True) as settings:
        plugins = surroundings.plugins(settings)
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
