"""The limits of each plugin in a worker: concurrent requests, deadlines and a share of the pools."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler

from pegboard import errors
from pegboard.errors import ApiError
from pegboard.http.request import STATE, RequestState, has_progressed, is_open, reset_connection
from pegboard.postgres.conflicts import CONFLICTS, Retries
from pegboard.postgres.share import Shares

T = TypeVar("T")

log = logging.getLogger("pegboard.plugins")

_PERIOD = 0.1
_GRACE = 5.0
"""Seconds that a cancelled handler has to end, before it is cancelled again and its connection is reset."""


class Bulkhead:
    """Limit what one plugin may use of a worker.

    The plugin serves at most `requests` requests at once, each for at most `seconds`; `shares` limits its database
    connections. `refused` and `timed_out` count the requests over the first two limits, `blocked` how often the plugin
    has blocked the event loop, `running` the requests in progress, and `retries` those that ran again after a conflict
    of their transaction. `handlers` has those of its endpoints, by name; it is empty while the plugin does not serve;
    `parse_id` parses an item's id.
    """

    def __init__(self, name: str, requests: int, seconds: float, shares: Shares, package: str = "") -> None:
        self.name = name
        self.package = package
        self.shares = shares
        self.refused = 0
        self.timed_out = 0
        self.blocked = 0
        self.retries = Retries()
        self.handlers: Mapping[str, Handler] = {}
        self.parse_id: Callable[[str], str | None] = str
        self._requests = requests
        self._seconds = seconds
        self._running: dict[asyncio.Task[None], web.Request] = {}

    @property
    def running(self) -> int:
        """Return the number of requests in progress, including those whose responses are being streamed."""
        return len(self._running)

    @property
    def pool_waits(self) -> int:
        """Return how often a request had to wait because the plugin was using its entire share of connections."""
        return self.shares.read.waits + self.shares.write.waits

    def call(self, name: str, request: web.Request) -> Awaitable[web.StreamResponse]:
        """Call a handler by its name. The plugin must be serving."""
        return self.handlers[name](request)

    def identify(self, text: str) -> str | None:
        """Return the id in a URL in the form that items have it; None if it is not a valid id.

        Raises what the author's `parse_id` raises, but `RuntimeError` in place of an exception that would stop the
        service.
        """
        try:
            return self.parse_id(text)
        except Exception:
            raise
        except BaseException as error:
            raise RuntimeError(f"the plugin {self.name} raised {type(error).__name__}") from error

    async def serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Call `handler` within the limits of the plugin.

        Raises `ApiError`: 503 if too many requests are in progress, 504 if the handler takes too long. A streaming
        response counts as in progress until it ends; its time starts again with each part that it sends.
        """
        running = self._running
        if len(running) >= self._requests:
            self.refused += 1
            raise errors.Busy(headers={"Retry-After": "1"})
        task = asyncio.current_task()
        running[task] = request  # type: ignore[index]  # always runs in a task
        try:
            try:
                response = await handler(request)
            except CONFLICTS as error:
                if request.writer.output_size:
                    raise
                response = await self.retry(request, error, lambda: handler(request))
        except BaseException as error:
            translated = self._translate(error, request[STATE])
            if translated is error:
                raise
            raise translated from error
        finally:
            # The sweeper may have removed it already.
            running.pop(task, None)  # type: ignore[arg-type]  # as above
        state = request[STATE]
        if state.cancelled:
            # It completed in spite of the cancellation.
            _uncancel(state)
        return response

    async def retry(self, request: web.Request, error: Exception, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `attempt`, called again after a conflict, unless the client has disconnected."""
        return await self.retries.run(f"request {request[STATE].id}:", error, attempt, lambda: is_open(request))

    def _translate(self, error: BaseException, state: RequestState) -> BaseException:
        """Return the exception to raise in place of the one that a handler raised."""
        task = asyncio.current_task()
        if state.cancelled:
            cancelled_elsewhere = _uncancel(state)
            if isinstance(error, ApiError) or (isinstance(error, asyncio.CancelledError) and cancelled_elsewhere):
                return error
            return errors.TimedOut()
        if isinstance(error, Exception | KeyboardInterrupt | GeneratorExit):
            return error
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            return error
        # Raised as it is, it would stop the service, or close the connection without a response.
        return RuntimeError(f"the plugin {self.name} raised {type(error).__name__}")

    def sweep(self, now: float) -> None:
        """Cancel the requests that have exceeded their time. Call it periodically."""
        for task, request in list(self._running.items()):
            state = request[STATE]
            if task.done():
                del self._running[task]
            elif state.since == 0.0 or state.receiving or (state.streaming and has_progressed(request)):
                # Its time starts when it is first seen, and does not run while the service waits for the client.
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


def _uncancel(state: RequestState) -> int:
    """Undo the cancellations of the current task by the sweeper; return how many others are pending."""
    task = asyncio.current_task()
    remaining = 0
    for _ in range(state.cancelled):
        remaining = task.uncancel() if task is not None else 0
    return remaining


class Sweeper:
    """Sweep the bulkheads periodically; `swept` is the time of the last sweep, which a blocked event loop delays."""

    def __init__(self, bulkheads: Iterable[Bulkhead]) -> None:
        self.swept = 0.0
        self._bulkheads = tuple(bulkheads)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Sweep now, and then periodically."""
        loop = asyncio.get_running_loop()
        self.swept = now = loop.time()
        for bulkhead in self._bulkheads:
            bulkhead.sweep(now)
        self._timer = loop.call_later(_PERIOD, self.start)

    def stop(self) -> None:
        """Stop sweeping."""
        if self._timer is not None:
            self._timer.cancel()
