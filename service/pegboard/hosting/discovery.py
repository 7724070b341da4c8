"""Discovery of plugins by their entry points, separate loading, and their states."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from importlib.metadata import Distribution, EntryPoint, distributions, version
from itertools import chain
from traceback import walk_tb
from types import MappingProxyType
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from pegboard.api import declared
from pegboard.api.resource import Resource
from pegboard.errors import ApiError
from pegboard.hosting import error_blocks, plugin_settings, startup_guard
from pegboard.hosting.checks.declaration import problem
from pegboard.hosting.names import name_problem
from pegboard.query import mapping
from pegboard.settings import SettingsError

GROUP = "pegboard.resources"
_MAX_ERROR_LENGTH = 2_000

log = logging.getLogger("pegboard.plugins")


class State(StrEnum):
    """Enumerate the states of a plugin."""

    READY = "ready"
    FAILED = "failed"
    CONFLICT = "conflict"
    DISABLED = "disabled"


@dataclass(slots=True)
class Plugin:
    """Describe an entry point of the group `pegboard.resources`: its distribution, its resource and its state."""

    name: str
    """The name in paths and grants."""
    distribution: str
    version: str
    state: State = State.READY
    error: str | None = None
    resource: type[Resource] | None = None
    package: str = ""
    entry_point: str = ""
    """The name of the entry point, if it is mounted at another one."""
    keeps_data_apart: bool = False
    """Whether another distribution has the entry point's name, and so the PostgreSQL schema of that name."""
    first_code: int = 0
    """The first code of the block of its distribution."""
    applied: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def storage(self) -> str:
        """Return the name of its PostgreSQL schema and of its migrations: the first that the resource has had."""
        own = self.name if self.keeps_data_apart else self.entry_point or self.name
        former = tuple(self.resource.former_names) if self.resource else ()
        return former[0] if former else own

    @property
    def settings_name(self) -> str:
        """Return the name in the prefix of its settings, which a mount does not change."""
        return self.name if self.keeps_data_apart else self.entry_point or self.name

    @property
    def aliases(self) -> tuple[str, ...]:
        """Return the other names under which clients may know it: its former names, and the entry point's."""
        former = tuple(self.resource.former_names) if self.resource else ()
        names = (*former, *(() if self.keeps_data_apart else (self.entry_point,)))
        return tuple(dict.fromkeys(name for name in names if name and name != self.name))

    @property
    def verbs(self) -> tuple[str, ...]:
        """Return the declared verbs in the usual order; none if the resource could not be loaded."""
        return declared.verbs(self.resource) if self.resource else ()

    def fail(self, error: str, state: State = State.FAILED) -> None:
        """Mark the plugin as failed; log and keep the error on a single line."""
        self.state, self.error = state, _single_line(error)
        log.error("plugin %s (%s %s) failed: %s", self.name, self.distribution, self.version, self.error)

    @contextmanager
    def guarded(self, failure: str, seconds: float) -> Iterator[None]:
        """Run code of the plugin; if it raises or takes more than `seconds`, fail the plugin and raise nothing."""
        try:
            with startup_guard.bounded(self.name, seconds):
                yield
        except BaseException as error:
            if startup_guard.is_stop_request(error):
                raise
            log.debug("plugin %s %s", self.name, failure, exc_info=True)
            self.fail(f"{failure}: {type(error).__name__}: {_message_of(error)}{_location_in(error, self.package)}")


def installed(group: str = GROUP) -> list[EntryPoint]:
    """Return the entry points of a group, by default that of resources; log distributions that cannot be read."""
    found: dict[str, list[EntryPoint]] = {}
    for distribution in distributions():
        try:
            points = list(distribution.entry_points.select(group=group))
            # Python imports the first distribution of a name on the path.
            if points:
                found.setdefault(_name_of(distribution), points)
        except Exception as error:
            path = getattr(distribution, "_path", "a distribution")
            log.error("%s cannot be read, so its plugins are not known: %s", path, _message_of(error))
    return sorted(chain.from_iterable(found.values()), key=lambda point: (point.name, point.value))


def _name_of(distribution: Distribution) -> str:
    try:
        return canonicalize_name(distribution.name)
    except Exception:
        # The error is reported when the plugin is loaded.
        return str(getattr(distribution, "_path", id(distribution)))


