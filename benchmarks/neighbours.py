"""The neighbours: a plugin that fails, spins, hangs, holds or leaks, and what the plugin beside it feels of that.

Run it as `python -m benchmarks.neighbours`; `--help` tells what can be chosen.
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
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import aiohttp

from benchmarks import services

_SERVE = f"{shlex.quote(str(Path(sys.executable).with_name('pegboard')))} serve --port {{port}}"

# What each trouble is, and how often a second it is asked for.
_TROUBLES: Mapping[str, tuple[str, float]] = {
    "quiet": ("nothing is asked of it", 0),
    "fails": ("raises, 50 times a second", 50),
    "spins": ("blocks for 0.2 s, once a second", 1),
    "hangs": ("never answers, 20 requests a second", 20),
    "holds": ("never ends its transactions, 20 requests a second", 20),
    "leaks": ("keeps the connections it borrows, 20 requests a second", 20),
}

_MODES: Mapping[str, Mapping[str, str]] = {
    "with bulkheads": {"TIMEOUT": "30,nuisance=2", "REQUESTS": "500,nuisance=50", "POOL_SHARE": "80"},
    "without": {"TIMEOUT": "86400", "REQUESTS": "1000000", "POOL_SHARE": "100"},
}

_PLUGIN = '''
import asyncio, time
from pegboard import Resource, Schema

class Nothing(Schema):
    pass

class Nuisance(Resource):
    """Make trouble, as the id says."""

    schema = Nothing
    verbs = ("GET",)
    kept = []

    def parse_id(self, text):
        return text

    async def retrieve(self, context, id):
        await getattr(self, id)()
        return {"id": id}

    async def fails(self):
        raise RuntimeError("it fails")

    async def spins(self):
        end = time.perf_counter() + 0.2
        while time.perf_counter() < end:
            pass

    async def hangs(self):
        await asyncio.Event().wait()

    async def holds(self):
        async with self.database.write.transaction():
            await asyncio.Event().wait()

    async def leaks(self):
        for pool in self.database.read, self.database.write:
            borrowed = pool.connection()
            await borrowed.__aenter__()
            self.kept.append(borrowed)
'''


@dataclass(slots=True)
class Felt:
    """Hold the times that answers took, and how many there were of each status."""

    times: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def row(self) -> list[str]:
        """Return what is told of the neighbour: requests, those that failed, and the times in milliseconds."""
        spread = statistics.quantiles(self.times, n=100)
        failed = sum(number for status, number in self.statuses.items() if status not in ("200", "201"))
        times = [f"{seconds * 1000:.1f}" for seconds in (spread[49], spread[98], max(self.times))]
        return [str(len(self.times)), str(failed), *times]


async def _ask(session: aiohttp.ClientSession, method: str, url: str, felt: Felt, body: object = None) -> None:
    begun = time.perf_counter()
    try:
        async with session.request(method, url, json=body) as response:
            await response.read()
            status = str(response.status)
    except (aiohttp.ClientError, TimeoutError) as error:
        status = type(error).__name__
    felt.times.append(time.perf_counter() - begun)
    felt.statuses[status] += 1


async def _use(session: aiohttp.ClientSession, url: str, felt: Felt, end: float, names: count[int]) -> None:
    """Read and write contacts, with a pause after each."""
    while time.perf_counter() < end:
        await _ask(session, "GET", f"{url}/contacts?limit=10", felt)
        await asyncio.sleep(0.02)
        number = next(names)
        contact = {"name": "A neighbour", "email": f"neighbour{number}@example.com"}
        await _ask(session, "POST", f"{url}/contacts", felt, contact)
        await asyncio.sleep(0.02)


async def _trouble(session: aiohttp.ClientSession, url: str, rate: float, felt: Felt, end: float) -> None:
    """Ask for trouble at a rate, whatever becomes of it."""
    begun, tasks = time.perf_counter(), []
    for number in count():
        await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        if time.perf_counter() >= end:
            break
        tasks.append(asyncio.ensure_future(_ask(session, "GET", url, felt)))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _measure(options: argparse.Namespace, url: str, names: count[int]) -> dict[str, tuple[Felt, Felt]]:
    found = {}
    login = {"Authorization": aiohttp.encode_basic_auth("admin", services.PASSWORD)}
    timeout = aiohttp.ClientTimeout(total=30)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=login, timeout=timeout) as session:
        await _ask(session, "GET", f"{url}/contacts", Felt())
        for trouble, (_, rate) in _TROUBLES.items():
            felt, suffered, end = Felt(), Felt(), time.perf_counter() + options.seconds
            async with asyncio.TaskGroup() as group:
                if rate:
                    group.create_task(_trouble(session, f"{url}/nuisance/{trouble}", rate, suffered, end))
                for _ in range(options.clients):
                    group.create_task(_use(session, url, felt, end, names))
            found[trouble] = felt, suffered
            # What still hangs is to be over before the next.
            await asyncio.sleep(3)
    return found


def _install(folder: Path) -> None:
    """Write the plugin as pip would leave it."""
    folder.mkdir()
    (folder / "nuisance.py").write_text(_PLUGIN)
    about = folder / "nuisance-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nuisance\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[pegboard.resources]\nnuisance = nuisance:Nuisance\n")


def main() -> None:
    """Measure as the command line asks, and print the table."""
    options = _options()
    columns = ["the plugin", "its neighbour's requests", "failed", "p50 ms", "p99 ms", "slowest ms", "its own answers"]
    for mode, limits in _MODES.items():
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pegboard-neighbours-")))
            # Run by root, PostgreSQL is another user, who has to get in.
            folder.chmod(0o711)
            _install(folder / "site")
            given = [f"PEGBOARD_PLUGIN_{name}={value}" for name, value in limits.items()]
            command = ["env", f"PYTHONPATH={folder / 'site'}", f"PEGBOARD_WORKERS={options.workers}", *given]
            database = stack.enter_context(services.database(folder / "postgresql", ["pegboard"]))
            service = stack.enter_context(
                services.pegboard_service(database.dsns["pegboard"], folder, 1000, [*command, *shlex.split(_SERVE)])
            )
            found = asyncio.run(_measure(options, f"http://127.0.0.1:{service.client.port}", count()))
        print(f"\n{mode}:\n\n| {' | '.join(columns)} |\n|---|{'---:|' * 5}---|")
        for trouble, (felt, suffered) in found.items():
            told = ", ".join(f"{status}: {number}" for status, number in sorted(suffered.statuses.items()))
            print(f"| {trouble}: {_TROUBLES[trouble][0]} | {' | '.join(felt.row())} | {told or '-'} |", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbours", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each trouble lasts (%(default)s)")
    parser.add_argument("--clients", type=int, default=8, help="clients of the neighbour at once (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that serve (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
