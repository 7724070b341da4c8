"""How this process fares: the lag of its event loop, its CPU time, memory and open files."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from bisect import bisect_left
from contextlib import suppress
from pathlib import Path

from pegboard.telemetry.families import LAGS, Snapshot

_PERIOD = 0.5
_PAGE = os.sysconf("SC_PAGE_SIZE")
_OF_THIS = Path("/proc/self")


class Process:
    """Watch this process from `start` to `stop`."""

    def __init__(self) -> None:
        self._lags: list[float] = [0] * (len(LAGS) + 1) + [0.0]
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure the lag of the running loop."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + _PERIOD
        self._timer = loop.call_at(self._due, self._measure, loop)

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()

    def read(self) -> Snapshot:
        """Return how the process stands; what the system does not tell is left out."""
        found: Snapshot = {
            ("pegboard_workers",): [1],
            ("pegboard_loop_lag_seconds",): list(self._lags),
            ("pegboard_process_cpu_seconds_total",): [time.process_time()],
            ("pegboard_process_max_fds",): [resource.getrlimit(resource.RLIMIT_NOFILE)[0]],
        }
        with suppress(OSError):
            pages = int((_OF_THIS / "statm").read_text().split()[1])
            found["pegboard_process_resident_memory_bytes",] = [pages * _PAGE]
            found["pegboard_process_open_fds",] = [len(os.listdir(_OF_THIS / "fd"))]
        return found

    def _measure(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        lag = max(0.0, now - self._due)
        self._lags[bisect_left(LAGS, lag)] += 1
        self._lags[-1] += lag
        self._due = now + _PERIOD
        self._timer = loop.call_at(self._due, self._measure, loop)
