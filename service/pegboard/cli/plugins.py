"""`pegboard plugins` and `openapi`: what is installed, and what it makes of the API."""

from __future__ import annotations

import asyncio
import json

import click

from pegboard.app import SERVICE, create_app, migrations, record_outcomes
from pegboard.cli import surroundings
from pegboard.migrations import runner


@click.command()
def plugins() -> None:
    """List the plugins that are installed, and why one of them does not serve."""
    settings = surroundings.settings()
    with surroundings.database(settings, attach=True) as settings:
        found = surroundings.plugins(settings)
        outcomes = asyncio.run(runner.status(settings.direct_url, migrations(found)))
    record_outcomes(found, outcomes)
    for plugin in found:
        parts = (plugin.name, f"{plugin.distribution} {plugin.version}", plugin.state, plugin.fault or "")
        click.echo("\t".join(parts).rstrip())


@click.command()
def openapi() -> None:
    """Print the OpenAPI document of all that is installed; no database is needed."""
    settings = surroundings.settings()
    service = create_app(settings, surroundings.plugins(settings))[SERVICE]
    click.echo(json.dumps(service.specification.document(), indent=2, ensure_ascii=False))
