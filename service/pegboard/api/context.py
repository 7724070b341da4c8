"""For whom and how an action is called, and what waits for the commit of what it does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from pegboard.auth.clients import Client
from pegboard.http import conditions
from pegboard.http.conditions import Conditions
from pegboard.query.query import Query

log = logging.getLogger("pegboard")


@dataclass(slots=True)
class Context:
    """Say for whom and how an action is called.

    `connection` is set while the action runs inside a transaction: what it reads or writes there belongs to it. An item
    that is retrieved there is locked until its end, unless `locks` says that it is only to be shown. `traceparent` is
    the header of that name (W3C Trace Context) to send along with calls to other services; None outside of a trace.
    """

    client: Client
    request_id: str
    query: Query
    conditions: Conditions = conditions.NONE
    connection: asyncpg.Connection | None = None
    locks: bool = True
    traceparent: str | None = None
    _renders: bool = False
    """Whether what is listed goes out as it is, and nobody else looks at it."""
    _waiting: list[Callable[[], None]] | None = None

    def after_commit(self, act: Callable[[], None]) -> None:
        """Call `act` once what was done here is committed: at once outside a transaction, never if it is undone.

        What it raises is logged, and changes nothing: the write is done.
        """
        if self.connection is None:
            _follow(act)
        elif self._waiting is None:
            self._waiting = [act]
        else:
            self._waiting.append(act)

    def begin(self, connection: asyncpg.Connection) -> None:
        """Belong to the transaction that has begun on `connection`."""
        self.connection, self._waiting = connection, None

    def end(self, *, committed: bool) -> None:
        """Belong to no transaction any more, and call what waited for its commit."""
        waiting, self.connection, self._waiting = self._waiting, None, None
        if committed and waiting is not None:
            for act in waiting:
                _follow(act)


def _follow(act: Callable[[], None]) -> None:
    try:
        act()
    except Exception:
        log.exception("a callback after a commit failed")
