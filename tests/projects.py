"""Plugins under development: source folders that appear installed, and commands that work on them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner, Result

from pegboard.cli import main

HEAD = "from pegboard import Resource, Schema, TableResource, Unique, fields, validate\n"


@dataclass
class Site:
    """A folder on the import path, with projects like editable installs."""

    folder: Path
    patch: pytest.MonkeyPatch

    def install(self, distribution: str, entry_points: str, *, copied: bool = False) -> Path:
        """Install a distribution with the entry points `NAME = PACKAGE:CLASS`; return the folder of its package."""
        info = self.folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[pegboard.resources]\n{entry_points}\n")
        package = self.folder / distribution.replace("-", "_")
        (info / "RECORD").write_text(f"{package.name}/__init__.py,,\n" if copied else "")
        package.mkdir()
        return package

    def write(self, package: Path, source: str) -> None:
        """Write the source of a package, and remove it from all caches."""
        (package / "__init__.py").write_text(HEAD + dedent(source))
        for cached in package.glob("__pycache__/*"):
            cached.unlink()
        for module in [name for name in sys.modules if name.partition(".")[0] == package.name]:
            self.patch.delitem(sys.modules, module)

    def pegboard(self, *arguments: str, stdin: str = "", **settings: str) -> Result:
        """Run a command with these settings and standard input."""
        for name, value in settings.items():
            self.patch.setenv(f"PEGBOARD_{name.upper()}", value)
        root = logging.getLogger()
        level, handlers = root.level, list(root.handlers)
        try:
            return CliRunner().invoke(main, arguments, input=stdin)
        finally:
            # The command configures the logging of its process, which here is that of the tests.
            root.setLevel(level)
            root.handlers[:] = handlers

    def run(self, *arguments: str) -> str:
        """Run a command that must succeed, and return its output."""
        result = self.pegboard(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    def expect_error(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that must fail, and return its error message, a single line."""
        result = self.pegboard(*arguments, stdin=stdin)
        assert (result.exit_code, result.stdout) == (1, ""), result.output
        [line] = result.stderr.splitlines()
        assert line.startswith("Error: ")
        return line.removeprefix("Error: ")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Return an import folder for projects, whose modules are unloaded afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Site(folder, monkeypatch)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
