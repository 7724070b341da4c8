"""What the processes of one service tell each other through the database, and until when nothing was missed."""

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

Hearer = Callable[[str], None]

_BEAT = 0.3
_CERTAIN = 0.9
_PATIENCE = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_DEAF_PAUSE = 30.0
_MOST_UNSAID = 1000
_SAY = "SELECT pg_notify(channel, payload) FROM unnest($1::text[], $2::text[]) AS unsaid (channel, payload)"

log = logging.getLogger("pegboard")


class Deaf(ConnectionError):
    """Say that the connection works, but notifications do not pass, as through a pooler in transaction mode."""


class Notices:
    """Listen on a connection of its own, and say what others should hear.

    `hearers` are the channels and what to call with each payload that another session sent. Whatever was read from
    the database at `since` or later and has changed has been heard of, as long as the time is before `until`.
    Both are of the monotonic clock.
    """

    def __init__(self, hearers: Mapping[str, Hearer]) -> None:
        self.since = inf
        self.until = 0.0
        self._hearers = hearers
        self._unsaid: deque[tuple[str, str]] = deque(maxlen=_MOST_UNSAID)

    def say(self, channel: str, payload: str) -> None:
        """Tell the others with the next beat, once whatever is said twice; what cannot be said soon is dropped."""
        self._unsaid.append((channel, payload))

    async def run(self, dsn: str) -> None:
        """Listen until cancelled, and connect again whenever the connection is lost."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with _connection(dsn) as connection, _connection(dsn) as other:
                    await self._listen(connection, other)
                    await other.close(timeout=_PATIENCE)
                    pause = _FIRST_PAUSE
                    while True:
                        await self._beat(connection)
                        await asyncio.sleep(_BEAT)
            except Deaf:
                log.warning(
                    "notifications from the database do not arrive: changes of clients are polled instead; "
                    "behind a pooler, set PEGBOARD_DIRECT_DATABASE_URL"
                )
                pause = _DEAF_PAUSE
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.info("the connection for notifications from the database failed: %s", type(error).__name__)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception:
                log.exception("the connection for notifications from the database failed")
                pause = _LONGEST_PAUSE
            finally:
                self.since, self.until = inf, 0.0
                self._unsaid.clear()
            await asyncio.sleep(pause)

    async def _listen(self, connection: asyncpg.Connection[Any], other: asyncpg.Connection[Any]) -> None:
        own = connection.get_server_pid()

        def hear(_: object, pid: int, channel: str, payload: object) -> None:
            if pid != own:
                self._hearers[channel](str(payload))

        for channel in self._hearers:
            await connection.add_listener(channel, hear)
        await _probe(connection, other)
        self.since = monotonic()

    async def _beat(self, connection: asyncpg.Connection[Any]) -> None:
        """Say what is to be said; the answer, even to nothing, is the sign that the connection lives."""
        unsaid, asked = list(self._unsaid), monotonic()
        self._unsaid.clear()
        async with asyncio.timeout(_PATIENCE):
            await connection.execute(_SAY, [channel for channel, _ in unsaid], [payload for _, payload in unsaid])
        self.until = asked + _CERTAIN


async def _probe(connection: asyncpg.Connection[Any], other: asyncpg.Connection[Any]) -> None:
    """Raise `Deaf` unless what another session says arrives; what one says oneself would, through a pooler, too."""
    arrived = asyncio.Event()
    channel = f"pegboard_probe_{token_hex(8)}"
    await connection.add_listener(channel, lambda *_: arrived.set())
    await other.execute(f"NOTIFY {channel}")
    try:
        async with asyncio.timeout(_PATIENCE):
            await arrived.wait()
    except TimeoutError:
        raise Deaf from None


@asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await hosts.connect(
        dsn, _PATIENCE, statement_cache_size=0, server_settings={"application_name": "pegboard notices"}
    )
    try:
        yield connection
    finally:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=1)
