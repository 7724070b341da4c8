"""The plugins that are installed: found by their entry points, loaded apart from each other, each with its state."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import Distribution, EntryPoint, distributions, version
from itertools import chain
from traceback import walk_tb
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from pegboard.api.resource import VERBS, Resource
from pegboard.api.table import TableResource
from pegboard.hosting import guard, plugin_settings
from pegboard.hosting.checks.declaration import problem
from pegboard.query import mapping
from pegboard.settings import SettingsError

GROUP = "pegboard.resources"
RESERVED = frozenset(
    (
        *("docs", "errors", "health", "metrics", "openapi.json", "plugins", "ready"),
        *("pegboard", "public", "information_schema"),
    )
)
"""Names that are the service's own paths, or PostgreSQL schemas of others."""

_LONGEST_FAULT = 2_000
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
        self.state, self.fault = state, _line(fault)
        log.error("plugin %s (%s %s) failed: %s", self.name, self.distribution, self.version, self.fault)

    @contextmanager
    def guarded(self, doing: str, seconds: float) -> Iterator[None]:
        """Run code of the plugin: whatever it raises, or more time than it has, takes the plugin out and no more."""
        try:
            with guard.bounded(self.name, seconds):
                yield
        except BaseException as error:
            if guard.is_asked_for(error):
                raise
            log.debug("plugin %s %s", self.name, doing, exc_info=True)
            self.fail(f"{doing}: {type(error).__name__}: {_told(error)}{_where(error, self.package)}")


def installed(group: str = GROUP) -> list[EntryPoint]:
    """Return the entry points of a group, without more those of all resources; what cannot be read is logged."""
    found: dict[str, list[EntryPoint]] = {}
    for distribution in distributions():
        try:
            points = list(distribution.entry_points.select(group=group))
            # The first of a name on the path is the one that is imported.
            if points:
                found.setdefault(_name_of(distribution), points)
        except Exception as error:
            place = getattr(distribution, "_path", "a distribution")
            log.error("%s cannot be read, so its plugins are not known: %s", place, _told(error))
    return sorted(chain.from_iterable(found.values()), key=lambda point: (point.name, point.value))


def _name_of(distribution: Distribution) -> str:
    try:
        return canonicalize_name(distribution.name)
    except Exception:
        # It is told where the plugin has its place.
        return str(getattr(distribution, "_path", id(distribution)))


def discover(
    points: Iterable[EntryPoint],
    enabled: Collection[str] | None = None,
    seconds: float = 20.0,
    environ: Mapping[str, str] = os.environ,
) -> list[Plugin]:
    """Return a plugin for each entry point, loaded where it can be, with its settings from `environ`.

    None in `enabled` means all.

    Each has so many seconds to be loaded. Never raises for what a plugin does wrong: its state and fault tell.
    """
    points = list(points)
    claims = Counter(point.name for point in points)
    plugins = [_plugin(point, claims[point.name], enabled, seconds) for point in points]
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
        plugin.settings = plugin_settings.read(resource.settings, plugin.name, environ, names)
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
            plugin.fail(f"the error code {code} is also declared by {others}", State.CONFLICT)


def _plugin(point: EntryPoint, claims: int, enabled: Collection[str] | None, seconds: float) -> Plugin:
    plugin = Plugin(point.name, *_metadata(point.dist))
    plugin.package = point.module.partition(".")[0]
    unfit = name_problem(point.name)
    if unfit is not None:
        plugin.fail(unfit)
    elif claims > 1:
        plugin.fail(f"{claims} distributions claim the name {point.name!r}; uninstall all but one", State.CONFLICT)
    elif enabled is not None and point.name not in enabled:
        plugin.state = State.DISABLED
    else:
        with plugin.guarded(f"{point.value} cannot be loaded", seconds):
            _load(plugin, point)
    return plugin


def name_problem(name: str) -> str | None:
    """Return why a resource cannot have this name; None for one that it can."""
    if _NAME.fullmatch(name) and name not in RESERVED and not name.startswith("pg_"):
        return None
    return (
        f"the name {name!r} is not valid for a resource: it is reserved, or not 1 to 40 characters of a-z, 0-9, - and _"
    )


def _metadata(distribution: Distribution | None) -> tuple[str, str]:
    """Return name and version of a distribution; what cannot be read is left empty."""
    found = []
    for name in ("name", "version"):
        try:
            found.append(str(getattr(distribution, name, None) or ""))
        except Exception:
            found.append("")
    return found[0], found[1]


def _load(plugin: Plugin, point: EntryPoint) -> None:
    fault = _unfit(point.dist)
    if fault is None:
        found = point.load()
        fault = problem(found, point.name)
        fault = fault and f"{point.value}: {fault}"
    if fault is not None:
        plugin.fail(fault)
        return
    plugin.resource = found


def _unfit(distribution: Distribution | None) -> str | None:
    """Return why a distribution cannot be used with this version of the core; None where it can."""
    own = version("pegboard")
    try:
        requirements = [Requirement(line) for line in (distribution.requires if distribution else None) or ()]
    except (InvalidRequirement, ValueError, OSError) as error:
        return f"its metadata cannot be read: {_told(error)}: install it again"
    for needed in requirements:
        applies = needed.marker is None or needed.marker.evaluate({"extra": ""})
        if canonicalize_name(needed.name) == "pegboard" and applies and not needed.specifier.contains(own, True):
            return f"it requires pegboard {needed.specifier}, but this is {own}: install a release that supports it"
    return None


def _told(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "it gives no reason"


def _where(error: BaseException, package: str) -> str:
    """Return where in the code of `package` it was raised, "" for elsewhere."""
    last = ""
    for frame, number in walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == package:
            last = f" ({frame.f_globals['__name__']}, line {number})"
    return last


def _line(text: str) -> str:
    """Return a text on one line that is not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_FAULT else f"{line[:_LONGEST_FAULT]}..."
