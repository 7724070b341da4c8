"""Metrics of requests: their number and duration, and the size of the responses, by route, method and status."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from pegboard.http.request import METHODS, RequestState
from pegboard.telemetry.families import DURATIONS, Snapshot

SERVICE = "pegboard"
"""The resource of the service's own paths: no plugin can have this name."""
UNKNOWN = "unknown"
"""The template of unmatched paths."""
OTHER = "other"
"""The method of requests with a non-standard method."""

_SUM, _BYTES = -2, -1


class Traffic:
    """Count the requests of this process, at a cost of about a microsecond each.

    `running` is the number of requests being served, `aborted` of those that ended without a complete response, and
    `refusals` of those that could not be read, by status: the server counts them. The mounted endpoints bound the
    labels: no path, id or name that a client sent is used as one.
    """

    def __init__(self) -> None:
        self.running = 0
        self.aborted = 0
        self.refusals: Counter[int] = Counter()
        # Each cell has the count in every bucket of durations, then their sum, then the bytes.
        self._cells: dict[tuple[str, str, int], list[float]] = {}
        self._resources: dict[str, str] = {}

    def count(self, state: RequestState, method: str, status: int, seconds: float, size: int) -> None:
        """Count one response: its status, its duration in seconds, the size of its body in bytes."""
        template = state.path.template
        cell = self._cells.get((template, method, status))
        if cell is None:
            cell = self._new_cell(template, state.path.plugin, method, status)
        cell[bisect_left(DURATIONS, seconds)] += 1
        cell[_SUM] += seconds
        cell[_BYTES] += size

    def _new_cell(self, template: str, plugin: str, method: str, status: int) -> list[float]:
        """Return the cell of a method and status that have not been counted in this process yet."""
        label = method if method in METHODS else OTHER
        self._resources[template] = plugin or SERVICE
        return self._cells.setdefault((template, label, status), [0] * (len(DURATIONS) + 1) + [0.0, 0])

    def read(self) -> Snapshot:
        """Return the metrics of the requests so far."""
        snapshot: Snapshot = {
            ("pegboard_requests_in_progress",): [self.running],
            ("pegboard_requests_aborted_total",): [self.aborted],
            **{("pegboard_requests_refused_total", str(status)): [number] for status, number in self.refusals.items()},
        }
        for (template, method, status), cell in self._cells.items():
            labels = (self._resources[template], template or UNKNOWN, method, str(status))
            durations = cell[:_BYTES]
            snapshot["pegboard_requests_total", *labels] = [sum(durations[: _SUM + 1])]
            snapshot["pegboard_request_duration_seconds", *labels] = durations
            snapshot["pegboard_response_bytes_total", *labels] = [cell[_BYTES]]
        return snapshot
