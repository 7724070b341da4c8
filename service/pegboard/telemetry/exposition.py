"""Serialization of metrics in the text formats of Prometheus and OpenMetrics, by prometheus-client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pegboard.telemetry.families import Snapshot

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text"

CONTENT_TYPES = {
    TEXT: "text/plain; version=0.0.4; charset=utf-8",
    OPENMETRICS: "application/openmetrics-text; version=1.0.0; charset=utf-8",
}
"""The `Content-Type` of each format."""


def write(snapshot: Snapshot, media_type: str) -> bytes:
    """Return `snapshot` in one of `CONTENT_TYPES`."""
    # Imported only now: a worker whose metrics are never requested saves its memory.
    from prometheus_client.exposition import generate_latest
    from prometheus_client.openmetrics import exposition as openmetrics

    from pegboard.telemetry.collector import registry

    writers: Mapping[str, Callable[[CollectorRegistry], bytes]] = {
        TEXT: generate_latest,
        OPENMETRICS: openmetrics.generate_latest,
    }
    return writers[media_type](registry(snapshot))
