"""Notifications between the processes of one service through the database, and the time until which none was missed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from math import inf
from secrets import token_hex
from time import monotonic
from typing import Any

import asyncpg

from pegboard.postgres import hosts

Callback = Callable[[str], None]

_HEARTBEAT_INTERVAL = 0.3
_VALID_FOR = 0.9
_TIMEOUT = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_BLOCKED_PAUSE = 30.0
_MAX_PENDING = 1000
_NOTIFY = "SELECT pg_notify(channel, payload) FROM unnest($1::text[], $2::text[]) AS pending (channel, payload)"

log = logging.getLogger("pegboard")


class NotificationsBlocked(ConnectionError):
    """Report that notifications do not arrive on a working connection, as behind a pooler in transaction mode."""


class Notifications:
    """Send and receive notifications on a dedicated connection.

    `callbacks` maps channels to the functions to call with each payload from another session. As long as the time is
    before `until`, all changes of what was read from the database at `since` or later have been received. Both are
    times of the monotonic clock.
    """

    def __init__(self, callbacks: Mapping[str, Callback]) -> None:
        self.since = inf
        self.until = 0.0
        self._callbacks = callbacks
        self._pending: deque[tuple[str, str]] = deque(maxlen=_MAX_PENDING)

    def send(self, channel: str, payload: str) -> None:
        """Send with the next heartbeat, duplicates once; what cannot be sent soon is dropped."""
        self._pending.append((channel, payload))

    async def run(self, dsn: str) -> None:
        """Listen until cancelled, and reconnect whenever the connection is lost."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with _connection(dsn) as connection, _connection(dsn) as other:
                    await self._listen(connection, other)
                    await other.close(timeout=_TIMEOUT)
                    pause = _FIRST_PAUSE
                    while True:
                        await self._heartbeat(connection)
                        await asyncio.sleep(_HEARTBEAT_INTERVAL)
            except NotificationsBlocked:
                log.warning(
                    "notifications from the database do not arrive: changes of clients are polled instead; "
                    "behind a pooler, set PEGBOARD_DIRECT_DATABASE_URL"
                )
                pause = _BLOCKED_PAUSE
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.info("the connection for notifications from the database failed: %s", type(error).__name__)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception:
                log.exception("the connection for notifications from the database failed")
                pause = _LONGEST_PAUSE
            finally:
                self.since, self.until = inf, 0.0
                self._pending.clear()
            await asyncio.sleep(pause)

    async def _listen(self, connection: asyncpg.Connection[Any], other: asyncpg.Connection[Any]) -> None:
        own = connection.get_server_pid()

        def receive(_: object, pid: int, channel: str, payload: object) -> None:
            if pid != own:
                self._callbacks[channel](str(payload))

        for channel in self._callbacks:
            await connection.add_listener(channel, receive)
        await _probe(connection, other)
        self.since = monotonic()

    async def _heartbeat(self, connection: asyncpg.Connection[Any]) -> None:
        """Send what is pending; the result, even of an empty batch, shows that the connection works."""
        pending, started = list(self._pending), monotonic()
        self._pending.clear()
        async with asyncio.timeout(_TIMEOUT):
            await connection.execute(_NOTIFY, [channel for channel, _ in pending], [payload for _, payload in pending])
        self.until = started + _VALID_FOR


async def _probe(connection: asyncpg.Connection[Any], other: asyncpg.Connection[Any]) -> None:
    """Raise `NotificationsBlocked` unless a notification of another session arrives.

    Behind a pooler, those of the same session may arrive although others do not.
    """
    arrived = asyncio.Event()
    channel = f"pegboard_probe_{token_hex(8)}"
    await connection.add_listener(channel, lambda *_: arrived.set())
    await other.execute(f"NOTIFY {channel}")
    try:
        async with asyncio.timeout(_TIMEOUT):
            await arrived.wait()
    except TimeoutError:
        raise NotificationsBlocked from None


@asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await hosts.connect(
        dsn, _TIMEOUT, statement_cache_size=0, server_settings={"application_name": "pegboard notices"}
    )
    try:
        yield connection
    finally:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=1)
