"""A thread that detects a blocked event loop and the responsible plugin."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from types import FrameType

from aiohttp import web

from pegboard.hosting.bulkheads import Bulkhead, Sweeper
from pegboard.http.request import STATE

log = logging.getLogger("pegboard.plugins")

_SERVING = Bulkhead.serve.__code__
_DEEPEST = 40


class Watchdog:
    """Watch the event loop of the thread that creates it.

    If the sweeper has not run for `seconds`, the log reports which plugin is running and where, and its bulkhead counts
    it: once each time that the loop is blocked, however long that lasts.
    """

    def __init__(self, bulkheads: Mapping[str, Bulkhead], sweeper: Sweeper, seconds: float) -> None:
        self._bulkheads = bulkheads
        self._sweeper = sweeper
        self._seconds = seconds
        self._thread_id = threading.get_ident()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pegboard-watchdog", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._thread.join(1.0)

    def _watch(self) -> None:
        reported, swept = False, self._sweeper.swept
        since = time.monotonic()
        while not self._stopped.wait(self._seconds / 4):
            if self._sweeper.swept != swept:
                if reported:
                    log.warning("the event loop resumed after %.1f s", time.monotonic() - since)
                reported, swept, since = False, self._sweeper.swept, time.monotonic()
            elif not reported and time.monotonic() - since >= self._seconds:
                reported = True
                self._report(time.monotonic() - since)

    def _report(self, seconds: float) -> None:
        frame = sys._current_frames().get(self._thread_id)
        if frame is None:
            return
        stack = "".join(traceback.format_stack(frame, _DEEPEST))
        bulkhead = self._responsible(frame)
        if bulkhead is None:
            log.error("the event loop is blocked for %.1f s, outside the code of plugins:\n%s", seconds, stack)
            return
        bulkhead.blocked += 1
        log.error("the plugin %s blocks the event loop for %.1f s:\n%s", bulkhead.name, seconds, stack)

    def _responsible(self, innermost: FrameType) -> Bulkhead | None:
        """Return the plugin of the request that is being served, or else of the innermost frame in a plugin's code."""
        for frame in _frames(innermost):
            if frame.f_code is _SERVING:
                request = frame.f_locals.get("request")
                if isinstance(request, web.Request) and request[STATE].path.plugin in self._bulkheads:
                    return self._bulkheads[request[STATE].path.plugin]
        owners = {bulkhead.package: bulkhead for bulkhead in self._bulkheads.values()}
        for frame in _frames(innermost):
            package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
            if package in owners:
                return owners[package]
        return None


def _frames(innermost: FrameType) -> Iterator[FrameType]:
    frame: FrameType | None = innermost
    while frame is not None:
        yield frame
        frame = frame.f_back
