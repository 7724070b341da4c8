"""Static types: the plugins in the documentation, and a generated one, pass mypy in strict mode and pyright."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pegboard.cli.scaffold import project
from tests.features.test_docs import PAGES, ROOT, snippets

COMPLETE = Path(__file__).with_name("typed_plugin.py")
OWN_PACKAGE = re.compile(r"\bpegboard_(\w+)")


def modules(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the source of each Python module of a project that a page writes.

    The names contain that of the page, as several pages write the same module, and a number if the page writes it again.
    """
    suffix = re.sub(r"\W", "_", str(page.relative_to(ROOT).with_suffix(""))).lower()
    versions: Counter[str] = Counter()
    for snippet in snippets(page):
        path = Path(snippet.file)
        # Modules outside of a project show applications, not plugins.
        if snippet.kind != "python" or len(path.parts) == 1:
            continue
        name = path.parent.name if path.stem == "__init__" else path.stem
        versions[name] += 1
        version = f"_{versions[name]}" if versions[name] > 1 else ""
        yield f"{name}_{suffix}{version}", OWN_PACKAGE.sub(rf"pegboard_\1_{suffix}", snippet.text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the modules of all pages, and those of a generated project, to a folder."""
    folder = tmp_path_factory.mktemp("typing")
    for page in PAGES:
        for name, source in modules(page):
            path = folder / f"{name}.py"
            assert not path.exists()
            path.write_text(source)
    project.make("time-entries", folder)
    (folder / "plugins").mkdir()
    for plugin in ROOT.glob("plugins/*/pegboard_*/__init__.py"):
        (folder / "plugins" / f"the_{plugin.parent.name}.py").write_text(plugin.read_text())
    (folder / COMPLETE.name).write_text(COMPLETE.read_text())
    return folder


def run(*command: str, cwd: Path = ROOT) -> str:
    """Run a Python module, and return its output."""
    environment = {name: value for name, value in os.environ.items() if name != "MYPYPATH"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_all_pages_with_plugins_are_checked(folder: Path) -> None:
    names = {path.stem for path in folder.glob("*.py")}
    assert {
        *("pegboard_books_readme", "pegboard_books_docs_tutorial", "pegboard_books_docs_tutorial_2"),
        *("test_books_docs_tutorial", "pegboard_library_docs_writing_a_plugin", "test_shelves_docs_testing_a_plugin"),
    } <= names
    assert not [path for path in folder.glob("*.py") if "type: ignore" in path.read_text()]


def test_mypy_accepts_the_plugins_in_strict_mode(folder: Path) -> None:
    # With the configuration of this repository, which is strict and has a warm cache.
    run("mypy", "--strict", str(folder))


def test_pyright_accepts_the_plugins(folder: Path) -> None:
    settings = {
        "include": ["."],
        "extraPaths": ["pegboard-time-entries/src"],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    # basedpyright includes pyright and Node.js, so that the test needs no network.
    output = run("basedpyright", "--outputjson", "--pythonpath", sys.executable, cwd=folder)
    summary = json.loads(output)["summary"]
    assert (summary["errorCount"], summary["warningCount"]) == (0, 0)
    assert summary["filesAnalyzed"] >= len([*folder.rglob("*.py")])
