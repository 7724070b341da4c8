"""The limits of a resource: a queue of waiters, first come, first served, with a timeout; the number of snapshots."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from pegboard import errors

T = TypeVar("T")


class Snapshots:
    """Count the snapshots of a provider of `size` connections: as they may take long, they may use at most half."""

    def __init__(self, size: int) -> None:
        self._limit = max(1, size // 2)
        self._count = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count a snapshot for the duration of a block; raises `ApiError` 503 if there are too many."""
        if self._count >= self._limit:
            raise errors.Busy(headers={"Retry-After": "5"})
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


class Waiters(Generic[T]):
    """Queue those who wait for a `T`, each for at most `timeout` seconds; then `wait` raises what `refusal` returns.

    `waits` counts the calls of `wait`, `timeouts` those that timed out.
    """

    def __init__(self, timeout: float, refusal: Callable[[], Exception]) -> None:
        self.waits = 0
        self.timeouts = 0
        self._timeout = timeout
        self._refusal = refusal
        self._queue: deque[tuple[float, asyncio.Future[T]]] = deque()
        # One timer is enough: all waiters have the same timeout, so the first in the queue always expires first.
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Return the number of waiters."""
        return len(self._queue)

    async def wait(self, put_back: Callable[[T], object]) -> T:
        """Return what is handed over; if the caller is cancelled at that very moment, pass it to `put_back`."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()
        entry = (loop.time() + self._timeout, waiter)
        self._queue.append(entry)
        self.waits += 1
        if self._timer is None:
            self._timer = loop.call_later(self._timeout, self._expire)
        try:
            return await waiter
        except BaseException:
            if entry in self._queue:
                self._queue.remove(entry)
            if not waiter.cancelled() and waiter.exception() is None:
                put_back(waiter.result())
            raise

    def hand_over(self, value: T) -> bool:
        """Pass `value` to the longest waiter; return False if there is none."""
        while self._queue:
            _, waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(value)
                return True
        return False

    def fail(self, refusal: Callable[[], Exception]) -> None:
        """Make all waiters raise what `refusal` returns."""
        while self._queue:
            _, waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_exception(refusal())

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._queue:
            until, waiter = self._queue[0]
            if until > loop.time():
                self._timer = loop.call_at(until, self._expire)
                return
            self._queue.popleft()
            if not waiter.done():
                self.timeouts += 1
                waiter.set_exception(self._refusal())
