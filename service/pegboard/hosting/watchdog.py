"""Who blocks the event loop: a thread that sees when the loop stands still, and in whose code it does."""

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
    """Watch the loop on whose thread it was started.

    Once nothing was swept for `seconds`, the log tells which plugin runs there and where, and its bulkhead counts it:
    once for each time, however long that lasts.
    """

    def __init__(self, bulkheads: Mapping[str, Bulkhead], sweeper: Sweeper, seconds: float) -> None:
        self._bulkheads = bulkheads
        self._sweeper = sweeper
        self._seconds = seconds
        self._watched = threading.get_ident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pegboard-watchdog", daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._over.set()
        self._thread.join(1.0)

    def _watch(self) -> None:
        told, swept = False, self._sweeper.swept
        since = time.monotonic()
        while not self._over.wait(self._seconds / 4):
            if self._sweeper.swept != swept:
                if told:
                    log.warning("the event loop resumed after %.1f s", time.monotonic() - since)
                told, swept, since = False, self._sweeper.swept, time.monotonic()
            elif not told and time.monotonic() - since >= self._seconds:
                told = True
                self._tell(time.monotonic() - since)

    def _tell(self, seconds: float) -> None:
        frame = sys._current_frames().get(self._watched)
        if frame is None:
            return
        stack = "".join(traceback.format_stack(frame, _DEEPEST))
        bulkhead = self._culprit(frame)
        if bulkhead is None:
            log.error("the event loop is blocked for %.1f s, outside the code of plugins:\n%s", seconds, stack)
            return
        bulkhead.blocked += 1
        log.error("the plugin %s blocks the event loop for %.1f s:\n%s", bulkhead.name, seconds, stack)

    def _culprit(self, innermost: FrameType) -> Bulkhead | None:
        """Return whose code it is: that of the request which is being served, or of the package on top of the stack."""
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
