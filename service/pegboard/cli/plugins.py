"""`pegboard plugins` and `openapi`: lists the plugins, and prints the OpenAPI document."""

from __future__ import annotations

import asyncio
import json

import click

from pegboard.app import SERVICE, create_app
from pegboard.cli import environment
from pegboard.hosting.migrations import migrations, record_outcomes
from pegboard.migrations import runner


@click.command()
def plugins() -> None:
    """List the installed plugins, and why one of them does not serve."""
    settings = environment.load_settings()
    with environment.database(settings, attach=True) as settings:
        found = environment.load_plugins(settings)
        outcomes = asyncio.run(runner.status(settings.direct_url, migrations(found)))
    record_outcomes(found, outcomes)
    for plugin in found:
        parts = (plugin.name, f"{plugin.distribution} {plugin.version}", plugin.state, plugin.error or "")
        click.echo("\t".join(parts).rstrip())


@click.command()
def openapi() -> None:
    """Print the OpenAPI document of the installed plugins; no database is needed."""
    settings = environment.load_settings()
    service = create_app(settings, environment.load_plugins(settings))[SERVICE]
    click.echo(json.dumps(service.specification.document(), indent=2, ensure_ascii=False))
