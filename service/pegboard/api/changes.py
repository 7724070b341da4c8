"""What a write has changed, and what follows its commit: beside the requests, and never to their harm."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST = 30.0
"""So many seconds may what follows one change take."""

log = logging.getLogger("pegboard")


@dataclass(frozen=True, slots=True)
class Change:
    """Tell what one action or operation has done.

    `action` is its name; `identity` the item's id, None for an operation on the collection; `before` the item as it
    was, None for a new one; `after` what was returned: the item as it is now, None for one that is deleted.
    """

    action: str
    identity: str | None
    before: Any
    after: Any


class Aftermath:
    """Do what follows commits in tasks of its own, which neither a client that goes away nor a deadline breaks off."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, name: str, act: Callable[[Change], Awaitable[None]], changes: Sequence[Change]) -> None:
        """Call `act` for each of `changes` in turn; what goes wrong is logged with the resource's `name`."""
        task = asyncio.get_running_loop().create_task(_follow(name, act, changes))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for all that has begun, for as long as one of them may take, and break off the rest."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=LONGEST)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


async def _follow(name: str, act: Callable[[Change], Awaitable[None]], changes: Sequence[Change]) -> None:
    for change in changes:
        try:
            async with asyncio.timeout(LONGEST):
                await act(change)
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise
        except BaseException as error:
            log.error("the hook after %s of %s failed", change.action, name, exc_info=error)
