"""The lifespan of a resource: what its author has run beside requests, from the start of the service to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pegboard.api.resource import Resource

_GRACE = 1.0  # seconds that a lifespan gets to end once it is broken off

log = logging.getLogger("pegboard.plugins")


class Lifespan:
    """Hold the lifespan of `resource` open, in a task of its own: task groups and the like end where they began.

    It may take `timeout` seconds to begin, and as many to end.
    """

    def __init__(self, resource: Resource, timeout: float) -> None:
        self._resource = resource
        self._timeout = timeout
        self._begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._living: asyncio.Task[BaseException | None] | None = None

    async def begin(self) -> str | None:
        """Return why it did not begin; None when it has."""
        self._living = living = asyncio.get_running_loop().create_task(self._live())
        await asyncio.wait((self._begun, living), timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._begun.done():
            return None
        if living.done():
            return f"its lifespan failed at the start: {_told(living.result())}"
        await self._break_off(living)
        return f"its lifespan did not start within {self._timeout:g} s"

    def watch(self, ended: Callable[[str], None]) -> None:
        """Call `ended` with the reason if it ends before the service does."""
        if self._living is not None:
            self._living.add_done_callback(lambda living: self._notice(living, ended))

    def _notice(self, living: asyncio.Task[BaseException | None], ended: Callable[[str], None]) -> None:
        if not self._over.is_set() and not living.cancelled():
            ended(f"its lifespan ended: {_told(living.result())}")

    async def end(self) -> None:
        """Let it end; what goes wrong is logged."""
        living = self._living
        if living is None or living.done():
            return
        self._over.set()
        await asyncio.wait((living,), timeout=self._timeout)
        if not living.done():
            await self._break_off(living)
            log.error("the lifespan of %s did not stop within %g s", self._resource.name, self._timeout)
        elif (error := living.result()) is not None:
            log.error("the lifespan of %s failed when the service stopped", self._resource.name, exc_info=error)

    async def _live(self) -> BaseException | None:
        """Return what went wrong, which raised would end more than this."""
        try:
            async with self._resource.lifespan():
                self._begun.set_result(None)
                await self._over.wait()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return error
        return None

    async def _break_off(self, living: asyncio.Task[BaseException | None]) -> None:
        living.cancel()
        await asyncio.wait((living,), timeout=_GRACE)


def _told(error: BaseException | None) -> str:
    return (
        "it did not wait for the end of the service"
        if error is None
        else f"{type(error).__name__}: {' '.join(str(error).split())}"
    )
