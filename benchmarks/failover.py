"""The command: kills the leader of a PostgreSQL cluster under load, repeatedly, and checks every acknowledged write.

Two replicas of the service write to three PostgreSQL under Patroni (etcd, HAProxy). It needs the Debian packages
postgresql, patroni, etcd-server and haproxy, and root or the user postgres.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from uuid import uuid4

import aiohttp
import orjson

from benchmarks.cluster import Cluster, Missing, wait_until
from pegboard.postgres import hosts

_PASSWORD = "correct horse"
_AUTHORIZATION = {"Authorization": aiohttp.encode_basic_auth("admin", _PASSWORD)}
_STEADY = 3.0  # seconds of load before the kill and after recovery
_PAUSE = 0.1


@dataclass
class Load:
    """Send POSTs to all services from several clients; record the acknowledged writes and the failed requests."""

    urls: list[str]
    acknowledged: dict[str, float] = field(default_factory=dict)
    failed: list[tuple[float, str]] = field(default_factory=list)
    slowest: float = 0.0
    stopped: bool = False

    async def run(self, clients: int) -> None:
        """Send until `stopped`."""
        async with aiohttp.ClientSession(headers=_AUTHORIZATION) as session:
            await asyncio.gather(*(self._client(session, number) for number in range(clients)))

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        url = self.urls[number % len(self.urls)]
        sent = 0
        while not self.stopped:
            sent += 1
            item = {"name": f"client {number} item {sent}", "email": f"{uuid4().hex}@example.org"}
            start = monotonic()
            try:
                async with session.post(f"{url}/contacts", json=item) as response:
                    body = await response.json()
            except (aiohttp.ClientError, OSError) as error:
                self.failed.append((monotonic(), type(error).__name__))
                await asyncio.sleep(_PAUSE)
                continue
            self.slowest = max(self.slowest, monotonic() - start)
            if response.status == 201:
                self.acknowledged[body["id"]] = monotonic()
            else:
                self.failed.append((monotonic(), str(response.status)))
                await asyncio.sleep(_PAUSE)

    def first_after(self, moment: float) -> float | None:
        """Return the time of the first success after `moment`."""
        return min((at for at in self.acknowledged.values() if at > moment), default=None)


@dataclass(frozen=True)
class Round:
    """Hold the result of one kill; times in seconds."""

    killed: str
    recovery: float
    acknowledged: int
    failed: Counter[str]
    slowest: float
    lost: int
    unacknowledged: int

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in sorted(self.failed.items())) or "none"
        return (
            f"| {self.killed} | {self.recovery:.1f} s | {self.acknowledged} | {self.lost} | {self.unacknowledged} "
            f"| {kinds} | {self.slowest:.1f} s |"
        )


async def kill(cluster: Cluster, urls: list[str], clients: int) -> Round:
    """Kill the leader under load; return once the service has recovered and all acknowledged writes are checked."""
    before = await stored(urls[0])
    load = Load(urls)
    running = asyncio.create_task(load.run(clients))
    await asyncio.sleep(_STEADY)
    leader = await asyncio.to_thread(cluster.leader)
    killed = monotonic()
    await asyncio.to_thread(leader.kill)
    # Requests sent before may still succeed; only a success a second later is by the new leader.
    async with asyncio.timeout(180):
        while load.first_after(killed + 1) is None:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.1)
    await asyncio.sleep(_STEADY)
    load.stopped = True
    await running
    first = load.first_after(killed + 1) or 0.0
    found = await stored(urls[1]) - before
    return Round(
        killed=leader.name,
        recovery=first - killed,
        acknowledged=len(load.acknowledged),
        failed=Counter(kind for _, kind in load.failed),
        slowest=load.slowest,
        lost=len(load.acknowledged.keys() - found),
        unacknowledged=len(found - load.acknowledged.keys()),
    )


async def stored(url: str) -> set[str]:
    """Return the ids of all items in the service."""
    headers = {**_AUTHORIZATION, "Accept": "application/x-ndjson"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(f"{url}/contacts?fields=id") as response:
        response.raise_for_status()
        return {orjson.loads(line)["id"] for line in (await response.read()).splitlines()}


@contextmanager
def service(folder: Path, database_url: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run one replica of the service; yield its process and its URL."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PEGBOARD_")}
    settings = {"DATABASE_URL": database_url, "ADMIN_PASSWORD": _PASSWORD, "LOG_LEVEL": "warning"}
    environment = plain | {f"PEGBOARD_{name}": value for name, value in settings.items()}
    command = [str(Path(sys.executable).with_name("pegboard")), "serve", "--port", "0"]
    with (
        folder.open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else ""
            if "serves on" not in line:
                raise RuntimeError(f"the service did not start: {folder.read_text()}")
            yield process, line.rsplit(" ", 1)[1].strip()
        finally:
            process.terminate()


async def measure(cluster: Cluster, folder: Path, options: argparse.Namespace) -> list[Round]:
    """Kill the leader `rounds` times, with the same two services throughout."""
    connection = await hosts.connect(cluster.url("hosts", "postgres"), 10, {})
    await connection.execute("CREATE DATABASE pegboard")
    await connection.close()
    url = cluster.url(options.way)
    with service(folder / "first.log", url) as (first, one), service(folder / "second.log", url) as (second, other):
        rounds = []
        for _ in range(options.rounds):
            rounds.append(await kill(cluster, [one, other], options.clients))
            print(rounds[-1], flush=True)
            for member in cluster.members:
                if member.patroni is None:
                    cluster.start(member)
            await asyncio.to_thread(wait_until, "the killed member is back", cluster.is_healthy)
        if first.poll() is not None or second.poll() is not None:
            raise RuntimeError("a service has ended")
    return rounds


def main() -> None:
    """Run the measurement; exit with status 1 if an acknowledged write is lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often the leader is killed (%(default)s)")
    parser.add_argument("--clients", type=int, default=16, help="clients that write at once (%(default)s)")
    parser.add_argument("--ttl", type=int, default=20, help="seconds a leader may be silent (%(default)s)")
    parser.add_argument(
        "--way", choices=("haproxy", "hosts"), default="haproxy", help="how the services find it (%(default)s)"
    )
    options = parser.parse_args()
    # On a signal, too, stop everything that was started.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit("interrupted"))
    with tempfile.TemporaryDirectory(prefix="pegboard-failover-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        try:
            with Cluster(folder, options.ttl) as cluster:
                print(f"{options.clients} clients, two services, ttl {options.ttl} s, by {options.way}\n")
                print(
                    "| killed | writes again after | acknowledged | lost | stored unacknowledged | failed | slowest |"
                )
                print("|---|---|---|---|---|---|---|", flush=True)
                rounds = asyncio.run(measure(cluster, folder, options))
        except Missing as missing:
            sys.exit(str(missing))
    print(f"\nmedian {statistics.median(r.recovery for r in rounds):.1f} s; lost {sum(r.lost for r in rounds)}")
    if any(r.lost for r in rounds):
        sys.exit(1)


if __name__ == "__main__":
    main()
