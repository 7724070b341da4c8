"""`pegboard make-migration`: writes the next SQL files of a plugin into its source."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

import click

from pegboard.cli import environment
from pegboard.hosting import discovery
from pegboard.hosting.discovery import Plugin, State
from pegboard.hosting.migrations import migrations
from pegboard.migrations import drafts
from pegboard.migrations.drafts import Differences, Draft
from pegboard.migrations.status import PluginMigrations
from pegboard.settings import Settings

_TITLE = re.compile(r"[a-z0-9_]{1,60}", re.ASCII)


@click.command("make-migration")
@click.argument("name", required=False)
@click.option("--title", help="The name of the file after its number, in a-z, 0-9 and _. [default: change_NAME]")
@click.option("--check", is_flag=True, help="Write nothing; fail if the table does not fit the schema. For CI.")
def make_migration(name: str | None, title: str | None, check: bool) -> None:
    """Write the SQL that changes the table of a plugin to what its schema declares, for its author to edit.

    From the first call on, SQL files create the table, and the schema no longer does. With --check and no NAME, all
    plugins are checked.
    """
    if check and title is not None:
        raise click.UsageError("--check writes no file: omit --title.")
    if name is None and not check:
        raise click.UsageError("Missing argument 'NAME'.")
    if title is not None and not _TITLE.fullmatch(title):
        raise click.BadParameter(f"{title!r}: use 1 to 60 characters of a-z, 0-9 and _.", param_hint="'--title'")
    settings = environment.load_settings()
    plugins = environment.load_plugins(settings)
    chosen = [plugin for plugin in plugins if name in (None, plugin.name, plugin.entry_point)]
    if name is not None and not chosen:
        raise click.ClickException(f"no plugin {name} is installed")
    sources = migrations(plugins)
    if check:
        _check(settings, chosen if name is None else chosen[:1], sources)
        return
    plugin = chosen[0]
    source = _source(plugin, sources)
    folder = _folder(plugin)
    name = plugin.entry_point
    with environment.database(settings, attach=True) as settings:
        drafted = asyncio.run(drafts.draft(settings.direct_url, source, sources))
    if not drafted:
        click.echo(f"{name}: nothing to do, the table matches its schema")
        return
    identifier = name.replace("-", "_")
    files = {
        folder / f"{d.version:04}_{identifier if d.first else title or f'change_{identifier}'}.sql": d for d in drafted
    }
    _write(files)
    for path, written in files.items():
        click.echo(f"{name}: wrote {_relative(path)}")
        for warning in written.warnings:
            click.echo(f"  warning: {warning}")
        if written.warnings:
            click.echo("  Read this file and edit it, then delete its first line: until then it is not run.")
    if drafted[0].first:
        click.echo(
            f"Make sure that the wheel contains {_relative(folder)}/*.sql; from now on these files create the table."
        )


def _check(settings: Settings, plugins: Sequence[Plugin], sources: Sequence[PluginMigrations]) -> None:
    """Print in what the tables of plugins differ from their schemas, and exit with status 1 if any cannot be served."""
    with environment.database(settings, attach=True) as settings:
        found = asyncio.run(drafts.differences(settings.direct_url, sources))
    failed = False
    for plugin in plugins:
        differences = found.get(plugin.storage, Differences())
        problems = (plugin.error,) if plugin.error else differences.problems
        advice = () if problems else differences.advice
        for problem in problems:
            click.echo(f"{plugin.name}: {' '.join(problem.split())}")
        for step in advice:
            click.echo(
                f"{plugin.name}: the table can be served as it is; a draft would contain {' '.join(step.split())}"
            )
        if not problems and not advice and plugin.state is State.READY:
            click.echo(f"{plugin.name}: nothing to do, the table matches its schema")
        failed = failed or bool(problems)
    if failed:
        raise SystemExit(1)


def _source(plugin: Plugin, sources: Sequence[PluginMigrations]) -> PluginMigrations:
    if plugin.state is not State.READY:
        raise click.ClickException(f"{plugin.name}: {plugin.error or 'it is disabled'}")
    return next(source for source in sources if source.plugin == plugin.storage)


def _folder(plugin: Plugin) -> Path:
    """Return the folder for the SQL files of a plugin in its source, which must be writable."""
    name = plugin.entry_point
    points = discovery.installed()
    point = next(p for p in points if p.name == name and p.module.partition(".")[0] == plugin.package)
    package = point.module.partition(".")[0]
    spec = find_spec(package)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    if not locations:
        raise click.ClickException(f"{name}: {package} is a single module; make it a package that can contain files")
    directory = Path(locations[0])
    if _is_copy(point, directory) or not os.access(directory, os.W_OK):
        raise click.ClickException(f"{name}: {directory} is not the source; install the source with pip install -e")
    folder = directory / "migrations"
    sharing = [other.name for other in points if other.module.partition(".")[0] == package]
    if len(sharing) == 1 and not (folder / name).is_dir():
        return folder
    if len(sharing) > 1 and any(folder.glob("*.sql")) and not (folder / name).is_dir():
        raise click.ClickException(
            f"{name}: the files in {_relative(folder)} belong to {', '.join(sharing)}; "
            "move them to one folder for each plugin: migrations/NAME"
        )
    return folder / name


def _is_copy(point: EntryPoint, directory: Path) -> bool:
    """Return whether an installer copied the package: only then does its distribution list the files."""
    files = (point.dist.files if point.dist else None) or ()
    return any(Path(str(file.locate())).parent.resolve() == directory.resolve() for file in files)


def _write(files: dict[Path, Draft]) -> None:
    """Write all files, or none of them."""
    created: list[Path] = []
    try:
        for path, draft in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="\n") as file:
                created.append(path)
                file.write(draft.text)
    except OSError as error:
        for path in created:
            path.unlink()
        raise click.ClickException(f"nothing was written: {error.strerror}: {error.filename}") from error


def _relative(path: Path) -> str:
    """Return a path relative to the working directory if it is inside it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
