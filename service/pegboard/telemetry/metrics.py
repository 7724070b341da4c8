"""What the parts of the service have counted: read where somebody asks for it, and told at `/metrics`."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress

from aiohttp import hdrs, web

from pegboard.auth.basic import Authentication
from pegboard.auth.passwords import Passwords
from pegboard.hosting.bulkheads import Bulkhead
from pegboard.hosting.discovery import Plugin, State
from pegboard.http.negotiation import choose, line
from pegboard.http.protocol import Response
from pegboard.migrations.status import Outcome
from pegboard.postgres.database import Database
from pegboard.telemetry.exposition import CONTENT_TYPES, write
from pegboard.telemetry.families import Snapshot
from pegboard.telemetry.process import Process
from pegboard.telemetry.sharing import Shared
from pegboard.telemetry.traffic import Traffic

log = logging.getLogger("pegboard")

_PERIOD = 1.0
# Prometheus names every version that it knows; each of them reads those that are written here.
_VERSIONS = re.compile(r"[ \t]*;[ \t]*(?:version|escaping)=[^;,]*", re.IGNORECASE)


class Metrics:
    """Read the counts of one process, and of all that serve beside it: `shared` is where they tell each other.

    The parts know nothing of it: they hold plain numbers. `outcomes` is what became of the migrations.
    """

    def __init__(
        self,
        version: str,
        database: Database,
        authentication: Authentication,
        passwords: Passwords,
        plugins: Sequence[Plugin],
        bulkheads: Mapping[str, Bulkhead],
        shared: Shared | None = None,
    ) -> None:
        self.traffic = Traffic()
        self.outcomes: Mapping[str, Outcome] = {}
        self._version = version
        self._database = database
        self._authentication = authentication
        self._passwords = passwords
        self._plugins = plugins
        self._bulkheads = bulkheads
        self._shared = shared
        self._process = Process()
        self._publishing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch the process, and to publish what is counted in it."""
        self._process.start()
        if self._shared is not None:
            self._publishing = asyncio.get_running_loop().create_task(self._publish(self._shared))

    async def stop(self) -> None:
        """Publish for the last time."""
        self._process.stop()
        if self._publishing is not None:
            self._publishing.cancel()
            with suppress(asyncio.CancelledError):
                await self._publishing
        if self._shared is not None:
            with suppress(OSError):
                self._shared.publish(self.read())

    def read(self) -> Snapshot:
        """Return what this process has counted, and how it stands."""
        return {
            ("pegboard_info", self._version): [1],
            **self.traffic.read(),
            **self._logins(),
            **self._pools(),
            **self._standing(),
            **self._process.read(),
        }

    async def show(self, request: web.Request) -> Response:
        """Answer with all that was counted."""
        accepted = line(request, hdrs.ACCEPT)
        media_type = choose(accepted and _VERSIONS.sub("", accepted), *CONTENT_TYPES)
        responses = self._database.available and await self._database.ping()
        counted = self.read()
        if self._shared is not None:
            self._shared.publish(counted)
            counted = self._shared.read()
        # As it is now, and asked once: the others need not ask again and again.
        counted["pegboard_database_up",] = [int(responses)]
        headers = {"Content-Type": CONTENT_TYPES[media_type], "Vary": "Accept, Accept-Encoding"}
        # Beside the loop, as it takes tens of milliseconds.
        return Response(200, headers, await asyncio.to_thread(write, counted, media_type))

    async def _publish(self, shared: Shared) -> None:
        failing = False
        while True:
            try:
                shared.publish(self.read())
                failing = False
            except OSError as error:
                if not failing:
                    log.warning("the metrics of this worker cannot be shared with the others: %s", error)
                failing = True
            await asyncio.sleep(_PERIOD)

    def _logins(self) -> Snapshot:
        passwords = self._passwords
        outcomes = self._authentication.outcomes.items()
        return {
            **{("pegboard_authentications_total", outcome): [number] for outcome, number in outcomes},
            ("pegboard_credentials_remembered",): [self._authentication.remembered],
            ("pegboard_password_checks_running",): [passwords.running],
            ("pegboard_password_checks_waiting",): [passwords.waiting],
            ("pegboard_password_checks_refused_total",): [passwords.refused],
        }

    def _pools(self) -> Snapshot:
        found: Snapshot = {}
        for name, pool in (("read", self._database.read), ("write", self._database.write)):
            found["pegboard_pool_connections", name] = [pool.size]
            found["pegboard_pool_connections_idle", name] = [pool.idle]
            found["pegboard_pool_connections_limit", name] = [pool.most]
            found["pegboard_pool_waiting", name] = [pool.waiting]
            found["pegboard_pool_waits_total", name] = [pool.waits]
            found["pegboard_pool_timeouts_total", name] = [pool.timeouts]
        return found

    def _standing(self) -> Snapshot:
        found: Snapshot = {}
        for plugin in self._plugins:
            for state in State:
                found["pegboard_plugin_state", plugin.name, state.value] = [int(plugin.state is state)]
        for name, bulkhead in self._bulkheads.items():
            found["pegboard_plugin_requests_running", name] = [bulkhead.running]
            found["pegboard_plugin_requests_refused_total", name] = [bulkhead.refused]
            found["pegboard_plugin_requests_timed_out_total", name] = [bulkhead.timed_out]
            found["pegboard_plugin_pool_waits_total", name] = [bulkhead.pool_waits]
            found["pegboard_plugin_blocked_total", name] = [bulkhead.blocked]
        for name, outcome in self.outcomes.items():
            if not outcome.installed:
                continue
            found["pegboard_migrations", name, "applied"] = [len(outcome.applied)]
            found["pegboard_migrations", name, "pending"] = [len(outcome.pending)]
            found["pegboard_migrations", name, "failed"] = [int(outcome.failure is not None)]
        return found
