"""The commands of the page on backups and upgrades, run with real PostgreSQL servers."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pegboard.migrations import runner
from pegboard.migrations.status import PluginMigrations
from pegboard.postgres.embedded import EmbeddedServer
from tests.cli.test_cli import ADA, Service, contact_names, environment
from tests.servers import LOCAL, SUPERUSER, Postgres, program

PAGE = Path(__file__).parents[2] / "docs" / "backup-and-upgrade.md"
OLD = "postgresql://pegboard@db.example.org"
PASSWORD = "a password to keep"
TABLE = """
CREATE TABLE notes.notes (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT date_trunc('second', now()),
    updated_at timestamptz NOT NULL DEFAULT date_trunc('second', now()),
    _version bigint NOT NULL,
    text text
);
"""
NOTES = """
from pegboard import Schema, TableResource, fields

class Note(Schema):
    text = fields.String()
    colour = fields.String()

class Notes(TableResource):
    schema = Note
    verbs = ("GET",)
"""


def section(heading: str) -> list[tuple[str, str]]:
    """Return the commands of a section, each with its output."""
    text = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert text, heading
    commands = []
    for block in re.findall(r"^```console\n(.*?)^```$", text[1], re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            commands.append((command, output))
    return commands


def run_commands(
    commands: list[tuple[str, str]], folder: Path, server: Postgres | None = None, **settings: str
) -> None:
    """Run commands as one script in a folder, and compare their output with the page."""
    script = "\n".join(("set -e", *(command for command, _ in commands)))
    if server is not None:
        script = script.replace(OLD, f"postgresql://{SUPERUSER}@{LOCAL}:{server.port}")
    path = os.pathsep.join((str(Path(sys.executable).parent), str(Path(program("psql")).parent), os.environ["PATH"]))
    variables = {**environment(folder / ".pegboard", **settings), "PATH": path}
    result = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    # More plugins may be installed than the page shows.
    shown = "".join(output for _, output in commands).splitlines()
    assert [line for line in result.stdout.splitlines() if line in shown] == shown


@pytest.fixture(scope="module")
def base_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pegboard-backup-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="module")
def server(base_folder: Path) -> Iterator[Postgres]:
    """Run Debian's PostgreSQL with the data of a stopped service."""
    (base_folder / "server").mkdir()
    server = Postgres(base_folder / "server")
    server.start()
    server.sql("CREATE DATABASE pegboard")
    service = Service(base_folder / "none", database_url=server.url("pegboard"), admin_password=PASSWORD)
    assert service.request("POST", "/contacts", PASSWORD, ADA)[0] == 201
    assert service.end(signal.SIGTERM) == 0
    yield server
    server.stop(signal.SIGQUIT)


def test_a_database_is_dumped_and_restored(server: Postgres, tmp_path: Path) -> None:
    run_commands(
        section("Back up and restore a database"), tmp_path, server, database_url=server.url("pegboard").rstrip("?")
    )
    assert server.sql("SELECT name FROM contacts.contacts", "restored") == "Ada"
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname IN ('pegboard', 'contacts')"
    assert server.sql(tables, "restored") == server.sql(tables, "pegboard")
    assert server.sql("SELECT value FROM pegboard.secret", "restored") == server.sql(
        "SELECT value FROM pegboard.secret", "pegboard"
    )


def test_an_older_postgresql_is_moved_into_the_embedded_one_and_restored(server: Postgres, base_folder: Path) -> None:
    assert int(server.sql("SHOW server_version_num")) < 180_000
    folder = base_folder / "own"
    folder.mkdir(mode=0o755)
    service = Service(folder / ".pegboard", admin_password="another password")
    run_commands(section("Upgrade PostgreSQL"), folder, server)
    assert service.end(signal.SIGTERM) == 0

    # Passwords are kept.
    service = Service(folder / ".pegboard")
    assert (folder / ".pegboard" / "postgres" / "PG_VERSION").read_text() == "18\n"
    assert contact_names(service, PASSWORD) == ["Ada"]
    commands = section("Back up and restore the service's own PostgreSQL")
    dump, back, copy = commands[:3], commands[3:4], commands[4:]
    run_commands(dump, folder)
    [ada] = service.request("GET", "/contacts", PASSWORD)[1]["items"]
    assert service.request("DELETE", f"/contacts/{ada['id']}", PASSWORD)[0] == 204
    run_commands([*dump[:2], *back], folder)
    assert service.request("GET", f"/contacts/{ada['id']}", PASSWORD) == (200, ada)
    assert service.end(signal.SIGTERM) == 0
    run_commands(copy, folder)

    saved = EmbeddedServer(folder / "saved")
    try:
        found = ("-XAtc", "SELECT name FROM contacts.contacts", saved.start())
        assert subprocess.check_output([program("psql"), *found], text=True) == "Ada\n"
    finally:
        saved.stop()


def test_a_plugin_is_upgraded_by_a_migration(server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "pegboard_notes"
    (package / "migrations").mkdir(parents=True)
    (package / "__init__.py").write_text(NOTES)
    (package / "migrations" / "0001_notes.sql").write_text(TABLE)
    about = tmp_path / "site" / "pegboard_notes-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pegboard-notes\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[pegboard.resources]\nnotes = pegboard_notes:Notes\n")
    url = server.url("pegboard")
    asyncio.run(runner.migrate(url, [PluginMigrations("notes", package / "migrations")]))
    (package / "migrations" / "0002_colour.sql").write_text("ALTER TABLE notes.notes ADD colour text;\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    run_commands(section("Upgrade a plugin"), tmp_path, database_url=url)
    assert server.sql("SELECT count(colour) FROM notes.notes", "pegboard") == "0"


def test_every_command_of_the_page_is_tested() -> None:
    text = PAGE.read_text()
    run = ("Back up and restore a database", "Back up and restore the service's own PostgreSQL")
    tested = [*run, "Upgrade PostgreSQL", "Upgrade a plugin"]
    assert sum(len(section(heading)) for heading in tested) == len(re.findall(r"^\$ ", text, re.MULTILINE))
