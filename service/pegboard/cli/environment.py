"""The environment of a command: settings, installed plugins and a running database."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pegboard import running
from pegboard.hosting import discovery
from pegboard.hosting.discovery import Plugin
from pegboard.postgres.embedded import EmbeddedServer, dsn_of
from pegboard.settings import Settings


def load_settings() -> Settings:
    """Return the settings from the environment; raises `SettingsError`."""
    return Settings.load(os.environ, (point.name for point in discovery.installed()))


def load_plugins(settings: Settings) -> list[Plugin]:
    """Return the installed plugins, loaded as `settings` prescribe."""
    return discovery.discover(
        discovery.installed(), settings.plugins, settings.plugin_load_timeout, mounts=dict(settings.mounts)
    )


@contextmanager
def database(settings: Settings, *, attach: bool = False) -> Iterator[Settings]:
    """Yield the settings with the URL of a running database: the one they name, or an embedded one, stopped afterwards.

    With `attach`, use the embedded database of a running service if there is one.
    """
    if settings.database_url is not None:
        yield settings
        return
    running_url = dsn_of(settings.data_dir) if attach else None
    if running_url is not None:
        yield dataclasses.replace(settings, database_url=running_url)
        return
    server, starter = EmbeddedServer(settings.data_dir), os.getpid()
    try:
        yield dataclasses.replace(settings, database_url=server.start())
    finally:
        # A worker, forked from the process that started PostgreSQL, exits this block, too.
        if os.getpid() == starter:
            running.ignore_signals()
            server.stop()
