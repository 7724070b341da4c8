"""The lending of connections: this service's pool beside asyncpg's, under more tasks than there are connections.

Run it as `python -m benchmarks.lending`; `--help` tells what can be chosen.
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
    """Hold what one round has shown: statements a second, milliseconds, and CPU microseconds of both sides."""

    rate: float
    p50: float
    p99: float
    client: float
    server: float


class Kept(asyncpg.Connection):
    """Be a connection that is lent again without a reset."""

    def get_reset_query(self) -> str:
        """Return nothing to run."""
        return ""


def _asyncpg(connection: type[asyncpg.Connection]) -> Lender:
    @asynccontextmanager
    async def lend(dsn: str) -> Any:
        async with asyncpg.create_pool(dsn, min_size=_SIZE, max_size=_SIZE, connection_class=connection) as pool:
            yield lambda number: pool.fetchrow(_SQL, number)

    return lend


@asynccontextmanager
async def _own(dsn: str) -> Any:
    pool = Pool(dsn, size=_SIZE)
    await pool.open()
    try:
        yield lambda number: pool.fetchrow(_SQL, number)
    finally:
        await pool.close()


LENDERS: dict[str, Lender] = {
    "asyncpg.Pool": _asyncpg(asyncpg.Connection),
    "asyncpg.Pool without reset": _asyncpg(Kept),
    "pegboard.postgres.pool": _own,
}


async def measure(lend: Lender, dsn: str, server: psutil.Process, tasks: int, seconds: float) -> Round:
    """Let `tasks` run one statement after the other for so many seconds, after as many tenths that are not measured."""
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

    async def ask(number: int) -> None:
        while (began := time.perf_counter()) < end:
            await fetch(number)
            times.append(time.perf_counter() - began)

    await asyncio.gather(*map(ask, range(tasks)))
    return times


def _cpu(server: psutil.Process) -> float:
    times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lending", description=__doc__)
    parser.add_argument("--tasks", type=int, default=64, help="how many ask at once (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long a round takes (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how many rounds there are (%(default)s)")
    return parser.parse_args()


def _rows(rounds: dict[str, list[Round]]) -> Iterator[str]:
    yield "| lender | statements/s | p50 ms | p99 ms | CPU µs | CPU µs of PostgreSQL |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for name, found in rounds.items():
        middle = [statistics.median(getattr(one, field) for one in found) for field in Round.__slots__]
        rate, p50, p99, client, server = middle
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
    """Measure each lender in turn, and print the medians of the rounds."""
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
