"""`pegboard new-plugin`: the generated project is complete and passes all checks; failures leave no files."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

from pegboard.cli.scaffold import project
from tests.projects import Site, site

__all__ = ("site",)

ROOT = Path(__file__).parents[2]


def run(*command: str, cwd: Path, **environ: str) -> str:
    arguments = [sys.executable, "-m", *command]
    result = subprocess.run(
        arguments, cwd=cwd, env={**os.environ, **environ}, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def project_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project.make("time-entries", tmp_path_factory.mktemp("plugins"))


def test_the_generated_plugin_passes_its_lint_rules(project_folder: Path) -> None:
    run("ruff", "check", "--no-cache", ".", cwd=project_folder)
    run("ruff", "format", "--no-cache", "--check", ".", cwd=project_folder)


def test_the_generated_plugin_passes_type_checking(project_folder: Path) -> None:
    # With the configuration of this repository, which is stricter and has a warm cache.
    run("mypy", str(project_folder / "src"), str(project_folder / "tests"), cwd=ROOT)


def test_the_tests_of_the_generated_plugin_pass(project_folder: Path, tmp_path: Path) -> None:
    info = tmp_path / "pegboard_time_entries-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: pegboard-time-entries\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[pegboard.resources]\ntime-entries = pegboard_time_entries:TimeEntries\n")
    path = {"PYTHONPATH": os.pathsep.join((str(project_folder / "src"), str(tmp_path)))}
    # A single rule of the suite, which other tests run completely.
    chosen = "not test_contract or refuses_ids_in_bodies"
    output = run(
        "pytest", "-q", "-p", "no:schemathesis", "-p", "no:cacheprovider", "-k", chosen, cwd=project_folder, **path
    )
    assert "3 passed" in output


def test_the_wheel_of_the_generated_plugin_contains_the_package(project_folder: Path, tmp_path: Path) -> None:
    (project_folder / "src/pegboard_time_entries/migrations").mkdir()
    (project_folder / "src/pegboard_time_entries/migrations/0001_time_entries.sql").write_text("SELECT 1;\n")
    run("build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), cwd=project_folder)
    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        points = archive.read("pegboard_time_entries-0.1.0.dist-info/entry_points.txt").decode()
    package = ("__init__.py", "migrations/0001_time_entries.sql", "py.typed")
    assert sorted(names) == [f"pegboard_time_entries/{name}" for name in package]
    assert points == "[pegboard.resources]\ntime-entries = pegboard_time_entries:TimeEntries\n"


@pytest.mark.parametrize("name", ["companies", "bus", "news", "s", "none", "schemas", "x" * 40, "table_resource"])
def test_the_generated_plugin_is_valid_for_any_name(site: Site, name: str) -> None:
    folder = project.make(name, site.folder)
    metadata = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    [(point, target)] = metadata["entry-points"]["pegboard.resources"].items()
    package = site.install(metadata["name"].replace("_", "-"), f"{point} = {target}")
    (package / "__init__.py").write_text((folder / f"src/pegboard_{name}/__init__.py").read_text())
    assert site.run("check").splitlines()[-1].startswith("no problems found")
    compile((folder / f"tests/test_{name}.py").read_text(), name, "exec")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("docs", "the name 'docs' is not valid for a resource"),
        ("Books", "the name 'Books' is not valid for a resource"),
        ("../books", "the name '../books' is not valid for a resource"),
        ("", "the name '' is not valid for a resource"),
        ("books-", "the name 'books-' is not valid for a package: it ends with '-'"),
        ("pg_books", "the name 'pg_books' is not valid for a resource"),
        ("taken", "pegboard-taken already exists"),
    ],
)
def test_a_failed_generation_leaves_no_files(site: Site, name: str, reason: str) -> None:
    (site.folder / "pegboard-taken").mkdir()
    site.patch.chdir(site.folder)
    before = sorted(site.folder.parent.rglob("*"))
    assert reason in site.expect_error("new-plugin", name)
    assert sorted(site.folder.parent.rglob("*")) == before


def test_an_unwritable_folder_is_reported(site: Site) -> None:
    site.patch.chdir(site.folder)
    (site.folder / ".pegboard-books.begun").write_text("in the way")
    assert "pegboard-books cannot be created: File exists" in site.expect_error("new-plugin", "books")


def test_the_name_of_an_existing_plugin_is_reported(site: Site) -> None:
    site.patch.chdir(site.folder)
    last = site.run("new-plugin", "contacts").splitlines()[-1]
    assert last == "pegboard-contacts already has the name contacts: while both are installed, neither is available."
