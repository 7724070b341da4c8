"""One connection to PostgreSQL: its setup, its prepared statements, and the reset after use."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
from asyncpg.exceptions import InFailedSQLTransactionError
from asyncpg.prepared_stmt import PreparedStatement
from asyncpg.protocol.protocol import NO_TIMEOUT

from pegboard import rendering
from pegboard.postgres import codecs, hosts

log = logging.getLogger("pegboard")

Run = Callable[[tuple[Any, ...], int], Awaitable[list[asyncpg.Record]]]

_STATEMENTS = 256

_CHANGES_SESSION = re.compile(r"\s*(BEGIN|START|SET|RESET|DISCARD|LISTEN|PREPARE|DEALLOCATE|DECLARE)\b", re.IGNORECASE)

_RESET = (
    "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; "
    "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DISCARD TEMP; DISCARD SEQUENCES"
)

# Detect a vanished peer within half a minute, even without a query.
_KEEPALIVE_OPTIONS = (
    ("SOL_SOCKET", "SO_KEEPALIVE", 1),
    ("IPPROTO_TCP", "TCP_KEEPIDLE", 15),
    ("IPPROTO_TCP", "TCP_KEEPINTVL", 5),
    ("IPPROTO_TCP", "TCP_KEEPCNT", 3),
    ("IPPROTO_TCP", "TCP_USER_TIMEOUT", 30_000),
)


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Hold the options of connections; `statement_timeout` and `idle_in_transaction_timeout` are in seconds.

    Without `prepare`, a pooler may run each transaction in a different session of the server. Therefore no state is
    kept between transactions: every statement is in one, and each begins with the `local_settings`.
    """

    dsn: str
    timeout: float
    read_only: bool
    prepare: bool
    statement_timeout: float
    idle_in_transaction_timeout: float

    def settings(self) -> dict[str, str]:
        """Return the settings that every session starts with and is reset to; behind a pooler, those it supports."""
        settings = {"application_name": "pegboard", "TimeZone": "UTC", "DateStyle": "ISO"}
        if not self.prepare:
            return settings
        if self.read_only:
            settings["default_transaction_read_only"] = "on"
        return settings | self._limits()

    def local_settings(self) -> str:
        """Return the SQL that sets the other settings in a transaction; empty if they apply to sessions."""
        if self.prepare:
            return ""
        limits = [f"SET LOCAL {name} = {value}" for name, value in self._limits().items()]
        return "; ".join(["SET LOCAL transaction_read_only = on", *limits] if self.read_only else limits)

    def _limits(self) -> dict[str, str]:
        return {
            "jit": "off",
            "statement_timeout": _milliseconds(self.statement_timeout),
            "idle_in_transaction_session_timeout": _milliseconds(self.idle_in_transaction_timeout),
        }


class Session(asyncpg.Connection):
    """Extend an asyncpg connection: cache prepared statements, and raise if a COMMIT does not commit."""

    __slots__ = ("statements",)

    def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:
        super().__init__(protocol, transport, *rest)
        self.statements: dict[str, Run] = {}
        _keep_alive(transport.get_extra_info("socket"))

    def get_reset_query(self) -> str:
        """Return the SQL that resets everything a session may have set."""
        return _RESET

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - asyncpg's
        """Execute `query`; raise if PostgreSQL turns a COMMIT into a ROLLBACK, which it does without an error.

        It does so after an error inside the transaction, which some code must have caught and ignored.
        """
        status = await super().execute(query, *args, timeout=timeout)
        if status == "ROLLBACK" and query.startswith("COMMIT"):
            raise InFailedSQLTransactionError("an error was ignored inside a transaction: nothing was committed")
        return status

    async def runner(self, sql: str, local_settings: str) -> Run:
        """Return a function that runs `sql`, and cache it; if the cache is full, the oldest function is dropped.

        With `local_settings`, the statement is not prepared, and runs in a transaction that begins with them.
        """
        refuse_session_change(sql)
        run = _unprepared(self, sql, local_settings) if local_settings else _prepared(self, await self.prepare(sql))
        if len(self.statements) >= _STATEMENTS:
            del self.statements[next(iter(self.statements))]
        self.statements[sql] = run
        return run

    def forget_statements(self) -> None:
        """Prepare all statements again, as a migration may have made them stale."""
        self.statements.clear()
        self._drop_local_statement_cache()  # type: ignore[attr-defined]  # Not in the stubs.

    async def restore(self) -> None:
        """Reset the session to its initial state: end a cancelled query and an open transaction, and reset settings."""
        # Waits for the end of a cancelled query, and absorbs a late cancellation; only then is it known whether there
        # is a transaction.
        await self.execute("SELECT 1")
        if self.is_in_transaction():
            await self.execute("ROLLBACK")
        await self.reset()

    def discard(self) -> None:
        """Close the session at once."""
        self.statements.clear()
        self.terminate()


