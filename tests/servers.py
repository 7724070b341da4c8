"""PostgreSQL and PgBouncer as packaged by Debian, in their own processes, for tests that need several."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SUPERUSER = "postgres"
# Debian installs all versions below /usr/lib/postgresql; the last one is used.
BIN_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
LOCAL = "127.0.0.1"


def require(program: str | None, package: str) -> str:
    """Return the path of a program; without it, skip the test, or fail it in CI."""
    if program is None:
        if os.environ.get("CI"):
            pytest.fail(f"{package} is missing")
        pytest.skip(f"{package} is not installed")
    return program


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs."""
    path = BIN_FOLDERS[-1] / name if BIN_FOLDERS else shutil.which(name)
    return require(str(path) if path else None, "postgresql")


def server_account() -> dict[str, int]:
    """Return the user and group that servers run as, since they refuse to run as root."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid}


def chown(path: Path) -> Path:
    """Change the owner of a path to the user that servers run as."""
    for name, number in server_account().items():
        os.chown(path, *((number, -1) if name == "user" else (-1, number)))
    return path


def run(*command: str | Path) -> str:
    result = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60, **server_account())  # type: ignore[call-overload]
    assert result.returncode == 0, result.stderr
    return str(result.stdout)


def free_port() -> int:
    with socket.create_server((LOCAL, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOCAL, port)) == 0


@dataclass
class Server:
    """A process that listens on its own port."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def launch(self, *command: str | Path) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **server_account())  # type: ignore[call-overload]

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(20)
            self.process = None


class Postgres(Server):
    """A server with a cluster that is initialized by the first start."""

    def url(self, database: str = "postgres", **options: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://{SUPERUSER}@{LOCAL}:{self.port}/{database}?{query}"

    def start(self, **settings: str) -> None:
        data = self.folder / "data"
        if not data.exists():
            chown(self.folder)
            run(program("initdb"), "-D", data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        all_settings = {
            "listen_addresses": LOCAL,
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",  # No test is about power failures.
            "wal_receiver_status_interval": "1",
            **settings,
        }
        options = [f"--{name}={value}" for name, value in all_settings.items()]
        self.launch(program("postgres"), "-D", data, *options)
        wait_until(self.is_up)

    def follow(self, primary: Postgres, **settings: str) -> None:
        """Copy another server and start as its replica."""
        source = ("-h", LOCAL, "-p", str(primary.port), "-U", SUPERUSER)
        run(program("pg_basebackup"), "-D", chown(self.folder) / "data", *source, "-R", "-N", "-c", "fast")
        self.start(**settings)

    def is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
        return (
            subprocess.run(
                [program("pg_isready"), "-q", "-h", LOCAL, "-p", str(self.port)], check=False, cwd="/"
            ).returncode
            == 0
        )

    def sql(self, text: str, database: str = "postgres") -> str:
        return run(program("psql"), "-XAtqc", text, self.url(database)).strip()


class Bouncer(Server):
    """PgBouncer in transaction mode in front of one server, with two connections to each database."""

    def url(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}@{LOCAL}:{self.port}/{database}"

    def start(self, server: Postgres) -> None:
        chown(self.folder)
        (self.folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={LOCAL} port={server.port} user={SUPERUSER}\n"
            f"[pgbouncer]\nlisten_addr = {LOCAL}\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = any\n"
            "pool_mode = transaction\ndefault_pool_size = 2\nserver_round_robin = 1\n"
        )
        path = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        self.launch(require(path, "pgbouncer"), self.folder / "pgbouncer.ini")
        wait_until(lambda: is_listening(self.port))
