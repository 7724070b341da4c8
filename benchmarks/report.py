"""The report of a run: medians, ratios, one Markdown table, and all results as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any

from benchmarks.load import Outcome

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """Hold the results of one service for one operation in one round: CPU in seconds, memory in bytes."""

    operation: str
    service: str
    round: int
    outcome: Outcome
    server_cpu: float
    database_cpu: float
    peak_memory: int


# The heading of each column, and its value for a run.
_METRICS: tuple[tuple[str, Callable[[Run], float]], ...] = (
    ("requests/s", lambda run: run.outcome.rate),
    ("p50 ms", lambda run: run.outcome.p50 * 1e3),
    ("p99 ms", lambda run: run.outcome.p99 * 1e3),
    ("CPU µs/request", lambda run: run.server_cpu / run.outcome.requests * 1e6),
    ("PostgreSQL CPU µs/request", lambda run: run.database_cpu / run.outcome.requests * 1e6),
    ("peak memory MiB", lambda run: run.peak_memory / _MIB),
)


def table(runs: Sequence[Run]) -> str:
    """Return the medians as a Markdown table, with a row of ratios for each further service."""
    lines = [
        _line(["operation", "service", *(heading for heading, _ in _METRICS)]),
        _line(["---", "---", *("---:" for _ in _METRICS)]),
    ]
    services = _distinct(run.service for run in runs)
    for operation in _distinct(run.operation for run in runs):
        of_operation = [run for run in runs if run.operation == operation]
        for service in services:
            of_service = [run for run in of_operation if run.service == service]
            cells = (number(median(map(value, of_service))) for _, value in _METRICS)
            lines.append(_line([operation, service, *cells]))
        for service in services[1:]:
            cells = (f"**{_ratio(of_operation, (services[0], service), value):.2f}**" for _, value in _METRICS)
            lines.append(_line([operation, f"{service}/{services[0]}", *cells]))
    return "\n".join(lines)


def change(runs: Sequence[Run], before: str, after: str) -> str:
    """Return the ratio of the CPU time per request of two services: the median of the ratios of the rounds."""
    lines = []
    for operation in _distinct(run.operation for run in runs):
        costs = {
            name: {run.round: run.server_cpu / run.outcome.requests for run in runs if is_of(run, operation, name)}
            for name in (before, after)
        }
        ratios = [costs[after][number] / cost for number, cost in costs[before].items()]
        low, middle, high = quantiles(ratios, n=4)
        lines.append(f"{operation}: CPU of {after} by {before}'s {middle:.2f} ({low:.2f} to {high:.2f})")
    return "\n".join(lines)


def is_of(run: Run, operation: str, service: str) -> bool:
    """Return whether a run is of this operation and this service."""
    return (run.operation, run.service) == (operation, service)


def number(value: float) -> str:
    """Return a number with its significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def plain(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return every run as values for JSON."""
    return [asdict(run) for run in runs]


def _ratio(runs: Sequence[Run], services: Sequence[str], value: Callable[[Run], float]) -> float:
    """Return the median of the ratios of the rounds: the runs of a round are close in time, which cancels drift."""
    first, second = ({run.round: value(run) for run in runs if run.service == service} for service in services)
    return median(second[number] / first[number] for number in first)


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
