"""The lifespans of resources, from the start of the service to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pegboard.api.resource import Resource

_GRACE = 1.0  # seconds that a cancelled lifespan has to end

log = logging.getLogger("pegboard.plugins")


class Lifespan:
    """Run the lifespan of `resource` in a task of its own: task groups must be entered and exited in the same task.

    It may take `timeout` seconds to start, and as many to stop.
    """

    def __init__(self, resource: Resource, timeout: float) -> None:
        self._resource = resource
        self._timeout = timeout
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[BaseException | None] | None = None

    async def start(self) -> str | None:
        """Start the lifespan; return the reason if it fails, or else None."""
        self._task = task = asyncio.get_running_loop().create_task(self._run())
        await asyncio.wait((self._started, task), timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._started.done():
            return None
        if task.done():
            return f"its lifespan failed at the start: {_message(task.result())}"
        await self._cancel(task)
        return f"its lifespan did not start within {self._timeout:g} s"

    def on_early_end(self, report: Callable[[str], None]) -> None:
        """Call `report` with the reason if the lifespan ends before it is stopped."""
        if self._task is not None:
            self._task.add_done_callback(lambda task: self._report_end(task, report))

    def _report_end(self, task: asyncio.Task[BaseException | None], report: Callable[[str], None]) -> None:
        if not self._stopping.is_set() and not task.cancelled():
            error = task.result()
            report(f"its lifespan failed: {_message(error)}" if error else "its lifespan ended before shutdown")

    async def stop(self) -> None:
        """Stop the lifespan and log its errors."""
        task = self._task
        if task is None or task.done():
            return
        self._stopping.set()
        await asyncio.wait((task,), timeout=self._timeout)
        if not task.done():
            await self._cancel(task)
            log.error("the lifespan of %s did not stop within %g s", self._resource.name, self._timeout)
        elif (error := task.result()) is not None:
            log.error("the lifespan of %s failed when the service stopped", self._resource.name, exc_info=error)

    async def _run(self) -> BaseException | None:
        """Return the exception that ended the lifespan: raised in a task, a `SystemExit` would stop the service."""
        try:
            async with self._resource.lifespan():
                self._started.set_result(None)
                await self._stopping.wait()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return error
        return None

    async def _cancel(self, task: asyncio.Task[BaseException | None]) -> None:
        task.cancel()
        await asyncio.wait((task,), timeout=_GRACE)


def _message(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
