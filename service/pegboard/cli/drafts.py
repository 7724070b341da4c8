"""`pegboard make-migration`: the next SQL files of a plugin, written into its source."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

import click

from pegboard.app import migrations
from pegboard.cli import surroundings
from pegboard.hosting import discovery
from pegboard.hosting.discovery import Plugin
from pegboard.migrations import drafts
from pegboard.migrations.drafts import Draft
from pegboard.migrations.status import PluginMigrations

_TITLE = re.compile(r"[a-z0-9_]{1,60}", re.ASCII)


@click.command("make-migration")
@click.argument("name")
@click.option("--title", help="The name of the file after its number, in a-z, 0-9 and _. [default: change_NAME]")
def make_migration(name: str, title: str | None) -> None:
    """Write the SQL that leads from the table of a plugin to what its schema declares, for its author to edit.

    The first call takes the table over: from then on SQL files make it, and the schema no longer does.
    """
    if title is not None and not _TITLE.fullmatch(title):
        raise click.BadParameter(f"{title!r}: use 1 to 60 characters of a-z, 0-9 and _.", param_hint="'--title'")
    settings = surroundings.settings()
    plugins = surroundings.plugins(settings)
    source = _source(name, plugins)
    folder = _folder(name)
    with surroundings.database(settings, attach=True) as settings:
        drafted = asyncio.run(drafts.draft(settings.direct_url, source))
    if not drafted:
        click.echo(f"{name}: nothing to do, the table matches its schema")
        return
    word = name.replace("-", "_")
    files = {folder / f"{d.version:04}_{word if d.first else title or f'change_{word}'}.sql": d for d in drafted}
    _write(files)
    for path, written in files.items():
        click.echo(f"{name}: wrote {_shown(path)}")
        for warning in written.warnings:
            click.echo(f"  read this: {warning}")
    if drafted[0].first:
        click.echo(
            f"Make sure that the wheel contains {_shown(folder)}/*.sql; from now on these files create the table."
        )


def _source(name: str, plugins: Sequence[Plugin]) -> PluginMigrations:
    sources = {source.plugin: source for source in migrations(plugins)}
    if name in sources:
        return sources[name]
    faults = {plugin.name: plugin.fault or "it is disabled" for plugin in plugins}
    raise click.ClickException(f"{name}: {faults[name]}" if name in faults else f"no plugin {name} is installed")


def _folder(name: str) -> Path:
    """Return the folder for the files of a plugin in its source, which has to be there to be written to."""
    points = discovery.installed()
    [point] = [point for point in points if point.name == name]
    package = point.module.partition(".")[0]
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise click.ClickException(f"{name}: {package} is a single module; make it a package that can contain files")
    place = Path(places[0])
    if _is_copy(point, place) or not os.access(place, os.W_OK):
        raise click.ClickException(f"{name}: {place} is not the source; install the source with pip install -e")
    folder = place / "migrations"
    sharing = [other.name for other in points if other.module.partition(".")[0] == package]
    if len(sharing) == 1 and not (folder / name).is_dir():
        return folder
    if len(sharing) > 1 and any(folder.glob("*.sql")) and not (folder / name).is_dir():
        raise click.ClickException(
            f"{name}: the files in {_shown(folder)} belong to {', '.join(sharing)}; "
            "move them to one folder for each plugin: migrations/NAME"
        )
    return folder / name


def _is_copy(point: EntryPoint, place: Path) -> bool:
    """Tell whether a package is what an installer copied: then its files are listed, and those of a source are not."""
    files = (point.dist.files if point.dist else None) or ()
    return any(Path(str(file.locate())).parent.resolve() == place.resolve() for file in files)


def _write(files: dict[Path, Draft]) -> None:
    """Write all files or none."""
    made: list[Path] = []
    try:
        for path, draft in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="\n") as file:
                made.append(path)
                file.write(draft.text)
    except OSError as error:
        for path in made:
            path.unlink()
        raise click.ClickException(f"nothing was written: {error.strerror}: {error.filename}") from error


def _shown(path: Path) -> str:
    """Return a path as short as it can be from here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
