"""The migrations of plugins: what each one's table and SQL files are, and how applying them went."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec

from packaging.utils import canonicalize_name

from pegboard.api import declared
from pegboard.api.resource import Resource
from pegboard.api.table import TableResource
from pegboard.hosting.discovery import Plugin, State
from pegboard.migrations.fitness import Use
from pegboard.migrations.status import Outcome, PluginMigrations
from pegboard.query.existing import ExistingTable
from pegboard.schema.ddl import TableSpec

log = logging.getLogger("pegboard.plugins")

_DESCRIBE_TIMEOUT = 10.0
"""The seconds that a plugin has to describe its table."""

TableName = tuple[str, str]
"""A schema and a table in it."""


def migrations(plugins: Sequence[Plugin]) -> list[PluginMigrations]:
    """Return the migrations of each plugin that is ready; a plugin whose table cannot be described fails."""
    sources = []
    tables: dict[str, TableName] = {}
    distributions = frozenset(canonicalize_name(plugin.distribution) for plugin in plugins)
    for plugin in plugins:
        with plugin.guarded("its table cannot be described", _DESCRIBE_TIMEOUT):
            tables |= dict(_tables(plugin))
    for plugin in plugins:
        if plugin.state is not State.READY or plugin.resource is None:
            continue
        with plugin.guarded("its table cannot be described", _DESCRIBE_TIMEOUT):
            table = _table_spec(plugin.resource, plugin.storage, tables)
            folder = _sql_folder(plugin.package, plugin.entry_point or plugin.name)
            sources.append(
                PluginMigrations(
                    plugin.storage,
                    folder,
                    table,
                    canonicalize_name(plugin.distribution),
                    distributions,
                    *_other_schemas(plugin),
                    plugin.version,
                    Use(frozenset(plugin.verbs), _existing_table(plugin.resource)),
                )
            )
    return sources


def _other_schemas(plugin: Plugin) -> tuple[tuple[str, ...], str]:
    """Return the schemas that may have a plugin's data in place of its own, and the hint how to use one."""
    if plugin.keeps_data_apart:
        return (
            plugin.entry_point,
        ), f"mount it as {{}}={plugin.name}, or mount the other distribution's at another name"
    former = plugin.resource.former_names if plugin.resource else ()
    return (*former, plugin.name), "list {} first in former_names"


def _tables(plugin: Plugin) -> Iterator[tuple[str, TableName]]:
    """Yield each name of a plugin with the name of its table."""
    resource = plugin.resource
    if resource is not None and issubclass(resource, TableResource):
        spec = declared.table_spec(resource, plugin.storage)
        for name in (plugin.name, *plugin.aliases):
            yield name, (spec.schema, spec.name)


def _table_spec(resource: type[Resource], name: str, tables: Mapping[str, TableName]) -> TableSpec | None:
    """Return the table of a resource with the tables that its references lead to; None if it has none."""
    if not issubclass(resource, TableResource):
        return None
    spec = declared.table_spec(resource, name)
    columns = [
        replace(column, references=tables.get(column.references[0], column.references)) if column.references else column
        for column in spec.columns
    ]
    return replace(spec, columns=tuple(columns))


def _existing_table(resource: type[Resource]) -> ExistingTable | None:
    """Return the declaration of a table that the service neither creates nor changes, or None."""
    table = getattr(resource, "table", None)
    return ExistingTable(table) if isinstance(table, str) else table


def _sql_folder(package: str, name: str) -> Traversable | None:
    """Return a package's folder `migrations/NAME` if it exists, else `migrations`; None for a single module."""
    spec = find_spec(package)
    if not (spec and spec.submodule_search_locations):
        return None
    folder = files(package) / "migrations"
    return folder / name if (folder / name).is_dir() else folder


def record_outcomes(plugins: Sequence[Plugin], outcomes: dict[str, Outcome]) -> None:
    """Record in each plugin the outcome of its migrations."""
    for plugin in plugins:
        outcome = outcomes.get(plugin.storage)
        if outcome is None or plugin.state is not State.READY:
            continue
        plugin.applied = outcome.applied
        for notice in outcome.notices:
            log.warning("plugin %s: %s", plugin.name, notice)
        if outcome.failure is not None:
            plugin.fail(outcome.failure)
