"""The context of a call of an action: its client, request and transaction, and the callbacks after its commit."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable

import asyncpg

from pegboard.auth.clients import Client
from pegboard.http import conditions
from pegboard.http.conditions import Conditions
from pegboard.query.query import Query

log = logging.getLogger("pegboard")


class Transaction:
    """Hold a transaction and the callbacks that wait for its commit; without a connection it has ended.

    With `savepoints`, it continues after a statement that fails.
    """

    __slots__ = ("callbacks", "connection", "savepoints")

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection: asyncpg.Connection | None = connection
        self.callbacks: list[Callable[[], None]] = []
        self.savepoints = False


class Context:
    """Provide the context of a call of an action.

    `client` has sent the request `request_id`. `query` are its query parameters, `conditions` its preconditions.
    `traceparent` is the header of that name (W3C Trace Context) to send with calls to other services, or None outside
    of a trace. The service creates contexts; actions pass them on.
    """

    __slots__ = ("_locks", "_renders", "_transaction", "client", "conditions", "query", "request_id", "traceparent")

    def __init__(
        self,
        client: Client,
        request_id: str,
        query: Query,
        conditions: Conditions = conditions.NONE,
        traceparent: str | None = None,
        *,
        renders: bool = False,
    ) -> None:
        self.client = client
        self.request_id = request_id
        self.query = query
        self.conditions = conditions
        self.traceparent = traceparent
        self._transaction: Transaction | None = None
        self._locks = True
        # Whether listed items are only rendered into the response, not read by other code.
        self._renders = renders

    @property
    def in_transaction(self) -> bool:
        """Return whether the action runs inside a transaction."""
        return connection_of(self) is not None

    @property
    def connection(self) -> asyncpg.Connection:
        """Return the connection of the transaction; raises `RuntimeError` outside of one."""
        connection = connection_of(self)
        if connection is None:
            raise RuntimeError("there is no transaction: use the connection in `async with self.transaction(context)`")
        return connection

    def without_locks(self) -> Context:
        """Return a context in the same transaction for other items: without locks, and without the conditions."""
        return derive(self, self.query)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` after the commit: immediately outside a transaction, and never after a rollback.

        Its exceptions are logged and have no effect on the request, as the write is already committed.
        """
        if inspect.iscoroutinefunction(callback):
            raise TypeError("after_commit takes a plain function: for a coroutine, use the hook after_commit")
        if self._transaction is None or self._transaction.connection is None:
            _call(callback)
        else:
            self._transaction.callbacks.append(callback)


def connection_of(context: Context) -> asyncpg.Connection | None:
    """Return the connection of the transaction that `context` is in, or None."""
    transaction = context._transaction
    return None if transaction is None else transaction.connection


def derive(context: Context, query: Query) -> Context:
    """Return a context in the same transaction, without locks and conditions, for other items."""
    derived = Context(context.client, context.request_id, query, traceparent=context.traceparent)
    derived._transaction, derived._locks = context._transaction, False
    return derived


def begin(context: Context, connection: asyncpg.Connection) -> None:
    """Join the transaction that has begun on `connection`."""
    context._transaction = Transaction(connection)


def use_savepoints(context: Context) -> None:
    """Run each write to a table in a savepoint of the transaction, so that an action can catch its error."""
    if context._transaction is not None:
        context._transaction.savepoints = True


def has_savepoints(context: Context) -> bool:
    """Return whether each write to a table runs in a savepoint of the transaction."""
    return context._transaction is not None and context._transaction.savepoints


def end(context: Context, *, committed: bool) -> None:
    """Leave the transaction, and call the waiting callbacks if it was committed."""
    transaction, context._transaction = context._transaction, None
    if transaction is None:
        return
    # Derived contexts share it.
    transaction.connection = None
    for callback in transaction.callbacks if committed else ():
        _call(callback)


def _call(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        log.exception("a callback after a commit failed")
