"""The metrics: the name, kind, labels and meaning of each, and how the values of several workers are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The upper bounds of the buckets of a request's duration, in seconds."""
LAGS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""The upper bounds of the buckets of the event loop's lag, in seconds."""

_REQUEST = ("resource", "template", "method", "status")


@dataclass(frozen=True, slots=True)
class Family:
    """Describe one metric.

    `merge` combines the values of the workers. The counts of ended workers are kept, except those of gauges.
    """

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    merge: Callable[[Iterable[float]], float] = sum


FAMILIES: tuple[Family, ...] = (
    Family("pegboard_info", "gauge", "Always 1, with the version of the service.", ("version",), merge=max),
    Family("pegboard_workers", "gauge", "Processes that serve."),
    Family("pegboard_requests_total", "counter", "Completed requests.", _REQUEST),
    Family(
        "pegboard_request_duration_seconds",
        "histogram",
        "Time from a request's head to its response; for an export, to the end of it.",
        _REQUEST,
        DURATIONS,
    ),
    Family(
        "pegboard_response_bytes_total", "counter", "Bytes of the bodies of responses, as they were sent.", _REQUEST
    ),
    Family("pegboard_requests_in_progress", "gauge", "Requests that are being served."),
    Family("pegboard_requests_aborted_total", "counter", "Requests that ended without a complete response."),
    Family(
        "pegboard_requests_refused_total",
        "counter",
        "Requests that could not be read: malformed, with too large a head, or too slow.",
        ("status",),
    ),
    Family(
        "pegboard_authentications_total",
        "counter",
        "Requests by the outcome of their credentials: remembered, verified, failed, throttled, malformed, missing.",
        ("outcome",),
    ),
    Family("pegboard_credentials_remembered", "gauge", "Cached credentials."),
    Family("pegboard_password_checks_running", "gauge", "Passwords that are being hashed or checked by argon2."),
    Family("pegboard_password_checks_waiting", "gauge", "Logins that wait for argon2."),
    Family("pegboard_password_checks_refused_total", "counter", "Logins rejected because too many were waiting."),
    Family("pegboard_database_up", "gauge", "Whether the database responds: 1 or 0."),
    Family("pegboard_pool_connections", "gauge", "Connections to the database that are open.", ("pool",)),
    Family("pegboard_pool_connections_idle", "gauge", "Connections to the database that are idle.", ("pool",)),
    Family("pegboard_pool_connections_limit", "gauge", "Maximum number of connections to the database.", ("pool",)),
    Family("pegboard_pool_waiting", "gauge", "Requests that wait for a connection to the database.", ("pool",)),
    Family("pegboard_pool_waits_total", "counter", "Requests that had to wait for a connection.", ("pool",)),
    Family(
        "pegboard_pool_timeouts_total",
        "counter",
        "Connection waits that timed out.",
        ("pool",),
    ),
    Family(
        "pegboard_pool_retries_total",
        "counter",
        "Retries of single statements after conflicts and lost connections.",
        ("pool",),
    ),
    Family("pegboard_plugin_state", "gauge", "Workers in which a plugin is in this state.", ("plugin", "state")),
    Family("pegboard_plugin_requests_running", "gauge", "Requests of a plugin that are being served.", ("plugin",)),
    Family(
        "pegboard_plugin_requests_refused_total",
        "counter",
        "Requests rejected because the plugin was at its limit of concurrent requests.",
        ("plugin",),
    ),
    Family(
        "pegboard_plugin_requests_timed_out_total",
        "counter",
        "Requests that exceeded the time limit of the plugin.",
        ("plugin",),
    ),
    Family(
        "pegboard_plugin_pool_waits_total",
        "counter",
        "Times that a request waited because the plugin was at its limit of connections.",
        ("plugin",),
    ),
    Family(
        "pegboard_plugin_requests_retried_total",
        "counter",
        "Retries of requests whose transaction had a conflict or lost its connection.",
        ("plugin",),
    ),
    Family(
        "pegboard_plugin_blocked_total",
        "counter",
        "Times that a plugin blocked the event loop of a worker.",
        ("plugin",),
    ),
    Family(
        "pegboard_migrations",
        "gauge",
        "Migrations of a plugin by status: applied, pending, failed.",
        ("plugin", "state"),
        merge=max,
    ),
    Family(
        "pegboard_loop_lag_seconds",
        "histogram",
        "How late the event loop ran a timer, measured twice a second.",
        buckets=LAGS,
    ),
    Family("pegboard_process_cpu_seconds_total", "counter", "CPU time used."),
    Family("pegboard_process_resident_memory_bytes", "gauge", "Resident memory."),
    Family("pegboard_process_open_fds", "gauge", "Open file descriptors."),
    Family("pegboard_process_max_fds", "gauge", "Maximum number of open file descriptors."),
)

BY_NAME = {family.name: family for family in FAMILIES}

Key = tuple[str, *tuple[str, ...]]
"""A metric's name and the values of its labels."""

Snapshot = dict[Key, list[float]]
"""The values at one moment: of a histogram the count in each bucket and then the sum, of any other metric one value."""


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Return the merged snapshots of several workers."""
    gathered: dict[Key, list[list[float]]] = {}
    for snapshot in snapshots:
        for key, values in snapshot.items():
            gathered.setdefault(key, []).append(values)
    return {
        key: lists[0] if len(lists) == 1 else [BY_NAME[key[0]].merge(values) for values in zip(*lists, strict=True)]
        for key, lists in gathered.items()
    }


def cumulative(snapshot: Snapshot) -> Snapshot:
    """Return the metrics of a worker that are kept after its end: all except the gauges."""
    return {key: values for key, values in snapshot.items() if BY_NAME[key[0]].kind != "gauge"}
