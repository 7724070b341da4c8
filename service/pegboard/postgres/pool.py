"""A connection pool for one PostgreSQL server."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import asyncpg
from asyncpg.exceptions import (
    InterfaceError,
    InternalClientError,
    OutdatedSchemaCacheError,
    ReadOnlySQLTransactionError,
)
from asyncpg.transaction import Transaction

from pegboard import errors
from pegboard.errors import ApiError
from pegboard.postgres import conflicts
from pegboard.postgres.conflicts import CONFLICTS, STALE_STATEMENT_ERRORS, Retries
from pegboard.postgres.connections import Connections
from pegboard.postgres.session import ConnectionOptions, Session, connect, refuse_session_change
from pegboard.postgres.waiting import Snapshots, Waiters
from pegboard.rendering import short

T = TypeVar("T")

log = logging.getLogger("pegboard")

# Sorting a large table takes long, and a client may be slow to read the response, but there must be a limit.
_SNAPSHOT_TIMEOUTS = "SET LOCAL statement_timeout = '5min'; SET LOCAL idle_in_transaction_session_timeout = '5min'"

_RESTORE_TIMEOUT = 5.0
_CLOSE_TIMEOUT = 5.0

# What a broken connection may raise.
_CONNECTION_ERRORS = (InterfaceError, InternalClientError, asyncpg.PostgresError, OSError)
# What these run may commit a part of its work.
_COMMITS = re.compile(r"\s*(CALL|DO)\b", re.IGNORECASE)


class Pool(Connections):
    """Provide connections, the most recently used first; released ones go directly to the longest waiter.

    `timeout` limits both the wait for a connection and its opening, in seconds; then `errors.DatabaseUnavailable` is
    raised. `size`, `max_size`, `idle` and `waiting` describe the current state, `waits` counts the calls that had to
    wait, and `timeouts` those that timed out. A single statement that a conflict or a lost connection has ended runs
    again if it cannot take effect twice; after a deadlock or a serialization failure only if `retries_contention`.
    `retries` counts these retries.
    """

    def __init__(
        self,
        dsn: str,
        *,
        size: int = 10,
        timeout: float = 5.0,
        read_only: bool = False,
        prepare: bool = True,
        statement_timeout: float = 30.0,
        idle_in_transaction_timeout: float = 60.0,
        retries_contention: bool = True,
    ) -> None:
        self.size = 0
        self._options = ConnectionOptions(
            dsn, timeout, read_only, prepare, statement_timeout, idle_in_transaction_timeout
        )
        self.max_size = size
        self.timeout = timeout
        self._read_only = read_only
        self._local_settings = self._options.local_settings()
        self._idle: list[Session] = []
        self._waiters: Waiters[Session] = Waiters(timeout, _unavailable)
        self._sessions: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._snapshots = Snapshots(size)
        self._retries = Retries()
        self._retries_contention = retries_contention
        self._closing = False
        self._unreachable = False

    @property
    def idle(self) -> int:
        """Return the number of idle connections."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Return the number of calls waiting for a connection."""
        return len(self._waiters)

    @property
    def waits(self) -> int:
        """Return the number of calls that had to wait."""
        return self._waiters.waits

    @property
    def timeouts(self) -> int:
        """Return the number of waits that timed out."""
        return self._waiters.timeouts

    @property
    def retries(self) -> int:
        """Return the number of retries of statements."""
        return self._retries.count

    async def open(self) -> None:
        """Open the first connection, unless there is one; raises the errors of the attempt."""
        if self._sessions:
            return
        session = await connect(self._options)
        self.size += 1
        self._sessions.add(session)
        self._release(session)

    async def close(self) -> None:
        """Close all connections; those in use are closed when released, or after five seconds."""
        self._closing = True
        self._waiters.fail(_unavailable)
        end = asyncio.get_running_loop().time() + _CLOSE_TIMEOUT
        while self.size and asyncio.get_running_loop().time() < end:
            while self._idle:
                session = self._idle.pop()
                try:
                    await session.close(timeout=1)
                except Exception:
                    session.terminate()
                self._drop(session)
            if self.size:
                await asyncio.sleep(0.005)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for session in list(self._sessions):
            self._drop(session)

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Run one statement and return its rows."""
        idle = self._idle
        session = idle.pop() if idle else await self._acquire()
        try:
            run = session.statements.get(sql) or await session.runner(sql, self._local_settings)
            rows = await run(args, 0)
        except BaseException as error:
            return await self._retry(session, error, sql, args, 0)
        if self._waiters:
            self._hand_over(session)
        else:
            idle.append(session)
        return rows

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """Run one statement and return its first row, or None."""
        idle = self._idle
        session = idle.pop() if idle else await self._acquire()
        try:
            run = session.statements.get(sql) or await session.runner(sql, self._local_settings)
            rows = await run(args, 1)
        except BaseException as error:
            rows = await self._retry(session, error, sql, args, 1)
        else:
            if self._waiters:
                self._hand_over(session)
            else:
                idle.append(session)
        return rows[0] if rows else None

    async def execute(self, sql: str, *args: Any) -> str:
        """Run one statement, or several without `args`, and return the status of the last, such as `UPDATE 3`."""
        refuse_session_change(sql)
        try:
            return await self._execute(sql, args)
        except CONFLICTS as error:
            # Of several statements, some may commit.
            if _COMMITS.match(sql) or not (args or ";" not in sql.rstrip().rstrip(";")):
                raise conflicts.final(error) from error
            return await self._run_again(error, sql, lambda: self._execute(sql, args))

    async def _execute(self, sql: str, args: tuple[Any, ...]) -> str:
        if self._local_settings:
            async with self.transaction() as connection:
                return await connection.execute(sql, *args)
        session = await self._acquire()
        try:
            status = await session.execute(sql, *args)
        except BaseException as error:
            self._check_in(session, error)
            raise
        self._check_in(session)
        return status

    def transaction(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Provide a connection inside a transaction: committed at the end, rolled back by an exception."""
        return self._transaction({})

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[asyncpg.Connection]:
        """Provide a connection inside a read-only transaction that sees one snapshot of the database.

        As snapshots may take long, they may use at most half of the connections: raises `ApiError` 503 for further
        ones.
        """
        with self._snapshots.one_more():
            async with self._transaction({"isolation": "repeatable_read", "readonly": True}) as connection:
                await connection.execute(_SNAPSHOT_TIMEOUTS)
                yield connection

    @asynccontextmanager
    async def _transaction(self, options: Mapping[str, Any]) -> AsyncIterator[asyncpg.Connection]:
        session, transaction = await self._begin(options)
        try:
            try:
                yield session
            except BaseException as error:
                if not session.is_closed():
                    # If this fails, the session is closed or restored, which rolls back, too.
                    with suppress(*_CONNECTION_ERRORS):
                        await transaction.__aexit__(type(error), error, None)
                if conflicts.is_lost(error, closed=session.is_closed()):
                    raise conflicts.lost(error) from error
                raise
            await transaction.__aexit__(None, None, None)
        except BaseException as error:
            self._check_in(session, error)
            raise
        self._check_in(session)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Provide a connection for any use; its session is reset afterwards."""
        session = await self._acquire()
        try:
            yield session
        except BaseException as error:
            self._refuse_writing(error)
            raise
        finally:
            self._restore_later(session)

    async def _begin(self, options: Mapping[str, Any]) -> tuple[Session, Transaction]:
        may_retry = True
        while True:
            session = await self._acquire()
            # Entered by hand, because BEGIN may be tried twice.
            transaction = session.transaction(**options)
            try:
                await transaction.__aenter__()
                if self._local_settings:
                    await session.execute(self._local_settings)
            except BaseException as error:
                lost = session.is_closed() and isinstance(error, Exception)
                self._check_in(session, error)
                if not lost:
                    raise
                if not may_retry:
                    raise conflicts.lost(error) from error
                may_retry = False
            else:
                return session, transaction

    async def _retry(
        self, session: Session, error: BaseException, sql: str, args: tuple[Any, ...], limit: int
    ) -> list[asyncpg.Record]:
        """Run a statement again if it cannot take effect twice; otherwise raise its error."""
        failure = self._failure(session, error, sql)
        self._check_in(session, error)
        if not isinstance(failure, CONFLICTS):
            raise failure
        return await self._run_again(failure, sql, lambda: self._fetch_again(sql, args, limit))

    async def _run_again(self, error: Exception, sql: str, attempt: Callable[[], Awaitable[T]]) -> T:
        return await self._retries.run(f"the statement {short(sql)}", error, attempt, conflicts.always)

    async def _fetch_again(self, sql: str, args: tuple[Any, ...], limit: int) -> list[asyncpg.Record]:
        session = await self._acquire()
        try:
            # Prepared again, because the statements cached by this session may be outdated, too.
            run = await session.runner(sql, self._local_settings)
            rows = await run(args, limit)
        except BaseException as error:
            failure = self._failure(session, error, sql)
            self._check_in(session, error)
            raise failure from failure.__cause__
        self._release(session)
        return rows

    def _failure(self, session: Session, error: BaseException, sql: str) -> BaseException:
        """Return the error of a statement: one of `CONFLICTS` only if the statement may run again."""
        if isinstance(error, CONFLICTS):
            return error if self._is_retryable(error, sql) else conflicts.final(error)
        if not session.is_closed() or not isinstance(error, _CONNECTION_ERRORS):
            return error
        # Not sent completely, or lost while the statement was being prepared.
        unsent = isinstance(error.__cause__, BrokenPipeError) or sql not in session.statements
        if self._read_only or conflicts.was_closed_before_sending(error) or unsent:
            return conflicts.lost(error)
        return error

    def _is_retryable(self, error: Exception, sql: str) -> bool:
        if isinstance(error, STALE_STATEMENT_ERRORS):
            return True
        if isinstance(error, OutdatedSchemaCacheError):
            return self._read_only
        return self._retries_contention and not _COMMITS.match(sql)

    def _check_in(self, session: Session, error: BaseException | None = None) -> None:
        """Release a session after use: return it to the pool, restore it or drop it, depending on `error`."""
        if session.is_closed() or (isinstance(error, ReadOnlySQLTransactionError) and not self._read_only):
            # The server has stopped or become a standby, which the idle sessions have not noticed yet.
            for stale in (session, *self._idle):
                self._drop(stale)
            self._idle.clear()
        elif session.is_in_transaction() or not isinstance(error, Exception | None):
            self._restore_later(session)
        else:
            if isinstance(error, (*STALE_STATEMENT_ERRORS, OutdatedSchemaCacheError)):
                # Those of other sessions would fail, too, each once more.
                for other in self._sessions:
                    other.forget_statements()
            self._release(session)
        self._refuse_writing(error)

    def _refuse_writing(self, error: BaseException | None) -> None:
        if self._read_only and isinstance(error, ReadOnlySQLTransactionError):
            raise RuntimeError("a statement that writes was run on a read-only connection") from error

    async def _acquire(self) -> Session:
        """Return a session that is not known to be closed; wait for one if none is idle."""
        while self._idle:
            session = self._idle.pop()
            if not session.is_closed():
                return session
            self._drop(session)
        if self._closing:
            raise _unavailable()
        self._grow()
        return await self._waiters.wait(self._release)

    def _hand_over(self, session: Session) -> None:
        if not self._waiters.hand_over(session):
            self._idle.append(session)

    def _release(self, session: Session) -> None:
        if session.is_closed():
            self._drop(session)
        else:
            self._hand_over(session)

    def _drop(self, session: Session) -> None:
        if session not in self._sessions:
            return  # Closed with the pool while it was in use.
        self._sessions.remove(session)
        session.discard()
        self.size -= 1
        if self._waiters:
            self._grow()

    def _grow(self) -> None:
        """Open another connection in the background, unless the pool has its maximum size."""
        if self.size < self.max_size and not self._closing:
            self.size += 1
            self._spawn(self._open_another())

    async def _open_another(self) -> None:
        try:
            session = await connect(self._options)
        except BaseException as error:
            self.size -= 1
            if self.size == 0:
                if not self._unreachable:
                    log.warning("no connection to the database: %s: %s", type(error).__name__, error)
                self._unreachable = True
                # No connection is in use that could be released, so waiting is pointless.
                self._waiters.fail(partial(_unavailable, error))
            if not isinstance(error, Exception):
                raise
        else:
            self._unreachable = False
            self._sessions.add(session)
            self._release(session)

    def _restore_later(self, session: Session) -> None:
        """Restore a session in the background and release it; until then, it counts as in use."""
        if session.is_closed():
            self._drop(session)
        else:
            self._spawn(self._restore(session))

    async def _restore(self, session: Session) -> None:
        try:
            async with asyncio.timeout(_RESTORE_TIMEOUT):
                await session.restore()
        except BaseException as error:
            session.terminate()
            if not isinstance(error, Exception):
                raise
        finally:
            self._release(session)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _unavailable(cause: BaseException | None = None) -> ApiError:
    error = errors.DatabaseUnavailable(headers={"Retry-After": "1"})
    error.__cause__ = cause
    return error
