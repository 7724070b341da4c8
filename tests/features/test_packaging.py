"""Contents of the wheels: the complete package, and nothing else."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(file.parent.name for file in ROOT.glob("plugins/*/pyproject.toml"))
REFERS_TO = {"contacts": ("companies",)}
NOT_SOURCE = (".*", "__pycache__", "*.egg-info", "build", "dist")


@dataclass(frozen=True)
class Wheel:
    """Hold the metadata and files of a built wheel."""

    files: frozenset[str]
    metadata: Message
    entry_points: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A copy: files left in the tree by an earlier build must not get into the wheel.
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "pegboard", ignore=ignored))


def ignored(folder: str, entries: list[str]) -> set[str]:
    return set(shutil.ignore_patterns(*NOT_SOURCE)(folder, entries))


def build(project: Path, folder: Path) -> Wheel:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(project)]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    [file] = folder.glob("*.whl")
    with ZipFile(file) as archive:
        files = frozenset(archive.namelist())
        [info] = {name.partition("/")[0] for name in files if ".dist-info/" in name}
        entry_points = ConfigParser(delimiters="=")
        entry_points.read_string(archive.read(f"{info}/entry_points.txt").decode())
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
    return Wheel(files, metadata, {group: dict(entry_points[group]) for group in entry_points.sections()})


def package_files(package: Path) -> set[str]:
    return {
        file.relative_to(package.parent).as_posix()
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def info_files(wheel: Wheel) -> set[str]:
    return {name.partition("/")[2] for name in wheel.files if ".dist-info/" in name}


def modules(wheel: Wheel) -> Iterator[str]:
    for group in wheel.entry_points.values():
        for target in group.values():
            yield target.partition(":")[0].replace(".", "/")


def assert_entry_points_are_importable(wheel: Wheel) -> None:
    for module in modules(wheel):
        assert wheel.files & {f"{module}.py", f"{module}/__init__.py"}, module


def test_the_wheel_of_the_service_contains_only_its_package(source: Path, tmp_path: Path) -> None:
    wheel = build(source, tmp_path)
    expected = package_files(source / "service" / "pegboard")
    assert {"pegboard/__init__.py", "pegboard/py.typed"} <= expected
    assert {name for name in wheel.files if ".dist-info/" not in name} == expected | {"pytest_pegboard.py"}
    assert info_files(wheel) == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
    assert wheel.metadata["Name"] == "pegboard"
    assert wheel.metadata["License-Expression"] == "Apache-2.0"
    assert wheel.metadata["Description-Content-Type"] == "text/markdown"
    assert wheel.entry_points["console_scripts"] == {"pegboard": "pegboard.cli:main"}
    assert wheel.entry_points["pytest11"] == {"pegboard": "pytest_pegboard"}
    assert_entry_points_are_importable(wheel)


@pytest.mark.parametrize("name", PLUGINS)
def test_the_wheel_of_a_plugin_contains_only_its_package(source: Path, tmp_path: Path, name: str) -> None:
    folder = source / "plugins" / name
    package = f"pegboard_{name.replace('-', '_')}"
    wheel = build(folder, tmp_path)
    expected = package_files(folder / package)
    assert {f"{package}/__init__.py", f"{package}/py.typed"} <= expected
    assert {name for name in wheel.files if ".dist-info/" not in name} == expected
    assert wheel.metadata["Name"] == f"pegboard-{name}"
    assert wheel.metadata["License-Expression"] == "Apache-2.0"
    assert wheel.metadata["Description-Content-Type"] == "text/markdown"
    needed = ["pegboard", *(f"pegboard-{other}" for other in REFERS_TO.get(name, ()))]
    assert wheel.metadata.get_all("Requires-Dist") == [f"{project}<0.2,>=0.1" for project in needed]
    assert wheel.entry_points == {"pegboard.resources": {name: f"{package}:{name.title().replace('-', '')}"}}
    assert_entry_points_are_importable(wheel)


def test_every_imported_library_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = chain(project["dependencies"], *project["optional-dependencies"].values())
    declared = {re.split(r"[<>=!~;\[ ]", requirement)[0] for requirement in requirements}
    distributions = {
        module: {name.replace("_", "-").lower() for name in names} for module, names in packages_distributions().items()
    }
    for file in (ROOT / "service").rglob("*.py"):
        for module in imported_libraries(file) - sys.stdlib_module_names - {"pegboard"}:
            assert declared.intersection(distributions.get(module, ())), f"{file.name} imports {module}"


def imported_libraries(file: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(file.read_text())))
    direct_imports = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    from_imports = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition(".")[0] for name in direct_imports | from_imports}
