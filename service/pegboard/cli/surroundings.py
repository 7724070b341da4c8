"""What a command works on: the settings, the plugins that are installed, and a database that is there."""

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


def settings() -> Settings:
    """Return the settings that the environment holds; raises `SettingsError`."""
    return Settings.load(os.environ, (point.name for point in discovery.installed()))


def plugins(given: Settings) -> list[Plugin]:
    """Return the plugins that are installed, loaded as far as `given` lets them."""
    return discovery.discover(discovery.installed(), given.plugins, given.plugin_load_timeout)


@contextmanager
def database(given: Settings, *, attach: bool = False) -> Iterator[Settings]:
    """Lend the settings with a database that is there: the one they name, or the embedded one, started for the time.

    With `attach`, an embedded one that a service runs already will do.
    """
    if given.database_url is not None:
        yield given
        return
    running_already = dsn_of(given.data_dir) if attach else None
    if running_already is not None:
        yield dataclasses.replace(given, database_url=running_already)
        return
    server, starter = EmbeddedServer(given.data_dir), os.getpid()
    try:
        yield dataclasses.replace(given, database_url=server.start())
    finally:
        # A worker is a fork of the process that started PostgreSQL, and leaves here, too.
        if os.getpid() == starter:
            running.ignore_signals()
            server.stop()
