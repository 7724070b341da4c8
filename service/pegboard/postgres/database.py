"""The two pools, for reads and for writes: how they are reached, and what their errors mean to a client."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import asyncpg
from asyncpg.exceptions import (
    ClientConfigurationError,
    InterfaceError,
    InvalidCachedStatementError,
    OutdatedSchemaCacheError,
)

from pegboard import errors
from pegboard.errors import ApiError
from pegboard.postgres.pool import Pool
from pegboard.postgres.replica import Replica
from pegboard.postgres.session import found_closed

log = logging.getLogger("pegboard")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_SIGN_OF_LIFE = 2.0

_BY_STATE: Mapping[str, type[ApiError]] = {
    "22001": errors.TooLong,  # string data right truncation
    "22003": errors.OutOfRange,  # numeric value out of range
    "22008": errors.OutOfRange,  # datetime field overflow
    "22015": errors.OutOfRange,  # interval field overflow
    "22021": errors.InvalidCharacters,  # character not in repertoire
    "22P05": errors.InvalidCharacters,  # untranslatable character
    "23001": errors.StillReferenced,  # restrict violation
    "23502": errors.NullNotAllowed,  # not null violation
    "23505": errors.Conflict,  # unique violation
    "23514": errors.InvalidValue,  # check violation
    "23P01": errors.Conflict,  # exclusion violation
    "25006": errors.DatabaseUnavailable,  # read only transaction: another server has taken over
    "25P03": errors.TimedOut,  # idle in transaction session timeout
    "25P04": errors.TimedOut,  # transaction timeout
    "54000": errors.TooLong,  # program limit exceeded: a value too long for its index
    "55P03": errors.DatabaseUnavailable,  # lock not available
    "57014": errors.TimedOut,  # query canceled
    "57P01": errors.DatabaseUnavailable,  # admin shutdown
    "57P02": errors.DatabaseUnavailable,  # crash shutdown
    "57P03": errors.DatabaseUnavailable,  # cannot connect now
    "57P04": errors.DatabaseUnavailable,  # database dropped
    "57P05": errors.DatabaseUnavailable,  # idle session timeout
}
_BY_CLASS: Mapping[str, type[ApiError]] = {
    "08": errors.DatabaseUnavailable,  # connection exception
    "22": errors.InvalidValue,  # data exception
    "40": errors.DatabaseUnavailable,  # transaction rollback: serialization failure, deadlock
    "53": errors.DatabaseUnavailable,  # insufficient resources: too many connections, disk full
}
# What went wrong before a value was sent, by the reason that asyncpg gives.
_BY_CAUSE: tuple[tuple[type[BaseException], type[ApiError]], ...] = (
    (OverflowError, errors.OutOfRange),
    (UnicodeError, errors.InvalidCharacters),
)
_BY_TYPE: tuple[tuple[type[BaseException], type[ApiError]], ...] = (
    (InvalidCachedStatementError, errors.DatabaseUnavailable),
    (OutdatedSchemaCacheError, errors.DatabaseUnavailable),
    (TimeoutError, errors.TimedOut),
)

_FOREIGN_KEY = "23503"
NO_SUCH_ITEM = "Refers to an item that does not exist."
_DELETES = re.compile(r"\bDELETE\b", re.IGNORECASE)


# What /ready says of a database that cannot be used: nothing of where it is or who asks.
_FAULTS: Mapping[str, str] = {
    "": "The database does not respond.",
    "28000": "The database rejects the connection of the service.",
    "28P01": "The database rejects the password of the service.",
    "3D000": "The database does not exist.",
    "42501": "The database does not grant the service the privileges that it requires.",
    "08P01": "The database, or a pooler in front of it, does not support a request of the service.",
}
_UNSUPPORTED = "unsupported startup parameter"
_POOLER = "; this is a pooler: set PEGBOARD_DIRECT_DATABASE_URL to the database itself"


class Unusable(Exception):
    """Say in one line why a database that answers cannot be used; where it is `final`, waiting mends nothing."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class Database:
    """Hold the pool for reads, whose sessions cannot write, and the pool for writes.

    With `read_dsn`, reads go to the replica there as long as it has all that was acknowledged. `on_available` is
    awaited once, as soon as the database answers; while it fails it is tried again. `pool` makes the pools.
    """

    def __init__(
        self,
        write_dsn: str,
        read_dsn: str | None = None,
        *,
        write_size: int = 10,
        read_size: int = 10,
        timeout: float = 5.0,
        statement_timeout: float = 30.0,
        prepare: bool = True,
        pool: Callable[..., Pool] = Pool,
        on_available: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        manner: dict[str, Any] = {"timeout": timeout, "statement_timeout": statement_timeout, "prepare": prepare}
        self.write = pool(write_dsn, size=write_size, **manner)
        reads = pool(write_dsn, size=read_size, read_only=True, **manner)
        self._replica: Replica | None = None
        if read_dsn is not None:
            # To ask how far it is waits for no connection that requests have.
            probes = [Pool(dsn, size=1, read_only=True, **manner) for dsn in (write_dsn, read_dsn)]
            self._replica = Replica(pool(read_dsn, size=read_size, read_only=True, **manner), reads, *probes)
        self.read: Pool | Replica = self._replica or reads
        self._on_available = on_available
        self.fault = ""
        """What keeps the database from being used, in words for anybody."""
        self._told = ""
        self._begun = asyncio.Event()
        self._beginning: asyncio.Task[None] | None = None

    async def settle(self) -> None:
        """Wait until no read, of whatever process, can miss what was committed before this call."""
        if self._replica is not None:
            await self._replica.settle()

    @property
    def available(self) -> bool:
        """Return whether the database has answered since the start and `on_available` is done."""
        return self._begun.is_set()

    async def wait(self) -> None:
        """Wait until the database is `available`."""
        await self._begun.wait()

    async def start(self) -> None:
        """Try once to reach the database; where that fails, go on in the background until it answers.

        Raises `Unusable` where that is final, and `ClientConfigurationError` for a URL that asyncpg does not take.
        """
        try:
            begun = await self._begin(first=True)
        except BaseException:
            await self.close()
            raise
        if not begun:
            self._beginning = asyncio.get_running_loop().create_task(self._go_on())

    async def close(self) -> None:
        """Close both pools."""
        if self._beginning is not None:
            self._beginning.cancel()
            with suppress(asyncio.CancelledError):
                await self._beginning
        await asyncio.gather(self.write.close(), self.read.close())

    async def ping(self) -> bool:
        """Return whether both pools can run a statement."""
        try:
            async with asyncio.timeout(_SIGN_OF_LIFE):
                await asyncio.gather(self.write.fetchval("SELECT 1"), self.read.fetchval("SELECT 1"))
        except (ApiError, InterfaceError, asyncpg.PostgresError, OSError):
            return False
        return True

    async def _begin(self, *, first: bool = False) -> bool:
        try:
            await self.write.open()
            await self.read.open()
            if self._on_available is not None:
                await self._on_available()
        except (Unusable, InterfaceError, asyncpg.PostgresError, OSError) as error:
            if first and (isinstance(error, ClientConfigurationError) or getattr(error, "final", False)):
                raise
            self._note(error)
            return False
        except Exception:
            log.exception("the database responds, but the service cannot start")
            return False
        self._begun.set()
        if self._replica is not None:
            self._replica.watch()
        return True

    def _note(self, error: Exception) -> None:
        """Tell a fault once, until it is another."""
        state = getattr(error, "sqlstate", None) or ""
        self.fault = str(error) if isinstance(error, Unusable) else _FAULTS.get(state, _FAULTS[""])
        hint = _POOLER if _UNSUPPORTED in str(error) else ""
        told = f"the database cannot be used yet: {' '.join(str(error).split()) or type(error).__name__}{hint}"
        log.log(logging.DEBUG if told == self._told else logging.WARNING, "%s", told)
        self._told = told

    async def _go_on(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await asyncio.sleep(pause)
            if await self._begin():
                return
            pause = min(2 * pause, _LONGEST_PAUSE)


def translate(error: BaseException) -> ApiError | None:
    """Return what an error of the database, or of the way to it, means to a client; None where it is a fault of ours.

    The message never holds a stored value. What a constraint is about is told by its name, `error.constraint_name`.
    """
    if isinstance(error, asyncpg.PostgresError):
        state = getattr(error, "sqlstate", None) or ""
        if state == _FOREIGN_KEY:
            return _foreign_key(error)
        kind = _first(_BY_TYPE, error) or _BY_STATE.get(state) or _BY_CLASS.get(state[:2])
        if kind is errors.InvalidValue and error.__cause__ is not None:
            kind = _first(_BY_CAUSE, error.__cause__) or kind
    else:
        kind = errors.DatabaseUnavailable if found_closed(error) else _first(_BY_TYPE, error)
    if kind is None:
        return None
    return kind(headers={"Retry-After": "1"} if kind is errors.DatabaseUnavailable else {})


def _foreign_key(error: asyncpg.PostgresError) -> ApiError:
    """Tell the two ends of a reference apart: PostgreSQL has one SQLSTATE for both, and words in any language."""
    if str(error).startswith("update or delete") or _DELETES.search(getattr(error, "query", None) or ""):
        return errors.StillReferenced()
    return errors.InvalidValue(NO_SUCH_ITEM)


def _first(
    table: tuple[tuple[type[BaseException], type[ApiError]], ...], error: BaseException
) -> type[ApiError] | None:
    return next((kind for known, kind in table if isinstance(error, known)), None)
