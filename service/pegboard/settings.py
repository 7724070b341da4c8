"""The settings, read from the environment: the name, format, bounds, default and description of each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pegboard import links, values
from pegboard.values import Expected, Network, PerPlugin

T = TypeVar("T")

PREFIX = "PEGBOARD_"
FILE_SUFFIX = "_FILE"
MAX_VALUE_SHOWN = 60


class SettingsError(Exception):
    """Report in one line which setting is invalid, and what it must be."""


def _setting(default: str, parse: Callable[[str], T], description: str) -> T:
    metadata = {"default": default, "parse": parse, "description": description, "secret": False}
    return field(default=parse(default), metadata=metadata)


def _optional(parse: Callable[[str], T], description: str, *, secret: bool = False) -> T | None:
    metadata = {"default": None, "parse": parse, "description": description, "secret": secret}
    return field(default=None, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Hold the values of the settings.

    The fields are the only list of settings: names, formats, checks and documentation are derived from them.
    """

    database_url: str | None = _optional(
        values.database_url,
        "The PostgreSQL database that stores all data. Without it the service runs one of its own in `data_dir`.",
        secret=True,
    )
    read_database_url: str | None = _optional(
        values.database_url, "A replica that serves reads. Without it they go to `database_url`.", secret=True
    )
    direct_database_url: str | None = _optional(
        values.database_url,
        "The same database, bypassing a pooler in transaction mode, such as PgBouncer, that the other two URLs use.",
        secret=True,
    )
    data_dir: Path = _setting(  # noqa: RUF009 - a field
        ".pegboard", values.path, "The folder in which the service's own PostgreSQL keeps its data."
    )
    host: str = _setting("127.0.0.1", values.text, "The address to listen on.")
    port: int = _setting("8080", values.integer(0, 65535), "The port to listen on; 0 takes any free one.")
    workers: int = _setting("1", values.integer(1, 256), "The number of worker processes.")
    admin_password: str | None = _optional(
        values.password,
        "The password of the first client, `admin`, in a new database. Without it one is generated and shown once.",
        secret=True,
    )
    plugins: tuple[str, ...] | None = _optional(
        values.names, "The plugins to mount, of those installed. Without it: all."
    )
    mounts: tuple[tuple[str, str], ...] = _setting(
        "",
        values.mounts,
        "Other names for resources: `contacts=people`, or `DISTRIBUTION/contacts=people` if two have one name.",
    )
    plugins_required: tuple[str, ...] = _setting(
        "", values.names, "The plugins that must be ready before the service is."
    )
    middlewares: tuple[str, ...] = _setting(
        "", values.names, "The operator's own aiohttp middlewares, outermost first, by their entry points' names."
    )
    plugin_load_timeout: float = _setting(
        "20", values.seconds(0.1, 3600), "How many seconds a plugin may take to be imported, and then to be mounted."
    )
    plugin_timeout: PerPlugin[float] = _setting(  # noqa: RUF009 - a field
        "30",
        values.per_plugin(values.seconds(0.1, 86400)),
        "How many seconds a plugin has for a request, optionally followed by overrides per plugin: `30,reports=120`.",
    )
    plugin_requests: PerPlugin[int] = _setting(  # noqa: RUF009 - a field
        "500",
        values.per_plugin(values.integer(1, 1_000_000)),
        "The concurrent requests per plugin and worker, optionally followed by overrides per plugin: `500,reports=5`.",
    )
    plugin_pool_share: PerPlugin[int] = _setting(  # noqa: RUF009 - a field
        "80",
        values.per_plugin(values.integer(1, 100)),
        "The percentage of a pool that a plugin may use, optionally followed by overrides per plugin: `80,reports=10`.",
    )
    plugin_blocking: float = _setting(
        "1", values.seconds(0.1, 3600), "After how many seconds the log names a plugin that blocks a worker."
    )
    log_level: str = _setting(
        "info",
        values.one_of("debug", "info", "warning", "error", "critical"),
        "The minimum log level.",
    )
    log_format: str = _setting("text", values.one_of("text", "json"), "The log format.")
    tracing: bool = _setting(
        "false",
        values.boolean,
        "Whether to export OpenTelemetry traces, configured by `OTEL_*`.",
    )
    max_body: int = _setting(
        "10MiB", values.size("1KiB", "1GiB"), "The largest body that a request may have, in bytes."
    )
    max_head: int = _setting(
        "32KiB", values.size("1KiB", "1MiB"), "The largest head that a request may have, in bytes."
    )
    max_url: int = _setting("8KiB", values.size("256B", "1MiB"), "The longest URL that a request may have, in bytes.")
    # An item must fit into a response: orjson serializes at most 254 levels, and a collection adds two of them.
    max_nesting: int = _setting("100", values.integer(1, 250), "How deep arrays and objects in a body may be nested.")
    receive_timeout: float = _setting(
        "30", values.seconds(0.1, 3600), "How many seconds a request's head, and then its body, may take to arrive."
    )
    keepalive_timeout: float = _setting(
        "75", values.seconds(0.1, 3600), "How many seconds an idle connection is kept for the next request."
    )
    shutdown_timeout: float = _setting(
        "25", values.seconds(0, 3600), "How many seconds running requests have to finish when the service stops."
    )
    drain_seconds: float = _setting(
        "0",
        values.seconds(0, 3600),
        "How many seconds the service still accepts requests after SIGTERM, while `/ready` returns 503 to balancers.",
    )
    lifespan_timeout: float = _setting(
        "30", values.seconds(0.1, 3600), "How many seconds a plugin's `lifespan` may take to begin, and to end."
    )
    pool_size: int = _setting(
        "10", values.integer(1, 1000), "How many connections for writes each worker opens at most."
    )
    read_pool_size: int = _setting(
        "10", values.integer(1, 1000), "How many connections for reads each worker opens at most."
    )
    pool_timeout: float = _setting(
        "5", values.seconds(0.1, 3600), "How many seconds a request waits for a connection to the database."
    )
    database_timeout: float = _setting(
        "30", values.seconds(0.1, 3600), "How many seconds one statement may run in the database."
    )
    path_prefix: str = _setting("", values.path_prefix, "The path under which a proxy serves the API, such as `/api`.")
    trusted_proxies: tuple[Network, ...] = _setting(
        "", values.networks, "The proxies that are trusted for a client's address (`X-Forwarded-For`)."
    )
    cors_origins: tuple[str, ...] = _setting(
        "", values.origins, "The origins of the web pages that may use the service, or `*` for all; without it: none."
    )
    docs_public: bool = _setting(
        "true", values.boolean, "Whether the API reference (`/docs`, `/openapi.json`) is shown without credentials."
    )
    remember_seconds: float = _setting(
        "60", values.seconds(0, 3600), "How many seconds a verified credential is cached; 0 verifies it every time."
    )

    @property
    def direct_url(self) -> str:
        """Return the URL for migrations and notifications, which a pooler in transaction mode cannot serve."""
        return self.direct_database_url or self.database_url or ""

    @classmethod
    def load(cls, environ: Mapping[str, str], plugin_names: Iterable[str] = ()) -> Settings:
        """Read the settings from `environ`, except `PEGBOARD_<PLUGIN>_*` of the plugins in `plugin_names`.

        An empty variable counts as not set. Each setting can be read from the file that `PEGBOARD_<NAME>_FILE` names
        instead; one newline at the end of the file is removed. The variables that Kubernetes and Docker add for a
        service named `pegboard` or `pegboard-db` are ignored.

        Raises `SettingsError` for an unknown variable, an invalid value, a file that cannot be read, and a setting
        that is set both ways.
        """
        ignored = linked_names(environ)
        present = {
            name: value for name, value in environ.items() if name.startswith(PREFIX) and value and name not in ignored
        }
        plugins = tuple(plugin_names)
        values = {setting.name: _read(setting, present) for setting in SETTINGS if setting.is_set(present)}
        mounts = dict(values.get("mounts", ()))
        _reject_unknown(present, (*plugins, *mounts.values()))
        settings = cls(**values)
        _reject_contradictions(settings)
        _reject_unknown_mounts(settings, plugins)
        _reject_unknown_plugins(settings, [*(name for name in plugins if name not in mounts), *mounts.values()])
        return settings


