"""The metrics of the service: read from its parts on request, and served at `/metrics`."""

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
from pegboard.http.negotiation import choose_media_type, header_value
from pegboard.http.protocol import Response
from pegboard.migrations.status import Outcome
from pegboard.postgres.database import Database
from pegboard.telemetry.exposition import CONTENT_TYPES, write
from pegboard.telemetry.families import Snapshot
from pegboard.telemetry.process import Process
from pegboard.telemetry.sharing import SharedMetrics
from pegboard.telemetry.traffic import Traffic

log = logging.getLogger("pegboard")

_PUBLISH_INTERVAL = 1.0
# Prometheus lists every version that it supports; each can read those that are written here.
_VERSIONS = re.compile(r"[ \t]*;[ \t]*(?:version|escaping)=[^;,]*", re.IGNORECASE)


class Metrics:
    """Collect the metrics of one process, and of all workers if there are several: they exchange them by `shared`.

    The parts of the service only hold plain numbers. `outcomes` are those of the migrations.
    """

    def __init__(
        self,
        version: str,
        database: Database,
        authentication: Authentication,
        passwords: Passwords,
        plugins: Sequence[Plugin],
        bulkheads: Mapping[str, Bulkhead],
        shared: SharedMetrics | None = None,
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
        """Start to measure the process, and to publish its metrics."""
        self._process.start()
        if self._shared is not None:
            self._publishing = asyncio.get_running_loop().create_task(self._publish(self._shared))

    async def stop(self) -> None:
        """Stop, and publish the metrics for the last time."""
        self._process.stop()
        if self._publishing is not None:
            self._publishing.cancel()
            with suppress(asyncio.CancelledError):
                await self._publishing
        if self._shared is not None:
            with suppress(OSError):
                self._shared.publish(self.read())

    def read(self) -> Snapshot:
        """Return the metrics of this process."""
        return {
            ("pegboard_info", self._version): [1],
            **self.traffic.read(),
            **self._authentication_metrics(),
            **self._pool_metrics(),
            **self._plugin_metrics(),
            **self._process.read(),
        }

    async def show(self, request: web.Request) -> Response:
        """Respond with the metrics of all workers."""
        accepted = header_value(request, hdrs.ACCEPT)
        media_type = choose_media_type(accepted and _VERSIONS.sub("", accepted), *CONTENT_TYPES)
        database_up = self._database.available and await self._database.ping()
        snapshot = self.read()
        if self._shared is not None:
            self._shared.publish(snapshot)
            snapshot = self._shared.read()
        # Measured here, once: the other workers need not ping the database periodically.
        snapshot["pegboard_database_up",] = [int(database_up)]
        headers = {"Content-Type": CONTENT_TYPES[media_type], "Vary": "Accept, Accept-Encoding"}
        # In a thread, as it takes tens of milliseconds.
        return Response(200, headers, await asyncio.to_thread(write, snapshot, media_type))

    async def _publish(self, shared: SharedMetrics) -> None:
        failing = False
        while True:
            try:
                shared.publish(self.read())
                failing = False
            except OSError as error:
                if not failing:
                    log.warning("the metrics of this worker cannot be shared with the others: %s", error)
                failing = True
            await asyncio.sleep(_PUBLISH_INTERVAL)

    def _authentication_metrics(self) -> Snapshot:
        passwords = self._passwords
        outcomes = self._authentication.outcomes.items()
        return {
            **{("pegboard_authentications_total", outcome): [number] for outcome, number in outcomes},
            ("pegboard_credentials_remembered",): [self._authentication.cached_credentials],
            ("pegboard_password_checks_running",): [passwords.running],
            ("pegboard_password_checks_waiting",): [passwords.waiting],
            ("pegboard_password_checks_refused_total",): [passwords.refused],
        }

    def _pool_metrics(self) -> Snapshot:
        snapshot: Snapshot = {}
        for name, pool in (("read", self._database.read), ("write", self._database.write)):
            snapshot["pegboard_pool_connections", name] = [pool.size]
            snapshot["pegboard_pool_connections_idle", name] = [pool.idle]
            snapshot["pegboard_pool_connections_limit", name] = [pool.max_size]
            snapshot["pegboard_pool_waiting", name] = [pool.waiting]
            snapshot["pegboard_pool_waits_total", name] = [pool.waits]
            snapshot["pegboard_pool_timeouts_total", name] = [pool.timeouts]
            snapshot["pegboard_pool_retries_total", name] = [pool.retries]
        return snapshot

    def _plugin_metrics(self) -> Snapshot:
        snapshot: Snapshot = {}
        for plugin in self._plugins:
            for state in State:
                snapshot["pegboard_plugin_state", plugin.name, state.value] = [int(plugin.state is state)]
        for name, bulkhead in self._bulkheads.items():
            snapshot["pegboard_plugin_requests_running", name] = [bulkhead.running]
            snapshot["pegboard_plugin_requests_refused_total", name] = [bulkhead.refused]
            snapshot["pegboard_plugin_requests_timed_out_total", name] = [bulkhead.timed_out]
            snapshot["pegboard_plugin_pool_waits_total", name] = [bulkhead.pool_waits]
            snapshot["pegboard_plugin_requests_retried_total", name] = [bulkhead.retries.count]
            snapshot["pegboard_plugin_blocked_total", name] = [bulkhead.blocked]
        for name, outcome in self.outcomes.items():
            if not outcome.installed:
                continue
            snapshot["pegboard_migrations", name, "applied"] = [len(outcome.applied)]
            snapshot["pegboard_migrations", name, "pending"] = [len(outcome.pending)]
            snapshot["pegboard_migrations", name, "failed"] = [int(outcome.failure is not None)]
        return snapshot
