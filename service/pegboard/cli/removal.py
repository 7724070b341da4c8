"""`pegboard remove-plugin`: drops a plugin's data after confirmation."""

from __future__ import annotations

import asyncio
import sys

import click

from pegboard.cli import environment
from pegboard.hosting.names import RESERVED
from pegboard.migrations import removal
from pegboard.migrations.removal import PluginData


@click.command("remove-plugin")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def remove_plugin(name: str, yes: bool) -> None:
    """Drop the PostgreSQL schema of a plugin with all its data, and the records about the plugin."""
    if name in RESERVED:
        raise click.ClickException(f"{name} is not a plugin: it belongs to the service")
    settings = environment.load_settings()
    plugins = environment.load_plugins(settings)
    plugin = next((plugin for plugin in plugins if name in (plugin.name, *plugin.aliases)), None)
    name = plugin.storage if plugin else name
    with environment.database(settings, attach=True) as settings:
        dsn = settings.direct_url
        found = asyncio.run(removal.plugin_data(dsn, name))
        if found.referring:
            raise click.ClickException(
                f"{name} was not removed: {', '.join(found.referring)} refers to it; remove that first"
            )
        _show(name, found)
        if not yes:
            _confirm(name)
        asyncio.run(removal.drop(dsn, name, f"{settings.path_prefix}/{name}"))
    click.echo(f"{name} was removed.")
    if plugin:
        click.echo(
            f"It is still installed, so the next start creates its tables again: pip uninstall {plugin.distribution}"
        )


def _show(name: str, found: PluginData) -> None:
    click.echo(f"This drops the PostgreSQL schema {name}:")
    for table, rows in found.rows.items():
        click.echo(f"  {name}.{table}\t{rows} {'row' if rows == 1 else 'rows'}")
    if not found.rows:
        click.echo("  no tables")


def _confirm(name: str) -> None:
    if not sys.stdin.isatty():
        raise click.ClickException(
            f"nothing was removed: there is no terminal for the confirmation; pass --yes to remove {name}"
        )
    click.confirm("This cannot be undone. Remove it?", abort=True)
