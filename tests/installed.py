"""Installed plugins: distributions in a folder on the import path, as pip writes them."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pegboard.hosting.discovery import GROUP, Plugin, installed

VALID = """
from pegboard import Schema, TableResource, fields

class Thing(Schema):
    name = fields.String(required=True)

class Things(TableResource):
    "Things."
    schema = Thing
    verbs = "GET", "POST"
"""

_numbers = itertools.count()


class Site:
    """A folder of packages, as installed by pip."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages: list[str] = []

    def install(
        self, distribution: str, code: str, *names: str, target: str = "Things", block: str = "", **files: str
    ) -> str:
        """Write a distribution whose entry points `names` refer to `target`; `files` are its migrations."""
        package = f"{distribution.replace('-', '_')}_{next(_numbers)}"
        self.packages.append(package)
        (self.folder / package / "migrations").mkdir(parents=True)
        (self.folder / package / "__init__.py").write_text(code)
        if not files:
            (self.folder / package / "migrations").rmdir()
        for name, sql in files.items():
            (self.folder / package / "migrations" / f"{name.removeprefix('_')}.sql").write_text(sql)
        about = self.folder / f"{package}-1.2.dist-info"
        about.mkdir()
        about.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        lines = "".join(f"{name} = {package}:{target}\n" for name in names)
        declared = f"[pegboard.error_codes]\n{block} = {package}\n" if block else ""
        about.joinpath("entry_points.txt").write_text(f"[{GROUP}]\n{lines}{declared}")
        return package

    def points(self) -> list[EntryPoint]:
        """Return only the entry points of this folder."""
        return [point for point in installed() if point.module in self.packages]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Return an empty folder on the import path."""
    monkeypatch.syspath_prepend(tmp_path)
    site = Site(tmp_path)
    yield site
    for package in site.packages:
        sys.modules.pop(package, None)


def only(plugins: list[Plugin]) -> Plugin:
    (plugin,) = plugins
    return plugin
