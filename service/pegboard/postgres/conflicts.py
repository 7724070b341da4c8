"""Conflicts with other transactions and lost connections: which errors they are, and the retries after them."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from asyncpg.exceptions import (
    AdminShutdownError,
    CrashShutdownError,
    DeadlockDetectedError,
    IdleSessionTimeoutError,
    InterfaceError,
    InternalClientError,
    InvalidCachedStatementError,
    InvalidSQLStatementNameError,
    OutdatedSchemaCacheError,
    PostgresConnectionError,
    SerializationError,
)

from pegboard import errors
from pegboard.errors import ApiError

T = TypeVar("T")

log = logging.getLogger("pegboard")

_BUSY = "The database is busy with conflicting requests; try again later."
_RETRY_AFTER = {"Retry-After": "1"}

_LONGEST_PAUSES = (0.02, 0.1, 0.3)
"""The longest pause before each retry, in seconds; each is random, so that those who conflicted do not meet again."""
_LONGEST_TURN = 1.0


class ConnectionLost(InterfaceError):
    """Signal that a connection was lost before anything that it was used for could be stored."""


_CONTENTION = (DeadlockDetectedError, SerializationError)
# PostgreSQL or asyncpg raises these for a statement prepared before a migration, or by another session of a pooler.
STALE_STATEMENT_ERRORS = (InvalidCachedStatementError, InvalidSQLStatementNameError)
CONFLICTS = (*_CONTENTION, *STALE_STATEMENT_ERRORS, OutdatedSchemaCacheError, ConnectionLost)
"""The errors after which a transaction has been rolled back, and may succeed if it runs again."""

_SHUTDOWNS = (AdminShutdownError, CrashShutdownError, IdleSessionTimeoutError)


def was_closed_before_sending(error: BaseException) -> bool:
    """Return whether `error` means that the connection was closed before anything was sent."""
    if isinstance(error, InterfaceError):
        return "connection is closed" in str(error)
    # asyncpg has read the server's last message, but not yet the end of the stream.
    return isinstance(error, InternalClientError) and str(error).startswith("cannot switch to state")


def is_lost(error: BaseException, *, closed: bool) -> bool:
    """Return whether `error` means that a connection was lost; `closed` is whether it is known to be closed."""
    if isinstance(error, _SHUTDOWNS) or was_closed_before_sending(error):
        return True
    return closed and isinstance(error, PostgresConnectionError | ConnectionError)


def lost(error: BaseException) -> ConnectionLost:
    """Return the error for a connection that was lost by `error` before anything was stored."""
    lost_error = ConnectionLost("the connection was lost, and its transaction rolled back")
    lost_error.__cause__ = error
    return lost_error


def final(error: BaseException) -> ApiError:
    """Return the error for the client for one of `CONFLICTS` that is not retried, or not again."""
    message = None if isinstance(error, ConnectionLost) else _BUSY
    final_error = errors.DatabaseUnavailable(message, headers=_RETRY_AFTER)
    final_error.__cause__ = error
    return final_error


class Retries:
    """Run again what one of `CONFLICTS` has ended: at most three times, each after a short random pause.

    One retry runs at a time, so that they do not conflict with each other; a slow one delays the others by at most a
    second. `count` is the number of retries.
    """

    def __init__(self) -> None:
        self.count = 0
        self._stopped = False
        self._turns = asyncio.Lock()

    def stop(self) -> None:
        """Do not retry any more."""
        self._stopped = True

    async def run(
        self, what: str, error: Exception, attempt: Callable[[], Awaitable[T]], is_wanted: Callable[[], bool]
    ) -> T:
        """Return the result of `attempt`, called after `error`; the log describes it by `what`.

        Raises what `attempt` raises, but `ApiError` 503 if it is still one of `CONFLICTS` at the end, or if the result
        is not wanted any more.
        """
        for number, longest in enumerate(_LONGEST_PAUSES, 1):
            if number > 1 or isinstance(error, _CONTENTION):
                await asyncio.sleep(random.uniform(0, longest))
            if self._stopped or not is_wanted():
                break
            self.count += 1
            log.info("%s retried after %s (%d of %d)", what, type(error).__name__, number, len(_LONGEST_PAUSES))
            try:
                async with self._turn():
                    return await attempt()
            except CONFLICTS as again:
                error = again
        raise final(error)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        is_own = False
        with suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_TURN):
                is_own = await self._turns.acquire()
        try:
            yield
        finally:
            if is_own:
                self._turns.release()


def always() -> bool:
    """Return that a result is wanted in any case."""
    return True
