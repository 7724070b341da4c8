"""`pegboard new-plugin`: the folder of a plugin that its author fills."""

from __future__ import annotations

from pathlib import Path

import click

from pegboard.cli.scaffold import project
from pegboard.cli.scaffold.project import ScaffoldError
from pegboard.hosting import discovery


@click.command("new-plugin")
@click.argument("name")
def new_plugin(name: str) -> None:
    """Make a folder pegboard-NAME with a plugin that answers at /NAME: code, tests, and what it takes to publish it."""
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