def discover(
    points: Iterable[EntryPoint],
    enabled: Collection[str] | None = None,
    seconds: float = 20.0,
    environ: Mapping[str, str] = os.environ,
    mounts: Mapping[str, str] = MappingProxyType({}),
) -> list[Plugin]:
    """Return a plugin for each entry point, loaded if possible, with its settings from `environ`.

    `enabled` has the names of the plugins to load; None means all. Each has `seconds` to be loaded. `mounts` has other
    names for some, by `NAME` or `DISTRIBUTION/NAME`. The error of a plugin is not raised, but reported by its `state`
    and `error`. Raises `SettingsError` for a mount of what is not installed.
    """
    points = list(points)
    _reject_unknown_distributions(points, mounts)
    mounted = [(_mount(point, mounts), point) for point in points]
    claims = Counter(name for (name, _), _ in mounted)
    plugins = [_plugin(point, name, apart, claims[name], enabled, seconds) for (name, apart), point in mounted]
    _check_error_codes(plugins)
    _check_aliases(plugins)
    _check_references(plugins)
    prefixes = [plugin.settings_name for plugin in plugins]
    for plugin in plugins:
        if plugin.state is State.READY and plugin.resource is not None:
            _configure(plugin, plugin.resource, environ, prefixes)
    return plugins


def _check_references(plugins: Collection[Plugin]) -> None:
    """Fail the plugins that refer to an existing table whose key is not a UUID named id."""
    tables = {
        plugin.name: existing
        for plugin in plugins
        if plugin.resource and (existing := declared.existing_table(plugin.resource))
    }
    for plugin in plugins:
        references = mapping.references(plugin.resource.schema()) if plugin.resource and tables else {}
        for field_name, target in references.items():
            table = tables.get(target)
            if table is not None and (table.key_type, table.key) != ("uuid", "id"):
                reason = f"the key of {table.table} is {table.key} of type {table.key_type}, not id of type uuid"
                plugin.fail(f"the field {field_name} cannot refer to {target}: {reason}")


def _configure(plugin: Plugin, resource: type[Resource], environ: Mapping[str, str], names: Collection[str]) -> None:
    """Read the settings of a plugin; it fails if they are invalid."""
    try:
        plugin.settings = plugin_settings.read(resource.settings_schema, plugin.settings_name, environ, names)
    except SettingsError as error:
        plugin.fail(str(error))
    except Exception as error:
        # The message of the exception may contain a secret.
        plugin.fail(f"its settings cannot be read: its schema raised {type(error).__name__}")


def _check_error_codes(plugins: Collection[Plugin]) -> None:
    """Fail the plugins whose error codes are those of others: of another distribution, or of another error."""
    blocks: dict[int, str] = {}
    errors: dict[int, type[ApiError]] = {}
    distributions = {plugin.package: plugin.distribution for plugin in plugins}
    for plugin in sorted(plugins, key=lambda plugin: (canonicalize_name(plugin.distribution), plugin.name)):
        declared_errors = plugin.resource.error_codes if plugin.resource else ()
        if not declared_errors:
            continue
        owner = blocks.setdefault(plugin.first_code, plugin.distribution)
        if owner != plugin.distribution:
            how = f"declare another in the entry points {error_blocks.GROUP}"
            plugin.fail(f"its error codes from {plugin.first_code} are those of {owner}: {how}", State.CONFLICT)
            continue
        for error in declared_errors:
            name, package = error.__name__, error.__module__.partition(".")[0]
            other = errors.setdefault(error.code, error)
            if distributions.get(package, plugin.distribution) != plugin.distribution:
                where = distributions[package]
                plugin.fail(f"the error {name} belongs to {where}: raise it, but remove it from error_codes")
            elif other is not error:
                how = "use another for one of them"
                plugin.fail(f"the errors {name} and {other.__name__} have the same number, {error.number}: {how}")


def _mount(point: EntryPoint, mounts: Mapping[str, str]) -> tuple[str, bool]:
    """Return the name at which an entry point is mounted, and whether that distinguishes it from another."""
    qualified = _qualified(point)
    if qualified in mounts:
        return mounts[qualified], True
    return mounts.get(point.name, point.name), False


def _qualified(point: EntryPoint) -> str:
    return f"{canonicalize_name(_metadata(point.dist)[0])}/{point.name}"


