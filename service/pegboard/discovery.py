"""The plugins that are installed: found by their entry points, loaded apart from each other, each with its state."""

from __future__ import annotations

import inspect
import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pegboard.errors import ErrorCode
from pegboard.queries import mapping
from pegboard.resources import configuration, operation
from pegboard.resources.resource import COLLECTION_ACTIONS, ITEM_ACTIONS, VERBS, Resource
from pegboard.resources.table import TableResource
from pegboard.schemas.schema import Schema
from pegboard.settings import SettingsError

GROUP = "pegboard.resources"
RESERVED = frozenset(
    (
        *("docs", "errors", "health", "metrics", "openapi.json", "plugins", "ready"),
        *("pegboard", "public", "information_schema"),
    )
)
"""Names that are the service's own paths, or PostgreSQL schemas of others."""

_FIRST_CODE = 20_000
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}", re.ASCII)

log = logging.getLogger("pegboard.plugins")


class State(StrEnum):
    """Say whether a plugin serves."""

    READY = "ready"
    FAILED = "failed"
    CONFLICT = "conflict"
    DISABLED = "disabled"


@dataclass(slots=True)
class Plugin:
    """Know one entry point of the group `pegboard.resources`: whose it is, what it declares, how it fares."""

    name: str
    distribution: str
    version: str
    state: State = State.READY
    fault: str | None = None
    resource: type[Resource] | None = None
    package: str = ""
    applied: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def verbs(self) -> tuple[str, ...]:
        """Return the declared verbs in the usual order; none while the declaration is not known."""
        declared = self.resource.verbs if self.resource else ()
        return tuple(verb for verb in VERBS if verb in declared)

    def fail(self, fault: str, state: State = State.FAILED) -> None:
        """Take the plugin out of service and say why, in one line."""
        self.state, self.fault = state, fault
        log.error("plugin %s (%s %s) is out: %s", self.name, self.distribution, self.version, fault)


def installed() -> list[EntryPoint]:
    """Return the entry points of all resources that are installed."""
    return sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))


def discover(
    points: Iterable[EntryPoint], enabled: Collection[str] | None = None, environ: Mapping[str, str] = os.environ
) -> list[Plugin]:
    """Return a plugin for each entry point, loaded where it can be, with its settings from `environ`.

    None in `enabled` means all.

    Never raises for what a plugin does wrong: its state and fault tell.
    """
    points = list(points)
    claims = Counter(point.name for point in points)
    plugins = [_plugin(point, claims[point.name], enabled) for point in points]
    _part_codes(plugins)
    _check_references(plugins)
    for plugin in plugins:
        if plugin.state is State.READY and plugin.resource is not None:
            _configure(plugin, plugin.resource, environ, claims)
    return plugins


def _check_references(plugins: Collection[Plugin]) -> None:
    """Take out the plugins that refer to tables which were there before and whose keys no reference can hold."""
    tables = {
        plugin.name: existing
        for plugin in plugins
        if plugin.resource and issubclass(plugin.resource, TableResource) and (existing := plugin.resource.existing())
    }
    for plugin in plugins:
        leading = mapping.references(plugin.resource.schema()) if plugin.resource and tables else {}
        for field_name, target in leading.items():
            table = tables.get(target)
            if table is not None and (table.type, table.key) != ("uuid", "id"):
                why = f"the key of {table.table} is {table.key} of type {table.type}, not id of type uuid"
                plugin.fail(f"the field {field_name} cannot refer to {target}: {why}")


def _configure(plugin: Plugin, resource: type[Resource], environ: Mapping[str, str], names: Collection[str]) -> None:
    """Read the settings of a plugin, which is out where they are wrong."""
    try:
        plugin.settings = configuration.read(resource.settings, plugin.name, environ, names)
    except SettingsError as error:
        plugin.fail(str(error))
    except Exception as error:
        # What it says may hold a secret.
        plugin.fail(f"its settings cannot be read: its schema raised {type(error).__name__}")


def _part_codes(plugins: Collection[Plugin]) -> None:
    """Take out the plugins that declare the same error code for themselves."""
    owners: dict[int, list[Plugin]] = {}
    for plugin in plugins:
        for declared in plugin.resource.error_codes if plugin.resource else ():
            owners.setdefault(declared.code, []).append(plugin)
    for code, sharing in owners.items():
        for plugin in sharing if len(sharing) > 1 else ():
            others = ", ".join(other.name for other in sharing if other is not plugin)
            plugin.fail(f"the error code {code} is declared by {others} too", State.CONFLICT)


