"""A plugin that fails, spins, hangs, holds or leaks, and how that affects another plugin.

Run it as `python -m benchmarks.neighbours`; `--help` describes the options.
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

# The description of each failure, and its rate per second.
_FAILURES: Mapping[str, tuple[str, float]] = {
    "quiet": ("is idle", 0),
    "fails": ("raises, 50 times per second", 50),
    "spins": ("blocks for 0.2 s, once per second", 1),
    "hangs": ("never responds, 20 requests per second", 20),
    "holds": ("never ends its transactions, 20 requests per second", 20),
    "leaks": ("never releases connections, 20 requests per second", 20),
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
    """Fail in the way that the id names."""

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
class Measurements:
    """Hold the response times, and the number of responses with each status."""

    times: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def row(self) -> list[str]:
        """Return the cells of a row: requests, failed requests, and times in milliseconds."""
        percentiles = statistics.quantiles(self.times, n=100)
        failed = sum(number for status, number in self.statuses.items() if status not in ("200", "201"))
        times = [f"{seconds * 1000:.1f}" for seconds in (percentiles[49], percentiles[98], max(self.times))]
        return [str(len(self.times)), str(failed), *times]


async def _request(
    session: aiohttp.ClientSession, method: str, url: str, measurements: Measurements, body: object = None
) -> None:
    start = time.perf_counter()
    try:
        async with session.request(method, url, json=body) as response:
            await response.read()
            status = str(response.status)
    except (aiohttp.ClientError, TimeoutError) as error:
        status = type(error).__name__
    measurements.times.append(time.perf_counter() - start)
    measurements.statuses[status] += 1


async def _use_contacts(
    session: aiohttp.ClientSession, url: str, measurements: Measurements, end: float, names: count[int]
) -> None:
    """Read and write contacts, with a pause after each request."""
    while time.perf_counter() < end:
        await _request(session, "GET", f"{url}/contacts?limit=10", measurements)
        await asyncio.sleep(0.02)
        number = next(names)
        contact = {"name": "A neighbour", "email": f"neighbour{number}@example.com"}
        await _request(session, "POST", f"{url}/contacts", measurements, contact)
        await asyncio.sleep(0.02)


async def _provoke(
    session: aiohttp.ClientSession, url: str, rate: float, measurements: Measurements, end: float
) -> None:
    """Send requests to the failing plugin at a constant rate."""
    start, tasks = time.perf_counter(), []
    for number in count():
        await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
        if time.perf_counter() >= end:
            break
        tasks.append(asyncio.ensure_future(_request(session, "GET", url, measurements)))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _measure(
    options: argparse.Namespace, url: str, names: count[int]
) -> dict[str, tuple[Measurements, Measurements]]:
    results = {}
    login = {"Authorization": aiohttp.encode_basic_auth("admin", services.PASSWORD)}
    timeout = aiohttp.ClientTimeout(total=30)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=login, timeout=timeout) as session:
        await _request(session, "GET", f"{url}/contacts", Measurements())
        for failure, (_, rate) in _FAILURES.items():
            contacts, nuisance, end = Measurements(), Measurements(), time.perf_counter() + options.seconds
            async with asyncio.TaskGroup() as group:
                if rate:
                    group.create_task(_provoke(session, f"{url}/nuisance/{failure}", rate, nuisance, end))
                for _ in range(options.clients):
                    group.create_task(_use_contacts(session, url, contacts, end, names))
            results[failure] = contacts, nuisance
            # Let hanging requests end before the next failure.
            await asyncio.sleep(3)
    return results


def _install(folder: Path) -> None:
    """Write the plugin as an installed distribution."""
    folder.mkdir()
    (folder / "nuisance.py").write_text(_PLUGIN)
    about = folder / "nuisance-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nuisance\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[pegboard.resources]\nnuisance = nuisance:Nuisance\n")


def main() -> None:
    """Run the measurement, and print the tables."""
    options = _options()
    columns = [
        "the plugin",
        "its neighbour's requests",
        "failed",
        "p50 ms",
        "p99 ms",
        "slowest ms",
        "its own responses",
    ]
    for mode, limits in _MODES.items():
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pegboard-neighbours-")))
            # If root runs this, PostgreSQL runs as another user, who needs access.
            folder.chmod(0o711)
            _install(folder / "site")
            settings = [f"PEGBOARD_PLUGIN_{name}={value}" for name, value in limits.items()]
            command = ["env", f"PYTHONPATH={folder / 'site'}", f"PEGBOARD_WORKERS={options.workers}", *settings]
            database = stack.enter_context(services.database(folder / "postgresql", ["pegboard"]))
            service = stack.enter_context(
                services.pegboard_service(database.dsns["pegboard"], folder, 1000, [*command, *shlex.split(_SERVE)])
            )
            results = asyncio.run(_measure(options, f"http://127.0.0.1:{service.client.port}", count()))
        print(f"\n{mode}:\n\n| {' | '.join(columns)} |\n|---|{'---:|' * 5}---|")
        for failure, (contacts, nuisance) in results.items():
            statuses = ", ".join(f"{status}: {number}" for status, number in sorted(nuisance.statuses.items()))
            print(
                f"| {failure}: {_FAILURES[failure][0]} | {' | '.join(contacts.row())} | {statuses or '-'} |", flush=True
            )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbours", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each failure lasts (%(default)s)")
    parser.add_argument("--clients", type=int, default=8, help="concurrent clients of the neighbour (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that serve (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
