"""A rolling restart of two replicas under load, behind the supplied load balancer."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from itertools import count
from pathlib import Path

import aiohttp
import pytest
from aiohttp import encode_basic_auth

from tests.cli.test_cli import Service
from tests.conftest import PASSWORD

CONFIGURATION = (Path(__file__).parents[2] / "deploy" / "haproxy.cfg").read_text()
HAPROXY = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture
def replicas(database_url: str, tmp_path: Path) -> Iterator[list[Service]]:
    started: list[Service] = []
    try:
        for number in range(2):
            (tmp_path / str(number)).mkdir()
            started.append(replica(tmp_path / str(number), database_url))
        yield started
    finally:
        for service in started:
            service.process.kill()
            service.process.wait()


def replica(folder: Path, database_url: str, port: str = "0") -> Service:
    return Service(
        folder / "data", "--port", port, database_url=database_url, admin_password=PASSWORD, drain_seconds="1.5"
    )


@pytest.fixture
def balanced(replicas: list[Service], tmp_path: Path) -> Iterator[str]:
    """Run the load balancer for the replicas, without resolving names; return its URL."""
    if HAPROXY is None:
        if "CI" in os.environ:
            pytest.fail("haproxy is missing")
        pytest.skip("haproxy is not installed")
    port = free_port()
    servers = "\n".join(f"    server {replica.port} 127.0.0.1:{replica.port}" for replica in replicas)
    text = CONFIGURATION.replace("bind :8080", f"bind 127.0.0.1:{port}")
    text = text.replace("inter 1s", "inter 200ms").replace(" init-addr libc,none resolvers docker", "")
    text, found = re.subn(r"    server-template .*", servers, text)
    assert found == 1
    (tmp_path / "haproxy.cfg").write_text(text)
    command = [HAPROXY, "-db", "-f", str(tmp_path / "haproxy.cfg")]
    with (tmp_path / "haproxy.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        end = time.monotonic() + 30
        while not ready(port) and time.monotonic() < end:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        process.terminate()


def ready(port: int) -> bool:
    """Return whether the load balancer considers a replica ready."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


async def test_a_rolling_restart_fails_no_request_and_loses_no_write(
    replicas: list[Service], balanced: str, database_url: str
) -> None:
    statuses: Counter[int] = Counter()
    created: list[str] = []
    numbers, stop = count(), asyncio.Event()
    headers = {"Authorization": encode_basic_auth("admin", PASSWORD)}

    async def load(session: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            body = {"name": "Ada", "email": f"ada-{next(numbers)}@example.org"}
            async with session.post(f"{balanced}/contacts", json=body) as response:
                statuses[response.status] += 1
                created.append((await response.json())["id"])
            async with session.get(f"{balanced}/contacts/{created[-1]}") as response:
                statuses[response.status] += 1
            await asyncio.sleep(0.02)

    async with aiohttp.ClientSession(headers=headers) as session:
        loading = [asyncio.create_task(load(session)) for _ in range(4)]
        for index, old in enumerate(list(replicas)):
            before = len(created)
            assert await asyncio.to_thread(old.end, signal.SIGTERM) == 0
            assert len(created) > before
            replicas[index] = await asyncio.to_thread(replica, old.folder.parent, database_url, str(old.port))
            # Wait for the load balancer before stopping the other replica.
            await asyncio.sleep(1)
        stop.set()
        await asyncio.gather(*loading)
        assert statuses == {201: len(created), 200: len(created)}
        for id in created:
            assert (await session.get(f"{balanced}/contacts/{id}")).status == 200
