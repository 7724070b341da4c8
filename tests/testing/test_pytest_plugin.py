"""The pytest plugin: the fixtures it provides for tests of a plugin, and that other projects are unaffected."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from pegboard.testing import cluster
from pegboard.testing.service import new_database

BOOKS = """
from pegboard import Schema, TableResource, ValidationError, fields, operation, validate

class Shop(Schema):
    currency = fields.String(required=True, validate=validate.OneOf(["EUR", "USD"]))

class Book(Schema):
    title = fields.String(required=True, validate=validate.Length(max=20))
    price = fields.String(allow_none=True)

class Books(TableResource):
    schema = Book
    settings_schema = Shop

    async def create(self, context, data):
        return await super().create(context, {**data, "price": self.settings["currency"]})
"""
ONLY_BOOKS = '[tool.pytest.ini_options]\npegboard_plugins = ["books"]\n'
RESOURCE = '[project.entry-points."pegboard.resources"]\nbooks = "pegboard_books:Books"\n'


def pytest_output(folder: Path, pyproject: str, test: str, *arguments: str, status: int = 0) -> str:
    (folder / "pyproject.toml").write_text(pyproject)
    (folder / "test_it.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:schemathesis", "-p", "no:cacheprovider", *arguments]
    # By default, pytest's parent folder is inaccessible to PostgreSQL, which does not run as root.
    command.append(f"--basetemp={folder.parent / 'inner'}")
    environ = {name: value for name, value in os.environ.items() if name != "CI"}
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120, env=environ)
    output = result.stdout + result.stderr
    assert result.returncode == status, output
    return output


def run_pytest(folder: Path, pyproject: str, test: str) -> None:
    pytest_output(folder, pyproject, test)


def install_books(folder: Path) -> None:
    """Install a distribution with the resource `books` in the working directory of pytest."""
    (folder / "pegboard_books.py").write_text(BOOKS)
    metadata = folder / "pegboard_books-1.0.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: pegboard-books\nVersion: 1.0.0\n")
    (metadata / "entry_points.txt").write_text("[pegboard.resources]\nbooks = pegboard_books:Books\n")


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


def test_settings_of_plugins_come_from_the_fixture_and_not_from_the_environment(tmp_path: Path) -> None:
    install_books(tmp_path)
    test = """
import os
import pytest

os.environ["PEGBOARD_BOOKS_CURRENCY"] = "none"
os.environ["PEGBOARD_BOOKS_UNKNOWN"] = "1"

@pytest.fixture(scope="module")
def pegboard_settings():
    return {"PEGBOARD_BOOKS_CURRENCY": "EUR"}

@pytest.mark.asyncio
async def test_the_setting_arrives(client):
    assert (await client.post("/books", {"title": "Emma"})).json["price"] == "EUR"
"""
    run_pytest(tmp_path, RESOURCE + ONLY_BOOKS, test)


def test_a_missing_setting_of_a_plugin_names_the_fixture(tmp_path: Path) -> None:
    install_books(tmp_path)
    output = pytest_output(tmp_path, RESOURCE + ONLY_BOOKS, "def test_it(service): pass", status=1)
    assert "books: PEGBOARD_BOOKS_CURRENCY is not set" in output
    assert "(the fixture pegboard_settings provides settings)" in output


FAILING = """
from hypothesis import strategies as st
from pegboard.testing import Conformance
import pytest

@pytest.fixture(scope="module")
def pegboard_settings():
    return {"PEGBOARD_BOOKS_CURRENCY": "EUR"}

class TestBooks(Conformance):
    resource = "books"

    async def examples(self, client):
        return st.integers().map(self.recorded)

    def recorded(self, number):
        with open("drawn.txt", "a") as file:
            print(number, file=file)
        return {"title": "x", "price": str(number)}
"""


def test_a_failure_of_the_suite_can_be_repeated_with_its_seed(tmp_path: Path) -> None:
    install_books(tmp_path)
    drawn = tmp_path / "drawn.txt"

    def failure(*seed: str) -> tuple[str, str]:
        """Return the seed and all values that were drawn."""
        drawn.unlink(missing_ok=True)
        arguments = ("-k", "creates_an_item", *seed)
        output = pytest_output(tmp_path, RESOURCE + ONLY_BOOKS, FAILING, *arguments, status=1)
        assert re.search("price of the item that was written: expected '.*', got 'EUR'", output)
        [used] = set(re.findall(r"To repeat the failure, run this test with (--hypothesis-seed=\d+)", output))
        return used, drawn.read_text()

    seed, values = failure()
    assert failure(seed) == (seed, values)
    assert failure("--hypothesis-seed=5")[0] == "--hypothesis-seed=5"


def test_each_test_with_pegboard_clean_starts_with_the_state_after_the_start(tmp_path: Path) -> None:
    test = """
import pytest

pytestmark = pytest.mark.asyncio

async def test_without_the_fixture(client):
    assert (await client.post("/companies", {"name": "Acme"})).status == 201

@pytest.mark.parametrize("number", [1, 2])
async def test_with_it(client, pegboard_clean, number):
    company = await client.post("/companies", {"name": "Acme"}, headers={"Idempotency-Key": "the same"})
    assert company.status == 201
    assert "Idempotency-Replayed" not in company.headers
    ada = {"name": "Ada", "email": "ada@example.org", "company": company.json["id"]}
    assert (await client.post("/contacts", ada)).status == 201
    for path in ("/companies", "/contacts"):
        assert len((await client.get(path)).json["items"]) == 1
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
