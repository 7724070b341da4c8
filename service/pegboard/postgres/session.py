"""One connection to PostgreSQL: how it is opened and set up, what it has prepared, how it is made as good as new."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
from asyncpg.exceptions import InFailedSQLTransactionError, InterfaceError, InternalClientError
from asyncpg.prepared_stmt import PreparedStatement
from asyncpg.protocol.protocol import NO_TIMEOUT

from pegboard import rendering
from pegboard.postgres import hosts

Setup = Callable[[asyncpg.Connection], Awaitable[None]]
Run = Callable[[tuple[Any, ...], int], Awaitable[list[asyncpg.Record]]]

_STATEMENTS = 256

_LASTING = re.compile(r"\s*(BEGIN|START|SET|RESET|DISCARD|LISTEN|PREPARE|DEALLOCATE|DECLARE)\b", re.IGNORECASE)

_RESET = (
    "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; "
    "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DISCARD TEMP; DISCARD SEQUENCES"
)

# A peer that vanished without a word is noticed within half a minute, query or not.
_LIVENESS = (
    ("SOL_SOCKET", "SO_KEEPALIVE", 1),
    ("IPPROTO_TCP", "TCP_KEEPIDLE", 15),
    ("IPPROTO_TCP", "TCP_KEEPINTVL", 5),
    ("IPPROTO_TCP", "TCP_KEEPCNT", 3),
    ("IPPROTO_TCP", "TCP_USER_TIMEOUT", 30_000),
)


@dataclass(frozen=True, slots=True)
class Manner:
    """Say how connections are opened; `statement_timeout` and `idle_in_transaction_timeout` are seconds.

    Without `prepare`, a pooler in between may hand each transaction to another session of the server. So nothing is
    kept between two of them: every statement is in one, and each begins with its `local` settings.
    """

    dsn: str
    timeout: float = 5.0
    read_only: bool = False
    prepare: bool = True
    statement_timeout: float = 30.0
    idle_in_transaction_timeout: float = 60.0
    setup: Setup | None = None

    def settings(self) -> dict[str, str]:
        """Return the settings that every session starts with, and goes back to: through a pooler, those it follows."""
        settings = {"application_name": "pegboard", "TimeZone": "UTC", "DateStyle": "ISO"}
        if not self.prepare:
            return settings
        if self.read_only:
            settings["default_transaction_read_only"] = "on"
        return settings | self._limits()

    def local(self) -> str:
        """Return what sets the rest within a transaction; nothing where sessions have it."""
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
    """Be a connection that remembers what it has prepared, and whose COMMIT commits or raises."""

    __slots__ = ("statements",)

    def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:
        super().__init__(protocol, transport, *rest)
        self.statements: dict[str, Run] = {}
        _keep_alive(transport.get_extra_info("socket"))

    def get_reset_query(self) -> str:
        """Return what takes back whatever a session may have set."""
        return _RESET

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - asyncpg's
        """Execute `query`; raise where PostgreSQL makes a COMMIT into a ROLLBACK, of which it otherwise says nothing.

        It does so after an error inside the transaction, which somebody must have caught and passed over.
        """
        status = await super().execute(query, *args, timeout=timeout)
        if status == "ROLLBACK" and query.startswith("COMMIT"):
            raise InFailedSQLTransactionError("an error was ignored inside a transaction: nothing was committed")
        return status

    async def ready(self, sql: str, local: str) -> Run:
        """Return `sql` ready to run, and remember it; the statement remembered longest is forgotten.

        With `local` settings it is not prepared, and runs in a transaction that begins with them.
        """
        refuse_lasting(sql)
        run = _unprepared(self, sql, local) if local else _prepared(self, await self.prepare(sql))
        if len(self.statements) >= _STATEMENTS:
            del self.statements[next(iter(self.statements))]
        self.statements[sql] = run
        return run

    async def mend(self) -> None:
        """Make the session as good as new, whatever was cancelled, begun or set in it."""
        # Waits for the end of what was cancelled, and takes a cancellation that comes late; only then it is known
        # whether there is a transaction.
        await self.execute("SELECT 1")
        if self.is_in_transaction():
            await self.execute("ROLLBACK")
        await self.reset()

    def discard(self) -> None:
        """Close the session at once."""
        self.statements.clear()
        self.terminate()


def refuse_lasting(sql: str) -> None:
    """Raise `ValueError` for a statement that leaves its session other than it was."""
    if _LASTING.match(sql):
        raise ValueError("a statement that changes its session requires transaction() or connection()")


def found_closed(error: BaseException) -> bool:
    """Tell whether `error` says that the connection was closed before anything was sent."""
    if isinstance(error, InterfaceError):
        return "connection is closed" in str(error)
    # asyncpg has read the server's farewell, but not yet the end of the stream.
    return isinstance(error, InternalClientError) and str(error).startswith("cannot switch to state")


async def connect(manner: Manner) -> Session:
    """Open a session; raise what keeps it from opening, `TimeoutError` included."""
    async with asyncio.timeout(manner.timeout):
        session: Session = await hosts.connect(
            manner.dsn,
            manner.timeout,
            connection_class=Session,
            statement_cache_size=100 if manner.prepare else 0,
            server_settings=manner.settings(),
        )
        try:
            for name in ("json", "jsonb"):
                await session.set_type_codec(name, schema="pg_catalog", encoder=_to_json, decoder=orjson.loads)
            if manner.setup is not None:
                await manner.setup(session)
        except BaseException:
            session.discard()
            raise
    return session


def _prepared(session: Session, statement: PreparedStatement) -> Run:
    # The layers between `PreparedStatement.fetch` and this call cost a sixth of a query's CPU time.
    bind_execute = session._protocol.bind_execute  # type: ignore[attr-defined]  # Not in the stubs.
    state = statement._state  # type: ignore[attr-defined]  # Not in the stubs.

    # asyncpg closes a statement when the last that refers to it is gone, hence `_kept`.
    def run(args: tuple[Any, ...], limit: int, _kept: PreparedStatement = statement) -> Awaitable[list[asyncpg.Record]]:
        rows: Awaitable[list[asyncpg.Record]] = bind_execute(state, args, "", limit, False, NO_TIMEOUT)
        return rows

    return run


def _unprepared(session: Session, sql: str, local: str) -> Run:
    # asyncpg sends a statement and its arguments apart; outside a transaction, a pooler may part them.
    begin = f"BEGIN; {local}"

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


def _to_json(value: Any) -> str:
    return rendering.dumps(value).decode()


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def _keep_alive(connected: Any) -> None:
    if connected is None or connected.family == socket.AF_UNIX:
        return
    for level, name, value in _LIVENESS:
        if hasattr(socket, name):
            connected.setsockopt(getattr(socket, level), getattr(socket, name), value)