def _plugin(point: EntryPoint, claims: int, enabled: Collection[str] | None) -> Plugin:
    metadata = point.dist
    plugin = Plugin(point.name, metadata.name if metadata else "", metadata.version if metadata else "")
    plugin.package = point.module.partition(".")[0]
    unfit = name_mistake(point.name)
    if unfit is not None:
        plugin.fail(unfit)
    elif claims > 1:
        plugin.fail(f"{claims} distributions claim the name {point.name!r}; uninstall all but one", State.CONFLICT)
    elif enabled is not None and point.name not in enabled:
        plugin.state = State.DISABLED
    else:
        _load(plugin, point)
    return plugin


def name_mistake(name: str) -> str | None:
    """Return why a resource cannot have this name; None for one that it can."""
    if _NAME.fullmatch(name) and name not in RESERVED and not name.startswith("pg_"):
        return None
    return f"the name {name!r} cannot be a resource's: it is reserved, or not 1 to 40 of a-z, 0-9, - and _"


def _load(plugin: Plugin, point: EntryPoint) -> None:
    try:
        found = point.load()
        fault = mistake(found)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        log.debug("plugin %s cannot be loaded", plugin.name, exc_info=True)
        plugin.fail(f"{point.value} cannot be loaded: {type(error).__name__}: {_line(error)}")
        return
    if fault is not None:
        plugin.fail(f"{point.value}: {fault}")
        return
    plugin.resource = found


def _line(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())
    except Exception:
        return "it cannot say why"


def mistake(found: Any) -> str | None:
    """Return what is wrong with the declaration of a resource, and how to mend it; None for a sound one."""
    if not (inspect.isclass(found) and issubclass(found, Resource)):
        return "an entry point of pegboard.resources names a subclass of pegboard.Resource"
    schema = getattr(found, "schema", None)
    if not (inspect.isclass(schema) and issubclass(schema, Schema)):
        return "set schema to a subclass of pegboard.Schema"
    if found.settings is not None and not (inspect.isclass(found.settings) and issubclass(found.settings, Schema)):
        return "set settings to a subclass of pegboard.Schema, or leave it out"
    verbs = getattr(found, "verbs", None)
    if not isinstance(verbs, tuple) or not verbs:
        return 'set verbs to a tuple of the verbs it allows, as in verbs = "GET", "POST"'
    unknown = [verb for verb in verbs if verb not in VERBS]
    if unknown or len(set(verbs)) < len(verbs):
        return (
            f"verbs holds {unknown[0]!r}; it takes each of {', '.join(VERBS)} at most once"
            if unknown
            else "verbs names one twice"
        )
    return operation.mistake(found) or _action_mistake(found, verbs) or _code_mistake(found) or found.mistake()


def _action_mistake(found: type[Resource], verbs: tuple[str, ...]) -> str | None:
    there = found.actions()
    for name in (*there, "before_commit", "after_commit"):
        if not inspect.iscoroutinefunction(getattr(found, name)):
            return f"{'the action ' * (name in there)}{name} has to be a coroutine: write async def {name}"
    if inspect.isasyncgenfunction(found.lifespan) or inspect.iscoroutinefunction(found.lifespan):
        return "lifespan has to be a context manager: write @contextlib.asynccontextmanager above it"
    for verb in verbs:
        wanted = {table[verb] for table in (COLLECTION_ACTIONS, ITEM_ACTIONS) if verb in table}
        if not wanted & there:
            return f"the verb {verb} is declared, but there is no action {' or '.join(sorted(wanted))}"
    declared = {table[verb] for table in (COLLECTION_ACTIONS, ITEM_ACTIONS) for verb in verbs if verb in table}
    writing = [verb for verb in ("PUT", "PATCH", "DELETE") if verb in verbs]
    if writing and "retrieve" not in there:
        return f"the verb {writing[0]} is declared, whose conditions are held against an item: write async def retrieve"
    if writing or any(one.on == "item" for one in found.operations().values()):
        declared.add("retrieve")
    extra = sorted(set(vars(found)) & there - declared)
    return f"the action {extra[0]} is written, but none of its verbs is declared" if extra else None


def _code_mistake(found: type[Resource]) -> str | None:
    codes: tuple[Any, ...] = found.error_codes
    for declared in codes:
        if not isinstance(declared, ErrorCode):
            return f"error_codes holds {declared!r}; it takes pegboard.ErrorCode"
        if declared.code < _FIRST_CODE:
            return f"the error code {declared.code} is one of the service's own: take one from {_FIRST_CODE}"
        if not 400 <= declared.status <= 599:
            return f"the error code {declared.code} has the status {declared.status}, which is not from 400 to 599"
    numbers = [declared.code for declared in codes]
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    return None if twice is None else f"the error code {twice} is there twice"
