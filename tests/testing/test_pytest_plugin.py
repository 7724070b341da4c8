"""The pytest plugin: the fixtures it provides for tests of a plugin, and that other projects are unaffected."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from pegboard.testing import cluster
from pegboard.testing.service import new_database

RESOURCE = '[project.entry-points."pegboard.resources"]\nbooks = "pegboard_books:Books"\n'


def run_pytest(folder: Path, pyproject: str, test: str) -> None:
    (folder / "pyproject.toml").write_text(pyproject)
    (folder / "test_it.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:schemathesis", "-p", "no:cacheprovider"]
    # By default, pytest's parent folder is inaccessible to PostgreSQL, which does not run as root.
    command.append(f"--basetemp={folder.parent / 'inner'}")
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


def test_other_projects_get_no_fixtures(tmp_path: Path) -> None:
    test = """
import sys

def test_nothing_is_imported():
    assert not [name for name in sys.modules if name.partition(".")[0] == "pegboard"]

def test_no_fixture_is_available(request):
    assert not request._fixturemanager.getfixturedefs("client", request.node)
"""
    run_pytest(tmp_path, "[tool.pytest.ini_options]\n", test)


def test_projects_that_declare_a_resource_get_the_fixtures(tmp_path: Path) -> None:
    test = """
import asyncio
import pytest

@pytest.fixture(scope="module")
def pegboard_settings():
    return {"PEGBOARD_MAX_BODY": "1KiB"}

def test_without_an_event_loop(service, client_with):
    response = asyncio.run(client_with("contacts:GET").get("/contacts"))
    assert (response.status, response.json["items"]) == (200, [])

@pytest.mark.asyncio
async def test_on_its_own_event_loop(client):
    assert (await client.post("/contacts", {"name": "x" * 2000})).status == 413

@pytest.mark.asyncio
async def test_on_another_event_loop(client):
    assert (await client.as_client("", "").get("/contacts")).status == 401
"""
    settings = '[tool.pytest.ini_options]\npegboard_plugins = ["contacts", "companies"]\n'
    run_pytest(tmp_path, RESOURCE + settings, test)


def test_the_postgresql_files_are_kept_for_the_next_session(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for session in ("one", "two"):
        folder = tmp_path / session
        folder.mkdir()
        server = cluster.server(folder, kept)
        # The files exist before it has started.
        assert (folder / "postgres").exists()
        try:
            asyncio.run(new_database(server.start()))
        finally:
            server.stop()
    [template] = kept.iterdir()
    assert not (template / "postmaster.pid").exists()
