"""`pegboard new-plugin`: creates the project of a plugin."""

from __future__ import annotations

from pathlib import Path

import click

from pegboard.cli.scaffold import project
from pegboard.cli.scaffold.project import ScaffoldError
from pegboard.hosting import discovery


@click.command("new-plugin")
@click.argument("name")
def new_plugin(name: str) -> None:
    """Create a folder pegboard-NAME with a plugin for the path /NAME: code, tests and packaging."""
    try:
        folder = project.make(name, Path.cwd())
    except ScaffoldError as error:
        raise click.ClickException(str(error)) from error
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        click.echo(file.relative_to(folder.parent))
    click.echo(f"Its README describes the next steps. Install it with pip install -e {folder.name}")
    for point in discovery.installed():
        if point.name == name and point.dist:
            click.echo(
                f"{point.dist.name} already has the name {name}: while both are installed, neither is available."
            )