def _reject_unknown_distributions(points: Iterable[EntryPoint], mounts: Mapping[str, str]) -> None:
    installed = [_qualified(point) for point in points]
    for key in mounts:
        if "/" in key and key not in installed:
            near = get_close_matches(key, installed, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise SettingsError(f"PEGBOARD_MOUNTS names {key}, which is not installed.{hint}")


def _check_aliases(plugins: Collection[Plugin]) -> None:
    """Fail the plugins that had the name of another: their tables, grants and links would be those of both."""
    owners: dict[str, Plugin] = {plugin.name: plugin for plugin in plugins}
    for plugin in plugins:
        for name in plugin.aliases:
            owner = owners.setdefault(name, plugin)
            if owner is not plugin and plugin.state is State.READY:
                plugin.fail(f"its former name {name} is also one of the plugin {owner.name}", State.CONFLICT)


def _plugin(
    point: EntryPoint, name: str, apart: bool, claims: int, enabled: Collection[str] | None, seconds: float
) -> Plugin:
    plugin = Plugin(name, *_metadata(point.dist))
    plugin.package = point.module.partition(".")[0]
    plugin.entry_point, plugin.keeps_data_apart = point.name, apart
    invalid = name_problem(name)
    if invalid is not None:
        plugin.fail(invalid)
    elif claims > 1:
        mount = f"PEGBOARD_MOUNTS={plugin.distribution}/{point.name}=OTHER_NAME"
        cure = f"uninstall all but one, or mount the new one by {mount}"
        plugin.fail(f"{claims} distributions claim the name {name!r}; {cure}", State.CONFLICT)
    elif enabled is not None and name not in enabled:
        plugin.state = State.DISABLED
    else:
        with plugin.guarded(f"{point.value} cannot be loaded", seconds):
            _load(plugin, point)
    return plugin


def _metadata(distribution: Distribution | None) -> tuple[str, str]:
    """Return the name and version of a distribution; empty strings for what cannot be read."""
    found = []
    for name in ("name", "version"):
        try:
            found.append(str(getattr(distribution, name, None) or ""))
        except Exception:
            found.append("")
    return found[0], found[1]


def _load(plugin: Plugin, point: EntryPoint) -> None:
    error = _incompatibility(point.dist)
    if error is None:
        found = _import(point)
        error = problem(found, plugin.name)
        error = error and f"{point.value}: {error}"
    if error is not None:
        plugin.fail(error)
        return
    plugin.first_code = _first_code(plugin, point.dist)
    own = [error for error in found.error_codes if error.__module__.partition(".")[0] == plugin.package]
    error_blocks.assign(own, plugin.first_code)
    plugin.resource = found


def _import(point: EntryPoint) -> Any:
    """Return what an entry point refers to; an `ImportError` of a common kind contains its fix."""
    try:
        return point.load()
    except AttributeError:
        module = sys.modules.get(point.module)
        if module is None or hasattr(module, point.attr):
            raise
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        near = get_close_matches(point.attr, classes, n=1)
        hint = f"did you mean {near[0]}? Correct" if near else "correct"
        raise ImportError(f"{point.module} has no {point.attr}: {hint} the entry point and install again") from None
    except ImportError as error:
        if "circular import" not in str(error):
            raise
        text = str(error).partition(" (most likely")[0]
        raise ImportError(f"{text}, a circular import: move it into the function that needs it") from error


def _first_code(plugin: Plugin, distribution: Distribution | None) -> int:
    declared = distribution.entry_points.select(group=error_blocks.GROUP) if distribution else ()
    return error_blocks.first_code(plugin.distribution or plugin.name, [point.name for point in declared])


def _incompatibility(distribution: Distribution | None) -> str | None:
    """Return why a distribution does not support this version of the core; None if it does."""
    own = version("pegboard")
    try:
        requirements = [Requirement(line) for line in (distribution.requires if distribution else None) or ()]
    except (InvalidRequirement, ValueError, OSError) as error:
        return f"its metadata cannot be read: {_message_of(error)}: install it again"
    for needed in requirements:
        applies = needed.marker is None or needed.marker.evaluate({"extra": ""})
        if canonicalize_name(needed.name) == "pegboard" and applies and not needed.specifier.contains(own, True):
            return f"it requires pegboard {needed.specifier}, but this is {own}: install a release that supports it"
    return None


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "no message"


def _location_in(error: BaseException, package: str) -> str:
    """Return the line of `package` in which the error was raised; "" if it was raised elsewhere."""
    last = ""
    for frame, number in walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == package:
            last = f" ({frame.f_globals['__name__']}, line {number})"
    return last


def _single_line(text: str) -> str:
    """Return a text on one line, truncated if it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_ERROR_LENGTH else f"{line[:_MAX_ERROR_LENGTH]}..."
