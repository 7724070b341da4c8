"""A flood of failed logins next to legitimate clients, and how it affects these.

Run it as `python -m benchmarks.flood`; `--help` describes the options.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import aiohttp
import orjson
import psutil

from benchmarks import services
from benchmarks.client import Request

_SERVE = f"{shlex.quote(str(Path(sys.executable).with_name('pegboard')))} serve --port {{port}}"
# The service trusts the client addresses that the load sends.
_COMMAND = f"env PEGBOARD_TRUSTED_PROXIES=127.0.0.0/8 {_SERVE}"
_PASSWORD = "a password for the flood"
_HOME = "192.0.2.1"
_NEWCOMERS = 50

Source = Callable[[int], str]

_FLOODS: dict[str, Source] = {
    "one address": lambda number: "198.51.100.1",
    "an address each": lambda number: f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
}


@dataclass(slots=True)
class Measurements:
    """Hold the response times, and the number of responses with each status."""

    times: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def summary(self, name: str) -> str:
        """Return a line of output."""
        percentiles = [*statistics.quantiles(self.times, n=100)] if len(self.times) > 1 else self.times * 99
        statuses = ", ".join(f"{status}: {number}" for status, number in sorted(self.statuses.items()))
        return (
            f"  {name:34} p50 {percentiles[49] * 1000:7.1f} ms   p99 {percentiles[98] * 1000:7.1f} ms   "
            f"most {max(self.times) * 1000:7.1f} ms   {statuses}"
        )


class Flood:
    """Send failed logins at a constant rate, and legitimate requests at the same time."""

    def __init__(self, session: aiohttp.ClientSession, url: str, options: argparse.Namespace) -> None:
        self._session = session
        self._url = url
        self._options = options

    async def request(self, measurements: Measurements, username: str, password: str, address: str) -> None:
        """Request a page with these credentials, and record the response."""
        headers = {"Authorization": aiohttp.encode_basic_auth(username, password), "X-Forwarded-For": address}
        start = time.perf_counter()
        async with self._session.get(f"{self._url}/contacts?limit=10", headers=headers) as response:
            await response.read()
        measurements.times.append(time.perf_counter() - start)
        measurements.statuses[response.status] += 1

    async def run(self, source: Source | None, newcomers: Iterator[str]) -> dict[str, Measurements]:
        """Return the measurements of all clients; without `source` there is no flood."""
        measurements = {
            name: Measurements() for name in ("good, remembered", "good, first login, known address", "bad")
        }
        end = time.perf_counter() + self._options.seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(self._options.clients):
                group.create_task(self._known_client(measurements["good, remembered"], end))
            group.create_task(self._new_clients(measurements["good, first login, known address"], end, newcomers))
            if source is not None:
                group.create_task(self._flood(measurements["bad"], end, source, group))
        return {name: result for name, result in measurements.items() if result.times}

    async def _known_client(self, measurements: Measurements, end: float) -> None:
        while time.perf_counter() < end:
            await self.request(measurements, "steady", _PASSWORD, _HOME)
            await asyncio.sleep(0.01)

    async def _new_clients(self, measurements: Measurements, end: float, newcomers: Iterator[str]) -> None:
        pause = self._options.seconds / _NEWCOMERS
        while time.perf_counter() < end:
            await self.request(measurements, next(newcomers), _PASSWORD, _HOME)
            await asyncio.sleep(pause)

    async def _flood(self, measurements: Measurements, end: float, source: Source, group: asyncio.TaskGroup) -> None:
        start = time.perf_counter()
        for number in count():
            # By the clock: late requests are sent at once, so that the rate is constant.
            await asyncio.sleep(max(0.0, start + number / self._options.rate - time.perf_counter()))
            if time.perf_counter() >= end:
                return
            group.create_task(
                self.request(measurements, f"user {number % 1000}", f"a bad guess {number}", source(number))
            )


def main() -> None:
    """Run the measurement."""
    options = _options()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pegboard-flood-")))
        # If root runs this, PostgreSQL runs as another user, who needs access.
        folder.chmod(0o711)
        database = stack.enter_context(services.database(folder / "postgresql", ["pegboard"]))
        service = stack.enter_context(
            services.pegboard_service(database.dsns["pegboard"], folder, 1000, shlex.split(_COMMAND))
        )
        rounds = 1 + len(_FLOODS)
        names = [f"newcomer {number}" for number in range(2 * rounds * _NEWCOMERS)]
        for name in ("steady", *names):
            body = orjson.dumps({"username": name, "password": _PASSWORD, "grants": ["contacts:GET"]})
            if service.client.send(Request("POST", "/clients", body)).status != 201:
                sys.exit("the clients cannot be created: is pegboard-clients installed?")
        asyncio.run(_rounds(options, f"http://127.0.0.1:{service.client.port}", service.process, iter(names)))


async def _rounds(options: argparse.Namespace, url: str, process: psutil.Process, newcomers: Iterator[str]) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        flood = Flood(session, url, options)
        await flood.request(Measurements(), "steady", _PASSWORD, _HOME)
        for name, source in ({"no flood": None} | _FLOODS).items():
            before = process.memory_info().rss
            measurements = await flood.run(source, newcomers)
            after = process.memory_info().rss
            print(f"{name}: {options.rate}/s for {options.seconds:g} s" if source else name)
            print("\n".join(result.summary(client) for client, result in measurements.items()))
            print(f"  memory {before / 2**20:.1f} MiB before, {after / 2**20:.1f} MiB after", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flood", description=__doc__)
    parser.add_argument("--rate", type=int, default=200, help="bad logins a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each flood lasts (%(default)s)")
    parser.add_argument("--clients", type=int, default=4, help="good clients at once (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