def refuse_session_change(sql: str) -> None:
    """Raise `ValueError` for a statement that changes the state of its session."""
    if _CHANGES_SESSION.match(sql):
        raise ValueError("a statement that changes its session requires transaction() or connection()")


async def connect(options: ConnectionOptions) -> Session:
    """Open a session; raises the errors of the attempt, including `TimeoutError`."""
    async with asyncio.timeout(options.timeout):
        session: Session = await hosts.connect(
            options.dsn,
            options.timeout,
            connection_class=Session,
            statement_cache_size=100 if options.prepare else 0,
            server_settings=options.settings(),
        )
        try:
            for name in ("json", "jsonb"):
                await session.set_type_codec(name, schema="pg_catalog", encoder=_to_json, decoder=_from_json)
            await codecs.install(session)
        except BaseException:
            session.discard()
            raise
    return session


def _prepared(session: Session, statement: PreparedStatement) -> Run:
    # The layers between `PreparedStatement.fetch` and this call cost a sixth of a query's CPU time.
    bind_execute = session._protocol.bind_execute  # type: ignore[attr-defined]  # Not in the stubs.
    state = statement._state  # type: ignore[attr-defined]  # Not in the stubs.

    # asyncpg closes a statement with the last reference to it, hence `_keep`.
    def run(args: tuple[Any, ...], limit: int, _keep: PreparedStatement = statement) -> Awaitable[list[asyncpg.Record]]:
        rows: Awaitable[list[asyncpg.Record]] = bind_execute(state, args, "", limit, False, NO_TIMEOUT)
        return rows

    return run


def _unprepared(session: Session, sql: str, local_settings: str) -> Run:
    # asyncpg sends a statement and its arguments separately; outside a transaction, a pooler may send them to different
    # sessions.
    begin = f"BEGIN; {local_settings}"

    async def run(args: tuple[Any, ...], _limit: int) -> list[asyncpg.Record]:
        await session.execute(begin)
        try:
            rows = await session.fetch(sql, *args)
        except Exception:
            if session.is_in_transaction():
                await session.execute("ROLLBACK")
            raise
        await session.execute("COMMIT")
        return rows

    return run


def _from_json(text: str) -> Any:
    """Return a JSON value; what orjson refuses, such as 1e999 or a lone surrogate, only SQL can have stored.

    A value that is nested too deeply is None, as an error here would take all rows of the statement with it.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(text)
    except RecursionError:
        log.warning("a stored JSON value is nested too deeply to be read: it is shown as null")
        return None


def _to_json(value: Any) -> str:
    return rendering.dumps(value).decode()


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def _keep_alive(connected_socket: Any) -> None:
    if connected_socket is None or connected_socket.family == socket.AF_UNIX:
        return
    for level, name, value in _KEEPALIVE_OPTIONS:
        if hasattr(socket, name):
            connected_socket.setsockopt(getattr(socket, level), getattr(socket, name), value)
