"""What each plugin may take of a worker: requests at once, time for each of them, and a share of the pools."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from pegboard import errors
from pegboard.errors import ApiError
from pegboard.http.request import STATE, RequestState, has_progressed, reset_connection
from pegboard.postgres.share import Shares

log = logging.getLogger("pegboard.plugins")

_PERIOD = 0.1
_GRACE = 5.0
"""So many seconds a handler that was cancelled has to end, before it is cancelled again and its client let go."""


class Bulkhead:
    """Stand between the service and one plugin.

    At most `requests` requests of it are served at once, each for at most `seconds`; `shares` are its connections to
    the database. `refused`, `timed_out` and `blocked` count the requests that were one too many, those that took too
    long, and how often it has blocked the event loop; `running` says how many are being served. `handlers` serve the
    plugin's endpoints, by what these call them, and are none while the plugin is down; `parse_id` reads an item's id.
    """

    def __init__(self, name: str, requests: int, seconds: float, shares: Shares, package: str = "") -> None:
        self.name = name
        self.package = package
        self.shares = shares
        self.refused = 0
        self.timed_out = 0
        self.blocked = 0
        self.handlers: Mapping[str, Handler] = {}
        self.parse_id: Callable[[str], str | None] = str
        self._requests = requests
        self._seconds = seconds
        self._running: dict[asyncio.Task[None], web.Request] = {}

    @property
    def running(self) -> int:
        """Return how many requests are being served, those whose answers flow included."""
        return len(self._running)

    @property
    def pool_waits(self) -> int:
        """Return how often a request had to wait, as the plugin had all the connections that it may have."""
        return self.shares.read.waits + self.shares.write.waits

    def call(self, name: str, request: web.Request) -> Awaitable[web.StreamResponse]:
        """Answer by the handler of that name: the plugin is up, as the request came so far."""
        return self.handlers[name](request)

    def identify(self, text: str) -> str | None:
        """Return the id that stands in a URL, as items carry it; None where it can be none.

        Raises what the author's `parse_id` raises, and `RuntimeError` in place of what would end the service.
        """
        try:
            return self.parse_id(text)
        except Exception:
            raise
        except BaseException as error:
            raise RuntimeError(f"the plugin {self.name} raised {type(error).__name__}") from error

    async def serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer by `handler` while there is room and time.

        Raises `ApiError`: 503 where too many requests are being served, 504 where it took too long. A stream keeps its
        place until it ends, and has the time for each step that it makes.
        """
        running = self._running
        if len(running) >= self._requests:
            self.refused += 1
            raise errors.Busy(headers={"Retry-After": "1"})
        task = asyncio.current_task()
        running[task] = request  # type: ignore[index]  # it runs within one
        try:
            response = await handler(request)
        except BaseException as error:
            told = self._outcome(error, request[STATE])
            if told is error:
                raise
            raise told from error
        finally:
            # The sweeper takes out what it finds done.
            running.pop(task, None)  # type: ignore[arg-type]  # as above
        state = request[STATE]
        if state.cancelled:
            # It was done all the same.
            _forgive(state)
        return response

    def _outcome(self, error: BaseException, state: RequestState) -> BaseException:
        """Return what to raise in place of what a handler raised."""
        task = asyncio.current_task()
        if state.cancelled:
            asked = _forgive(state)
            if isinstance(error, ApiError) or (isinstance(error, asyncio.CancelledError) and asked):
                return error
            return errors.TimedOut()
        if isinstance(error, Exception | KeyboardInterrupt | GeneratorExit):
            return error
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            return error
        # Let through, it would end the service, or a connection without an answer.
        return RuntimeError(f"the plugin {self.name} raised {type(error).__name__}")

    def sweep(self, now: float) -> None:
        """Cancel what has had its time; to be called every few moments."""
        for task, request in list(self._running.items()):
            state = request[STATE]
            if task.done():
                del self._running[task]
            elif state.since == 0.0 or state.receiving or (state.streaming and has_progressed(request)):
                # Its time begins when it is first seen, and does not run while the client is the slow one.
                state.since = now
            elif now - state.since > (_GRACE if state.cancelled else self._seconds):
                self._cancel(task, request, now)

    def _cancel(self, task: asyncio.Task[None], request: web.Request, now: float) -> None:
        state = request[STATE]
        state.since = now
        state.cancelled += 1
        if state.cancelled == 1:
            self.timed_out += 1
            log.warning("request %s: the plugin %s took more than %g s", state.id, self.name, self._seconds)
        else:
            log.error("request %s: the plugin %s still runs after it was cancelled", state.id, self.name)
            reset_connection(request)
        task.cancel()


def _forgive(state: RequestState) -> int:
    """Take back that the task was cancelled here; return how often somebody else has cancelled it."""
    task = asyncio.current_task()
    left = 0
    for _ in range(state.cancelled):
        left = task.uncancel() if task is not None else 0
    return left


class Sweeper:
    """Have the bulkheads swept, and know when that was last done: while the event loop is blocked, it is not."""

    def __init__(self, bulkheads: Iterable[Bulkhead]) -> None:
        self.swept = 0.0
        self._bulkheads = tuple(bulkheads)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Sweep from now on."""
        loop = asyncio.get_running_loop()
        self.swept = now = loop.time()
        for bulkhead in self._bulkheads:
            bulkhead.sweep(now)
        self._timer = loop.call_later(_PERIOD, self.start)

    def stop(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()