@dataclass(frozen=True, slots=True)
class Setting:
    """Describe one setting: its field in `Settings`, and the values that its variable accepts.

    `default` is in the format of the variable; None if there is no default.
    """

    name: str
    default: str | None
    parse: Callable[[str], Any]
    description: str
    secret: bool

    @property
    def variable(self) -> str:
        """Return the name of the environment variable."""
        return PREFIX + self.name.upper()

    @property
    def file_variable(self) -> str:
        """Return the name of the environment variable with the path of a file that contains the value."""
        return self.variable + FILE_SUFFIX

    def is_set(self, environ: Mapping[str, str]) -> bool:
        """Return whether one of the two variables is in `environ`."""
        return self.variable in environ or self.file_variable in environ


SETTINGS: tuple[Setting, ...] = tuple(Setting(name=entry.name, **entry.metadata) for entry in fields(Settings))
"""Every setting, in the order in which they are documented."""


VARIABLES = frozenset(name for setting in SETTINGS for name in (setting.variable, setting.file_variable))
"""The names of the environment variables of all settings."""


def linked_names(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the names of the variables that Kubernetes or Docker have added, which are no settings."""
    return links.names_in(environ, PREFIX, VARIABLES)


def prefix_of(plugin: str) -> str:
    """Return the prefix of a plugin's environment variables."""
    return f"{PREFIX}{plugin.upper().replace('-', '_')}_"


def _reject_unknown(present: Mapping[str, str], plugin_names: Iterable[str]) -> None:
    plain = [setting.variable for setting in SETTINGS]
    from_file = [setting.file_variable for setting in SETTINGS]
    of_plugins = tuple(map(prefix_of, plugin_names))
    unknown = sorted(name for name in present if name not in {*plain, *from_file} and not name.startswith(of_plugins))
    if not unknown:
        return
    candidates = from_file if unknown[0].endswith(FILE_SUFFIX) else plain
    # With the prefix, which all have in common, every name would be a close match.
    near = get_close_matches(
        unknown[0].removeprefix(PREFIX).upper(), [name.removeprefix(PREFIX) for name in candidates], n=1
    )
    hint = f" Did you mean {PREFIX}{near[0]}?" if near else ""
    raise SettingsError(f"{unknown[0]} is not a setting of the service or of an installed plugin.{hint}")


def _reject_contradictions(settings: Settings) -> None:
    for name in ("read_database_url", "direct_database_url"):
        if getattr(settings, name) is not None and settings.database_url is None:
            raise SettingsError(f"{PREFIX}{name.upper()} is set, but PEGBOARD_DATABASE_URL is not: set both.")
    if settings.plugins is None:
        return
    excluded = sorted(set(settings.plugins_required).difference(settings.plugins))
    if excluded:
        raise SettingsError(f"PEGBOARD_PLUGINS_REQUIRED names {excluded[0]}, which PEGBOARD_PLUGINS does not contain.")


def _reject_unknown_plugins(settings: Settings, plugin_names: Collection[str]) -> None:
    """Reject a limit for a plugin that is not installed: a misspelt name would leave the plugin without its limit."""
    for setting in SETTINGS:
        value = getattr(settings, setting.name)
        unknown = sorted(set(value.own).difference(plugin_names)) if isinstance(value, PerPlugin) else ()
        if unknown:
            near = get_close_matches(unknown[0], plugin_names, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{setting.variable} names the plugin {unknown[0]}, which is not installed.{hint}")


def _reject_unknown_mounts(settings: Settings, plugin_names: Collection[str]) -> None:
    for key, _ in settings.mounts:
        name = key.rpartition("/")[2]
        if name not in plugin_names:
            near = get_close_matches(name, plugin_names, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{PREFIX}MOUNTS names the plugin {name}, which is not installed.{hint}")


def _read(setting: Setting, present: Mapping[str, str]) -> Any:
    return _parse(setting, *read_value(setting.variable, present))


def read_value(variable: str, present: Mapping[str, str]) -> tuple[str, str]:
    """Return the subject for error messages, and the value of a variable or the content of the file it names.

    Raises `SettingsError` if both variables are set, or if the file cannot be read.
    """
    file_variable = variable + FILE_SUFFIX
    if variable in present and file_variable in present:
        raise SettingsError(f"{variable} and {file_variable} are both set: set one of them.")
    if variable in present:
        return variable, present[variable]
    return f"The content of {file_variable}", _content(file_variable, present[file_variable])


def _content(variable: str, file: str) -> str:
    try:
        content = Path(file).read_bytes().decode()
    except OSError as error:
        raise SettingsError(f"{variable}: cannot read {file!r}: {error.strerror}.") from None
    except ValueError:
        raise SettingsError(f"{variable}: {file!r} does not hold UTF-8 text.") from None
    newline = "\r\n" if content.endswith("\r\n") else "\n"
    return content.removesuffix(newline)


def _parse(setting: Setting, subject: str, value: str) -> Any:
    try:
        value.encode()
        return setting.parse(value)
    except UnicodeEncodeError:
        raise SettingsError(f"{subject} must be UTF-8 text.") from None
    except Expected as expected:
        shown = "" if setting.secret else f", not {value[:MAX_VALUE_SHOWN]!r}"
        raise SettingsError(f"{subject} must be {expected}{shown}.") from None
