"""The flood: bad logins by the hundred beside good clients, and what these feel of it.

Run it as `python -m benchmarks.flood`; `--help` tells what can be chosen.
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
# The service believes the load where it says it comes from.
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
class Felt:
    """Hold the times that answers took, and how many there were of each status."""

    times: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def tell(self, name: str) -> str:
        """Return a line about it."""
        spread = [*statistics.quantiles(self.times, n=100)] if len(self.times) > 1 else self.times * 99
        told = ", ".join(f"{status}: {number}" for status, number in sorted(self.statuses.items()))
        return (
            f"  {name:34} p50 {spread[49] * 1000:7.1f} ms   p99 {spread[98] * 1000:7.1f} ms   "
            f"most {max(self.times) * 1000:7.1f} ms   {told}"
        )


class Flood:
    """Send bad logins at a rate, and good requests beside them."""

    def __init__(self, session: aiohttp.ClientSession, url: str, options: argparse.Namespace) -> None:
        self._session = session
        self._url = url
        self._options = options

    async def ask(self, felt: Felt, username: str, password: str, address: str) -> None:
        """Ask for a page as somebody, and note the answer."""
        headers = {"Authorization": aiohttp.encode_basic_auth(username, password), "X-Forwarded-For": address}
        begun = time.perf_counter()
        async with self._session.get(f"{self._url}/contacts?limit=10", headers=headers) as response:
            await response.read()
        felt.times.append(time.perf_counter() - begun)
        felt.statuses[response.status] += 1

    async def run(self, source: Source | None, newcomers: Iterator[str]) -> dict[str, Felt]:
        """Return what all felt; without `source` there is no flood."""
        felt = {name: Felt() for name in ("good, remembered", "good, first login, known address", "bad")}
        end = time.perf_counter() + self._options.seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(self._options.clients):
                group.create_task(self._use(felt["good, remembered"], end))
            group.create_task(self._arrive(felt["good, first login, known address"], end, newcomers))
            if source is not None:
                group.create_task(self._flood(felt["bad"], end, source, group))
        return {name: found for name, found in felt.items() if found.times}

    async def _use(self, felt: Felt, end: float) -> None:
        while time.perf_counter() < end:
            await self.ask(felt, "steady", _PASSWORD, _HOME)
            await asyncio.sleep(0.01)

    async def _arrive(self, felt: Felt, end: float, newcomers: Iterator[str]) -> None:
        pause = self._options.seconds / _NEWCOMERS
        while time.perf_counter() < end:
            await self.ask(felt, next(newcomers), _PASSWORD, _HOME)
            await asyncio.sleep(pause)

    async def _flood(self, felt: Felt, end: float, source: Source, group: asyncio.TaskGroup) -> None:
        begun = time.perf_counter()
        for number in count():
            # By the clock: what is late is sent at once, so that the rate holds.
            await asyncio.sleep(max(0.0, begun + number / self._options.rate - time.perf_counter()))
            if time.perf_counter() >= end:
                return
            group.create_task(self.ask(felt, f"user {number % 1000}", f"a bad guess {number}", source(number)))


def main() -> None:
    """Measure as the command line asks."""
    options = _options()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pegboard-flood-")))
        # Run by root, PostgreSQL is another user, who has to get in.
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
                sys.exit("the clients cannot be made: is pegboard-clients installed?")
        asyncio.run(_rounds(options, f"http://127.0.0.1:{service.client.port}", service.process, iter(names)))


async def _rounds(options: argparse.Namespace, url: str, process: psutil.Process, newcomers: Iterator[str]) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        flood = Flood(session, url, options)
        await flood.ask(Felt(), "steady", _PASSWORD, _HOME)
        for name, source in ({"no flood": None} | _FLOODS).items():
            before = process.memory_info().rss
            felt = await flood.run(source, newcomers)
            after = process.memory_info().rss
            print(f"{name}: {options.rate}/s for {options.seconds:g} s" if source else name)
            print("\n".join(found.tell(who) for who, found in felt.items()))
            print(f"  memory {before / 2**20:.1f} MiB before, {after / 2**20:.1f} MiB after", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flood", description=__doc__)
    parser.add_argument("--rate", type=int, default=200, help="bad logins a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each flood lasts (%(default)s)")
    parser.add_argument("--clients", type=int, default=4, help="good clients at once (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
