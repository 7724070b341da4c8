"""How connections to one PostgreSQL are opened, lent out, mended and closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
from asyncpg.exceptions import (
    InterfaceError,
    InternalClientError,
    InvalidCachedStatementError,
    InvalidSQLStatementNameError,
    OutdatedSchemaCacheError,
    ReadOnlySQLTransactionError,
)
from asyncpg.transaction import Transaction

from pegboard import errors
from pegboard.errors import ApiError
from pegboard.postgres.connections import Connections
from pegboard.postgres.session import Manner, Session, Setup, connect, found_closed, refuse_lasting
from pegboard.postgres.waiting import Waiters

log = logging.getLogger("pegboard")

# To sort all of a large table takes its time, and a client may be slow to take a part of it; but none has it for ever.
_UNHURRIED = "SET LOCAL statement_timeout = '5min'; SET LOCAL idle_in_transaction_session_timeout = '5min'"

_MENDING = 5.0
_CLOSING = 5.0

# What a connection that breaks may raise.
_LOST = (InterfaceError, InternalClientError, asyncpg.PostgresError, OSError)
# Errors that PostgreSQL finds before a prepared statement has done anything.
_OUTDATED = (InvalidCachedStatementError, InvalidSQLStatementNameError)


class Pool(Connections):
    """Lend connections: the one used last first, and straight to whoever waits longest.

    `timeout` bounds both the wait for a connection and its opening, in seconds; then a request ends with
    DATABASE_UNAVAILABLE. `size`, `most`, `idle` and `waiting` say how things stand, `waits` how often anybody had to
    wait and `timeouts` how often in vain.
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
        setup: Setup | None = None,
    ) -> None:
        self.size = 0
        self._manner = Manner(dsn, timeout, read_only, prepare, statement_timeout, idle_in_transaction_timeout, setup)
        self.most = size
        self.timeout = timeout
        self._read_only = read_only
        self._local = self._manner.local()
        self._idle: list[Session] = []
        self._waiters: Waiters[Session] = Waiters(timeout, _unavailable)
        self._sessions: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._snapshots = 0
        self._closing = False
        self._away = False

    @property
    def idle(self) -> int:
        """Return how many connections nobody uses."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Return how many wait for a connection."""
        return len(self._waiters)

    @property
    def waits(self) -> int:
        """Return how often anybody had to wait."""
        return self._waiters.waits

    @property
    def timeouts(self) -> int:
        """Return how often anybody waited in vain."""
        return self._waiters.timeouts

    async def open(self) -> None:
        """Open the first connection, unless there is one; raise what keeps it from opening."""
        if self._sessions:
            return
        session = await connect(self._manner)
        self.size += 1
        self._sessions.add(session)
        self._give(session)

    async def close(self) -> None:
        """Close all connections, those that are lent as they come back or after five seconds."""
        self._closing = True
        self._waiters.fail(_unavailable)
        end = asyncio.get_running_loop().time() + _CLOSING
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
        session = idle.pop() if idle else await self._take()
        try:
            run = session.statements.get(sql) or await session.ready(sql, self._local)
            rows = await run(args, 0)
        except BaseException as error:
            return await self._again(session, error, sql, args, 0)
        if self._waiters:
            self._hand_over(session)
        else:
            idle.append(session)
        return rows

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """Run one statement and return its first row, or None."""
        idle = self._idle
        session = idle.pop() if idle else await self._take()
        try:
            run = session.statements.get(sql) or await session.ready(sql, self._local)
            rows = await run(args, 1)
        except BaseException as error:
            rows = await self._again(session, error, sql, args, 1)
        else:
            if self._waiters:
                self._hand_over(session)
            else:
                idle.append(session)
        return rows[0] if rows else None

    async def execute(self, sql: str, *args: Any) -> str:
        """Run one statement, or without `args` several, and return the status of the last, such as `UPDATE 3`."""
        refuse_lasting(sql)
        if self._local:
            async with self.transaction() as connection:
                return await connection.execute(sql, *args)
        session = await self._take()
        try:
            status = await session.execute(sql, *args)
        except BaseException as error:
            self._settle(session, error)
            raise
        self._settle(session)
        return status

    def transaction(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Lend a connection inside a transaction: committed at the end, rolled back by an exception."""
        return self._transaction({})

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection inside a transaction that only reads, and sees everything as it was when it began.

        As it may be lent for long, no more than half of the connections are: raises `ApiError` 503 for one beyond.
        """
        if self._snapshots >= max(1, self.most // 2):
            raise errors.Busy(headers={"Retry-After": "5"})
        self._snapshots += 1
        try:
            async with self._transaction({"isolation": "repeatable_read", "readonly": True}) as connection:
                await connection.execute(_UNHURRIED)
                yield connection
        finally:
            self._snapshots -= 1

    @asynccontextmanager
    async def _transaction(self, manner: Mapping[str, Any]) -> AsyncIterator[asyncpg.Connection]:
        session, begun = await self._begin(manner)
        try:
            try:
                yield session
            except BaseException as error:
                if not session.is_closed():
                    await begun.__aexit__(type(error), error, None)
                raise
            await begun.__aexit__(None, None, None)
        except BaseException as error:
            self._settle(session, error)
            raise
        self._settle(session)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection for anything; what was set in its session is taken back afterwards."""
        session = await self._take()
        try:
            yield session
        except BaseException as error:
            self._refuse_writing(error)
            raise
        finally:
            self._mend_later(session)

    async def _begin(self, manner: Mapping[str, Any]) -> tuple[Session, Transaction]:
        again = True
        while True:
            session = await self._take()
            # Entered by hand, because BEGIN may be tried twice.
            begun = session.transaction(**manner)
            try:
                await begun.__aenter__()
                if self._local:
                    await session.execute(self._local)
            except BaseException as error:
                lost = session.is_closed() and isinstance(error, Exception)
                self._settle(session, error)
                if not (again and lost):
                    raise
                again = False
            else:
                return session, begun

    async def _again(
        self, session: Session, error: BaseException, sql: str, args: tuple[Any, ...], limit: int
    ) -> list[asyncpg.Record]:
        """Run a statement once more where it cannot happen twice; else raise `error`."""
        harmless = self._is_harmless(session, error, sql)
        self._settle(session, error)
        if not harmless:
            raise error
        session = await self._take()
        try:
            # Made anew: what this session remembers may be outdated just as well.
            run = await session.ready(sql, self._local)
            rows = await run(args, limit)
        except BaseException as second:
            self._settle(session, second)
            raise
        self._give(session)
        return rows

    def _is_harmless(self, session: Session, error: BaseException, sql: str) -> bool:
        """Tell whether a statement that failed with `error` may run again."""
        if isinstance(error, _OUTDATED):
            return True
        if not session.is_closed():
            return self._read_only and isinstance(error, OutdatedSchemaCacheError)
        if not isinstance(error, _LOST):
            return False
        if self._read_only or found_closed(error):
            return True
        # Not sent to its end; or lost while the statement was being prepared.
        return isinstance(error.__cause__, BrokenPipeError) or sql not in session.statements

    def _settle(self, session: Session, error: BaseException | None = None) -> None:
        """Take back a session that was lent, in the way that `error` asks for."""
        if session.is_closed() or (isinstance(error, ReadOnlySQLTransactionError) and not self._read_only):
            # The server went away, or has become a standby. What is idle had its last word from it before that.
            for stale in (session, *self._idle):
                self._drop(stale)
            self._idle.clear()
        elif session.is_in_transaction() or not isinstance(error, Exception | None):
            self._mend_later(session)
        else:
            if isinstance(error, (*_OUTDATED, OutdatedSchemaCacheError)):
                session.statements.clear()
            self._give(session)
        self._refuse_writing(error)

    def _refuse_writing(self, error: BaseException | None) -> None:
        if self._read_only and isinstance(error, ReadOnlySQLTransactionError):
            raise RuntimeError("a statement that writes was run on a read-only connection") from error

    async def _take(self) -> Session:
        """Return a connection that is not known to be closed; wait for one where there is none."""
        while self._idle:
            session = self._idle.pop()
            if not session.is_closed():
                return session
            self._drop(session)
        if self._closing:
            raise _unavailable()
        self._grow()
        return await self._waiters.wait(self._give)

    def _hand_over(self, session: Session) -> None:
        if not self._waiters.hand(session):
            self._idle.append(session)

    def _give(self, session: Session) -> None:
        if session.is_closed():
            self._drop(session)
        else:
            self._hand_over(session)

    def _drop(self, session: Session) -> None:
        if session not in self._sessions:
            return  # Closed with the pool while it was lent.
        self._sessions.remove(session)
        session.discard()
        self.size -= 1
        if self._waiters:
            self._grow()

    def _grow(self) -> None:
        """Open another connection beside what is running, unless there are enough."""
        if self.size < self.most and not self._closing:
            self.size += 1
            self._spawn(self._open_another())

    async def _open_another(self) -> None:
        try:
            session = await connect(self._manner)
        except BaseException as error:
            self.size -= 1
            if self.size == 0:
                if not self._away:
                    log.warning("no connection to the database: %s: %s", type(error).__name__, error)
                self._away = True
                # None is lent that could come back: nobody need wait any longer.
                self._waiters.fail(partial(_unavailable, error))
            if not isinstance(error, Exception):
                raise
        else:
            self._away = False
            self._sessions.add(session)
            self._give(session)

    def _mend_later(self, session: Session) -> None:
        """Make a session as good as new, beside what is running, and give it back; its place stays taken meanwhile."""
        if session.is_closed():
            self._drop(session)
        else:
            self._spawn(self._mend(session))

    async def _mend(self, session: Session) -> None:
        try:
            async with asyncio.timeout(_MENDING):
                await session.mend()
        except BaseException as error:
            session.terminate()
            if not isinstance(error, Exception):
                raise
        finally:
            self._give(session)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _unavailable(cause: BaseException | None = None) -> ApiError:
    error = errors.DatabaseUnavailable(headers={"Retry-After": "1"})
    error.__cause__ = cause
    return error
