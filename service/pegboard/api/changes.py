"""Changes made by writes, and the background tasks that run the hooks after their commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

HOOK_TIMEOUT = 30.0
"""The longest that the hook for one change may run, in seconds."""

log = logging.getLogger("pegboard")


@dataclass(frozen=True, slots=True)
class Change:
    """Describe what one action or operation changed.

    `action` is its name. `id` is that of the item, or None for an operation on the collection. `before` is the
    item before the change, or None if it is new. `after` is what the action returned: the item after the change, or
    None if it was deleted.
    """

    action: str
    id: str | None
    before: Any
    after: Any


class BackgroundTasks:
    """Run the hooks after commits in tasks that neither a client's disconnect nor a request's deadline cancels."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, hook: Callable[[Change], Awaitable[None]], changes: Sequence[Change]) -> None:
        """Call `hook` for each of `changes`, in order; errors are logged with the resource's `name`."""
        task = asyncio.get_running_loop().create_task(_run(name, hook, changes))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for the running tasks, for as long as one hook may take, and cancel the rest."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=HOOK_TIMEOUT)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


async def _run(name: str, hook: Callable[[Change], Awaitable[None]], changes: Sequence[Change]) -> None:
    for change in changes:
        try:
            async with asyncio.timeout(HOOK_TIMEOUT):
                await hook(change)
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise
        except BaseException as error:
            log.error("the hook after %s of %s failed", change.action, name, exc_info=error)
