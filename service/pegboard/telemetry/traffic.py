"""What is counted of requests: how many, how long they took and how large their answers were, by place and outcome."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from pegboard.http.request import METHODS, RequestState
from pegboard.telemetry.families import DURATIONS, Snapshot

OWN = "pegboard"
"""Stands for the resource where there is none: no plugin can have this name."""
UNKNOWN = "unknown"
"""Stands for the template of paths at which nothing answers, or of which nothing was told."""
OTHER = "other"
"""Stands for the methods that nobody implements."""

_SUM, _BYTES = -2, -1


class Traffic:
    """Count the requests of this process; a request costs about a microsecond.

    `running` are those that are served at the moment, `aborted` how many ended without a whole answer, and `refusals`
    those that could not be read, by status: the server counts them. Labels are bounded by what is mounted: no path, id
    or name that a client sent is one.
    """

    def __init__(self) -> None:
        self.running = 0
        self.aborted = 0
        self.refusals: Counter[int] = Counter()
        # Of each: the number in every bucket of durations, then their sum, then bytes.
        self._cells: dict[tuple[str, str, int], list[float]] = {}
        self._resources: dict[str, str] = {}

    def count(self, state: RequestState, method: str, status: int, seconds: float, size: int) -> None:
        """Count one response: its status, the seconds it took, the bytes of its body."""
        template = state.path.template
        cell = self._cells.get((template, method, status))
        if cell is None:
            cell = self._open(template, state.path.plugin, method, status)
        cell[bisect_left(DURATIONS, seconds)] += 1
        cell[_SUM] += seconds
        cell[_BYTES] += size

    def _open(self, template: str, plugin: str, method: str, status: int) -> list[float]:
        """Return where requests of a kind that was not seen yet are counted."""
        known = method if method in METHODS else OTHER
        self._resources[template] = plugin or OWN
        return self._cells.setdefault((template, known, status), [0] * (len(DURATIONS) + 1) + [0.0, 0])

    def read(self) -> Snapshot:
        """Return what was counted so far."""
        found: Snapshot = {
            ("pegboard_requests_in_progress",): [self.running],
            ("pegboard_requests_aborted_total",): [self.aborted],
            **{("pegboard_requests_refused_total", str(status)): [number] for status, number in self.refusals.items()},
        }
        for (template, method, status), cell in self._cells.items():
            labels = (self._resources[template], template or UNKNOWN, method, str(status))
            durations = cell[:_BYTES]
            found["pegboard_requests_total", *labels] = [sum(durations[: _SUM + 1])]
            found["pegboard_request_duration_seconds", *labels] = durations
            found["pegboard_response_bytes_total", *labels] = [cell[_BYTES]]
        return found
