"""The context of a call of an action: its client, request and transaction, and the callbacks after its commit."""

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
    """Hold the context of a call of an action.

    `connection` is set while the action runs inside a transaction, whose reads and writes use it. An item retrieved
    there is locked until the transaction ends, unless `locks` is false. `traceparent` is the header of that name (W3C
    Trace Context) to send with calls to other services, or None outside of a trace.
    """

    client: Client
    request_id: str
    query: Query
    conditions: Conditions = conditions.NONE
    connection: asyncpg.Connection | None = None
    locks: bool = True
    traceparent: str | None = None
    _renders: bool = False
    """Whether listed items are only rendered into the response, not read by other code."""
    _waiting: list[Callable[[], None]] | None = None

    def after_commit(self, act: Callable[[], None]) -> None:
        """Call `act` after the commit: immediately outside a transaction, and never after a rollback.

        Its exceptions are logged and have no effect on the request, as the write is already committed.
        """
        if self.connection is None:
            _call(act)
        elif self._waiting is None:
            self._waiting = [act]
        else:
            self._waiting.append(act)

    def begin(self, connection: asyncpg.Connection) -> None:
        """Join the transaction that has begun on `connection`."""
        self.connection, self._waiting = connection, None

    def end(self, *, committed: bool) -> None:
        """Leave the transaction, and call the waiting callbacks if it was committed."""
        waiting, self.connection, self._waiting = self._waiting, None, None
        if committed and waiting is not None:
            for callback in waiting:
                _call(callback)


def _call(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        log.exception("a callback after a commit failed")
