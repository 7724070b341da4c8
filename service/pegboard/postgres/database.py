"""The pools for reads and for writes, their start, and the translation of database errors for clients."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import asyncpg
from asyncpg.exceptions import ClientConfigurationError, InterfaceError

from pegboard import errors
from pegboard.errors import ApiError
from pegboard.postgres import conflicts
from pegboard.postgres.conflicts import CONFLICTS
from pegboard.postgres.pool import Pool
from pegboard.postgres.replica import Replica

log = logging.getLogger("pegboard")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_PING_TIMEOUT = 2.0

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
    "40": errors.DatabaseUnavailable,  # transaction rollback
    "53": errors.DatabaseUnavailable,  # insufficient resources: too many connections, disk full
}
# Errors before a value was sent, by the cause that asyncpg reports.
_BY_CAUSE: tuple[tuple[type[BaseException], type[ApiError]], ...] = (
    (OverflowError, errors.OutOfRange),
    (UnicodeError, errors.InvalidCharacters),
)
_BY_TYPE: tuple[tuple[type[BaseException], type[ApiError]], ...] = ((TimeoutError, errors.TimedOut),)

_FOREIGN_KEY = "23503"
NO_SUCH_ITEM = "Refers to an item that does not exist."
_DELETES = re.compile(r"\bDELETE\b", re.IGNORECASE)


# What /ready reports about an unusable database, without its address or user.
_PROBLEMS: Mapping[str, str] = {
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
    """Describe in one line why a database that responds cannot be used; if `final`, retries cannot succeed."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class Database:
    """Hold the pool for reads, whose sessions cannot write, and the pool for writes.

    With `read_dsn`, reads go to that replica as long as it has all acknowledged writes. `on_available` is awaited as
    soon as the database responds, and retried until it succeeds. `pool` creates the pools.
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
        options: dict[str, Any] = {"timeout": timeout, "statement_timeout": statement_timeout, "prepare": prepare}
        self.write = pool(write_dsn, size=write_size, **options)
        reads = pool(write_dsn, size=read_size, read_only=True, **options)
        self._replica: Replica | None = None
        if read_dsn is not None:
            # With pools of their own, the checks of the replica do not wait for connections of requests.
            probes = [Pool(dsn, size=1, read_only=True, **options) for dsn in (write_dsn, read_dsn)]
            own = pool(read_dsn, size=read_size, read_only=True, retries_contention=False, **options)
            self._replica = Replica(own, reads, *probes)
        self.read: Pool | Replica = self._replica or reads
        self._on_available = on_available
        self.problem = ""
        """Why the database cannot be used, without any secret details."""
        self._last_message = ""
        self._available = asyncio.Event()
        self._retrying: asyncio.Task[None] | None = None

    async def wait_until_visible(self) -> None:
        """Wait until reads in all processes see everything that was committed before this call."""
        if self._replica is not None:
            await self._replica.wait_until_visible()

    @property
    def available(self) -> bool:
        """Return whether the database has responded since the start and `on_available` has succeeded."""
        return self._available.is_set()

    async def wait(self) -> None:
        """Wait until the database is `available`."""
        await self._available.wait()

    async def start(self) -> None:
        """Try to connect to the database; if that fails, retry in the background until it succeeds.

        Raises `Unusable` if retries cannot succeed, and `ClientConfigurationError` for a URL that asyncpg rejects.
        """
        try:
            started = await self._try_start(first=True)
        except BaseException:
            await self.close()
            raise
        if not started:
            self._retrying = asyncio.get_running_loop().create_task(self._retry_start())

    async def close(self) -> None:
        """Close both pools."""
        if self._retrying is not None:
            self._retrying.cancel()
            with suppress(asyncio.CancelledError):
                await self._retrying
        await asyncio.gather(self.write.close(), self.read.close())

    async def ping(self) -> bool:
        """Return whether both pools can run a statement."""
        try:
            async with asyncio.timeout(_PING_TIMEOUT):
                await asyncio.gather(self.write.fetchval("SELECT 1"), self.read.fetchval("SELECT 1"))
        except (ApiError, InterfaceError, asyncpg.PostgresError, OSError):
            return False
        return True

    async def _try_start(self, *, first: bool = False) -> bool:
        try:
            await self.write.open()
            await self.read.open()
            if self._on_available is not None:
                await self._on_available()
        except (Unusable, InterfaceError, asyncpg.PostgresError, OSError) as error:
            if first and (isinstance(error, ClientConfigurationError) or getattr(error, "final", False)):
                raise
            self._report(error)
            return False
        except Exception:
            log.exception("the database responds, but the service cannot start")
            return False
        self._available.set()
        if self._replica is not None:
            self._replica.watch()
        return True

    def _report(self, error: Exception) -> None:
        """Log a warning, but not the same one twice in succession."""
        state = getattr(error, "sqlstate", None) or ""
        self.problem = str(error) if isinstance(error, Unusable) else _PROBLEMS.get(state, _PROBLEMS[""])
        hint = _POOLER if _UNSUPPORTED in str(error) else ""
        message = f"the database cannot be used yet: {' '.join(str(error).split()) or type(error).__name__}{hint}"
        log.log(logging.DEBUG if message == self._last_message else logging.WARNING, "%s", message)
        self._last_message = message

    async def _retry_start(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await asyncio.sleep(pause)
            if await self._try_start():
                return
            pause = min(2 * pause, _LONGEST_PAUSE)


def translate(error: BaseException) -> ApiError | None:
    """Return the error for the client for one of the database or the connection, or None for a bug of the service.

    The message never contains a stored value. `error.constraint_name` identifies a violated constraint.
    """
    if isinstance(error, CONFLICTS):
        return conflicts.final(error)
    if isinstance(error, asyncpg.PostgresError):
        state = getattr(error, "sqlstate", None) or ""
        if state == _FOREIGN_KEY:
            return _foreign_key(error)
        kind = _first(_BY_TYPE, error) or _BY_STATE.get(state) or _BY_CLASS.get(state[:2])
        if kind is errors.InvalidValue and error.__cause__ is not None:
            kind = _first(_BY_CAUSE, error.__cause__) or kind
    else:
        kind = errors.DatabaseUnavailable if conflicts.was_closed_before_sending(error) else _first(_BY_TYPE, error)
    if kind is None:
        return None
    return kind(headers={"Retry-After": "1"} if kind is errors.DatabaseUnavailable else {})


def _foreign_key(error: asyncpg.PostgresError) -> ApiError:
    """Distinguish the two ends of a reference: PostgreSQL has one SQLSTATE for both, and localized messages."""
    if str(error).startswith("update or delete") or _DELETES.search(getattr(error, "query", None) or ""):
        return errors.StillReferenced()
    return errors.InvalidValue(NO_SUCH_ITEM)


def _first(
    table: tuple[tuple[type[BaseException], type[ApiError]], ...], error: BaseException
) -> type[ApiError] | None:
    return next((kind for error_type, kind in table if isinstance(error, error_type)), None)
