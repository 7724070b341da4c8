"""A collector of the service's metrics for prometheus-client, which this module imports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from pegboard.telemetry.families import FAMILIES, Family, Snapshot

_Row = tuple[Sequence[str], Sequence[float]]
_SINGLE: Mapping[str, type[CounterMetricFamily | GaugeMetricFamily]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
}


class Collector:
    """Provide a snapshot to a registry."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._rows: dict[str, list[_Row]] = {}
        for (name, *labels), values in sorted(snapshot.items()):
            self._rows.setdefault(name, []).append((labels, values))

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, including those without a sample."""
        for family in FAMILIES:
            make = _histogram if family.buckets else _single
            yield make(family, self._rows.get(family.name, ()))


def registry(snapshot: Snapshot) -> CollectorRegistry:
    """Return a registry of `snapshot` only; the library's default registry has metrics of its own."""
    registry = CollectorRegistry()
    registry.register(Collector(snapshot))
    return registry


def _single(family: Family, rows: Sequence[_Row]) -> Metric:
    metric = _SINGLE[family.kind](family.name, family.meaning, labels=family.labels)
    for labels, (value,) in rows:
        metric.add_metric(labels, value)
    return metric


def _histogram(family: Family, rows: Sequence[_Row]) -> Metric:
    """Return a histogram, whose buckets are cumulative."""
    metric = HistogramMetricFamily(family.name, family.meaning, labels=family.labels)
    bounds = (*map(str, family.buckets), "+Inf")
    for labels, values in rows:
        counts = accumulate(values[:-1])
        metric.add_metric(labels, list(zip(bounds, counts, strict=True)), values[-1])
    return metric
