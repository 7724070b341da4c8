"""The lending of connections: the pool of the service and that of asyncpg, with more tasks than connections.

Run it as `python -m benchmarks.lending`; `--help` describes the options.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import uvloop

from benchmarks import services
from pegboard.postgres.pool import Pool

_DATABASE = "lending"
_SIZE = 10
_SQL = "SELECT $1::int AS id, repeat('x', 200) AS text, now() AS created_at"

Fetch = Callable[[int], Awaitable[Any]]
Lender = Callable[[str], AbstractAsyncContextManager[Fetch]]


@dataclass(frozen=True, slots=True)
class Round:
    """Hold the results of a round: statements per second, milliseconds, and CPU microseconds of client and server."""

    rate: float
    p50: float
    p99: float
    client: float
    server: float


class WithoutReset(asyncpg.Connection):
    """A connection that is not reset when it returns to the pool."""

    def get_reset_query(self) -> str:
        """Return an empty query."""
        return ""


def _asyncpg(connection: type[asyncpg.Connection]) -> Lender:
    @asynccontextmanager
    async def lend(dsn: str) -> Any:
        async with asyncpg.create_pool(dsn, min_size=_SIZE, max_size=_SIZE, connection_class=connection) as pool:
            yield lambda number: pool.fetchrow(_SQL, number)

    return lend


@asynccontextmanager
async def _pegboard(dsn: str) -> Any:
    pool = Pool(dsn, size=_SIZE)
    await pool.open()
    try:
        yield lambda number: pool.fetchrow(_SQL, number)
    finally:
        await pool.close()


LENDERS: dict[str, Lender] = {
    "asyncpg.Pool": _asyncpg(asyncpg.Connection),
    "asyncpg.Pool without reset": _asyncpg(WithoutReset),
    "pegboard.postgres.pool": _pegboard,
}


async def measure(lend: Lender, dsn: str, server: psutil.Process, tasks: int, seconds: float) -> Round:
    """Run statements in `tasks` tasks for `seconds` seconds, after a warm-up of a tenth of that."""
    async with lend(dsn) as fetch:
        await _load(fetch, tasks, seconds / 10)
        began, client, postgres = time.perf_counter(), time.process_time(), _cpu(server)
        times = await _load(fetch, tasks, seconds)
        took, client, postgres = time.perf_counter() - began, time.process_time() - client, _cpu(server) - postgres
    cuts = statistics.quantiles(times, n=100)
    number = len(times)
    return Round(number / took, cuts[49] * 1e3, cuts[98] * 1e3, client / number * 1e6, postgres / number * 1e6)


async def _load(fetch: Fetch, tasks: int, seconds: float) -> list[float]:
    end, times = time.perf_counter() + seconds, list[float]()

    async def run_statements(number: int) -> None:
        while (began := time.perf_counter()) < end:
            await fetch(number)
            times.append(time.perf_counter() - began)

    await asyncio.gather(*map(run_statements, range(tasks)))
    return times


def _cpu(server: psutil.Process) -> float:
    times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lending", description=__doc__)
    parser.add_argument("--tasks", type=int, default=64, help="number of concurrent tasks (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (%(default)s)")
    return parser.parse_args()


def _rows(rounds: dict[str, list[Round]]) -> Iterator[str]:
    yield "| lender | statements/s | p50 ms | p99 ms | CPU µs | CPU µs of PostgreSQL |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for name, results in rounds.items():
        medians = [statistics.median(getattr(result, field) for result in results) for field in Round.__slots__]
        rate, p50, p99, client, server = medians
        yield f"| {name} | {rate:,.0f} | {p50:.1f} | {p99:.1f} | {client:.0f} | {server:.0f} |"


async def _measure_all(database: services.Database, options: argparse.Namespace) -> dict[str, list[Round]]:
    rounds: dict[str, list[Round]] = {name: [] for name in LENDERS}
    for _ in range(options.rounds):
        for name, lend in LENDERS.items():
            rounds[name].append(
                await measure(lend, database.dsns[_DATABASE], database.process, options.tasks, options.seconds)
            )
    return rounds


def main() -> None:
    """Measure each pool, and print the medians of the rounds."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="pegboard-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with services.database(folder / "postgresql", [_DATABASE]) as database:
            rounds = uvloop.run(_measure_all(database, options))
    print(
        f"{options.tasks} tasks, {_SIZE} connections, PostgreSQL {database.version}; medians of {options.rounds} rounds"
    )
    print(*_rows(rounds), sep="\n")


if __name__ == "__main__":
    main()
