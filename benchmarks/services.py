"""The services that are measured, with one worker each, on one PostgreSQL started for the run."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from benchmarks import bare, data
from benchmarks.client import Client, Request
from pegboard.postgres.embedded import DATABASE, EmbeddedServer

_ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "a-password-for-benchmarks"
_START_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Database:
    """Hold the URLs of the databases, the process and the version of their server."""

    dsns: Mapping[str, str]
    process: psutil.Process
    version: str


@dataclass(frozen=True, slots=True)
class Service:
    """Hold the process of a running service, and a client of it."""

    name: str
    process: psutil.Process
    client: Client


class NotServing(Exception):
    """Report a service that has ended or was not ready in time, with its output."""


@contextmanager
def database(folder: Path, names: Sequence[str]) -> Iterator[Database]:
    """Run the embedded PostgreSQL in `folder`, with a database for each name."""
    server = EmbeddedServer(folder)
    dsn = server.start()
    try:
        process, version = asyncio.run(_prepare(dsn, names))
        yield Database({name: dsn.replace(f"/{DATABASE}?", f"/{name}?") for name in names}, process, version)
    finally:
        server.stop()


@contextmanager
def bare_service(dsn: str, folder: Path, rows: int) -> Iterator[Service]:
    """Run the baseline with a filled table."""
    asyncio.run(_execute(dsn, bare.DDL))
    asyncio.run(data.fill(dsn, "public", "contacts", rows))
    port = free_port()
    environment = {"BARE_DATABASE_URL": dsn, "BARE_ADMIN_PASSWORD": PASSWORD}
    command = [sys.executable, "-m", "benchmarks.bare", str(port)]
    with served("bare", command, environment, port, _ROOT, folder / "bare.log") as service:
        yield service


@contextmanager
def pegboard_service(
    dsn: str, folder: Path, rows: int, command: Sequence[str], name: str = "pegboard", tree: Path | None = None
) -> Iterator[Service]:
    """Run this service with default settings, or that of the checkout `tree`, and fill the table that it creates.

    `{port}` in `command` is replaced by the port.
    """
    port = free_port()
    environment = {"PEGBOARD_DATABASE_URL": dsn, "PEGBOARD_ADMIN_PASSWORD": PASSWORD}
    if tree is not None:
        sources = (tree / "service", *sorted(tree.glob("plugins/*")))
        environment["PYTHONPATH"] = os.pathsep.join(map(str, sources))
    completed = [part.replace("{port}", str(port)) for part in command]
    with served(name, completed, environment, port, folder, folder / f"{name}.log") as service:
        asyncio.run(data.fill(dsn, "contacts", "contacts", rows))
        yield service


@contextmanager
def served(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    port: int,
    folder: Path,
    log: Path,
    ready: str = "/contacts?limit=1",
) -> Iterator[Service]:
    """Run a service on `port`, and yield it once a GET of `ready` succeeds."""
    # Settings from the user's environment must not change the measurement.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PEGBOARD_")}
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command, env={**inherited, **environment}, cwd=folder, stdout=output, stderr=output
            )
        except OSError as error:
            raise NotServing(f"{name}: {command[0]}: {error.strerror}") from error
    client = Client(port, PASSWORD)
    try:
        try:
            _await(process, client, ready)
        except NotServing as error:
            raise NotServing(f"{name}: {error}\n{log.read_text(errors='replace')[-4000:]}") from None
        yield Service(name, psutil.Process(process.pid), client)
    finally:
        client.close()
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], client: Client, ready: str) -> None:
    """Wait until a GET of `ready` succeeds."""
    deadline = time.monotonic() + _START_TIMEOUT
    last = "no response"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NotServing(f"ended with status {process.returncode}")
        with suppress(OSError, http.client.HTTPException):
            response = client.send(Request("GET", ready))
            if response.status == 200:
                return
            last = f"{response.status} {response.body[:500]!r}"
        time.sleep(0.1)
    raise NotServing(f"not ready after {_START_TIMEOUT:.0f} s: {last}")


async def _prepare(dsn: str, names: Sequence[str]) -> tuple[psutil.Process, str]:
    connection = await asyncpg.connect(dsn)
    try:
        # Autovacuum would run in the measured time of one service or the other by chance.
        await connection.execute("ALTER SYSTEM SET autovacuum = off")
        await connection.execute("SELECT pg_reload_conf()")
        for name in {*names} - {DATABASE}:
            await connection.execute(f'CREATE DATABASE "{name}"')
        process = psutil.Process(psutil.Process(await connection.fetchval("SELECT pg_backend_pid()")).ppid())
        version = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    return process, str(version)


async def _execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
