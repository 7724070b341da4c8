"""Shared parts of commands: one-line errors, and options that override settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import asyncpg
import click

from pegboard.errors import ApiError
from pegboard.hosting.startup_guard import Stopped
from pegboard.migrations.sqlfiles import MigrationError
from pegboard.postgres.database import Unusable
from pegboard.postgres.embedded import EmbeddedError
from pegboard.running import StartError
from pegboard.settings import SETTINGS, Setting, SettingsError
from pegboard.values import Expected

Command = TypeVar("Command", bound=Callable[..., Any])

_EXPECTED = (SettingsError, EmbeddedError, StartError, Unusable, MigrationError, ApiError)
_DATABASE = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


class Commands(click.Group):
    """Report every expected error on one line, and exit with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except Stopped:
            raise SystemExit(0) from None
        except _EXPECTED as error:
            raise click.ClickException(str(error)) from error
        except _DATABASE as error:
            raise click.ClickException(f"the database cannot be used: {' '.join(str(error).split())}") from error


class SettingType(click.ParamType[Any]):
    """Accept the values of a setting."""

    def __init__(self, setting: Setting) -> None:
        self.name = setting.name
        self._setting = setting

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the parsed value."""
        try:
            return self._setting.parse(value)
        except Expected as expected:
            self.fail(f"{value!r}: it must be {expected}.", param, ctx)


def setting_option(name: str) -> Callable[[Command], Command]:
    """Return an option that overrides the setting `name`; without it the value is None."""
    setting = next(setting for setting in SETTINGS if setting.name == name)
    help_text = f"{setting.description} [{setting.variable}; default {setting.default}]"
    return click.option(f"--{name}", type=SettingType(setting), help=help_text)
