"""Metrics of this process: the lag of its event loop, its CPU time, memory and open files."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from bisect import bisect_left
from contextlib import suppress
from pathlib import Path

from pegboard.telemetry.families import LAGS, Snapshot

_INTERVAL = 0.5
_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc/self")


class Process:
    """Measure this process from `start` to `stop`."""

    def __init__(self) -> None:
        self._lags: list[float] = [0] * (len(LAGS) + 1) + [0.0]
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start to measure the lag of the running loop."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + _INTERVAL
        self._timer = loop.call_at(self._due, self._measure, loop)

    def stop(self) -> None:
        """Stop measuring."""
        if self._timer is not None:
            self._timer.cancel()

    def read(self) -> Snapshot:
        """Return the metrics of the process, without those that the system does not provide."""
        snapshot: Snapshot = {
            ("pegboard_workers",): [1],
            ("pegboard_loop_lag_seconds",): list(self._lags),
            ("pegboard_process_cpu_seconds_total",): [time.process_time()],
            ("pegboard_process_max_fds",): [resource.getrlimit(resource.RLIMIT_NOFILE)[0]],
        }
        with suppress(OSError):
            pages = int((_PROC / "statm").read_text().split()[1])
            snapshot["pegboard_process_resident_memory_bytes",] = [pages * _PAGE_SIZE]
            snapshot["pegboard_process_open_fds",] = [len(os.listdir(_PROC / "fd"))]
        return snapshot

    def _measure(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        lag = max(0.0, now - self._due)
        self._lags[bisect_left(LAGS, lag)] += 1
        self._lags[-1] += lag
        self._due = now + _INTERVAL
        self._timer = loop.call_at(self._due, self._measure, loop)
