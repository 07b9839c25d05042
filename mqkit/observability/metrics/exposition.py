"""Writes metrics as Prometheus reads them; the one module that knows prometheus_client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

from mqkit.checks.extras import needs_extra
from mqkit.errors import ConfigurationError
from mqkit.observability.metrics.families import FAMILIES, Family, Kind
from mqkit.observability.metrics.snapshot import Snapshot

with needs_extra("metrics", "mqkit.observability.metrics", "prometheus_client"):
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector
    from prometheus_client.utils import floatToGoString


class SnapshotCollector(Collector):
    """Collects the metrics of a service for a registry."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterator[Metric]:
        """Name all metrics, so that a registry refuses others of these names."""
        return (_empty(family, "") for family in FAMILIES)

    def collect(self) -> Iterator[Metric]:
        """Return all metrics as they are now."""
        return metrics_of(self._snapshot())


def register(registry: CollectorRegistry, snapshot: Callable[[], Snapshot]) -> None:
    """Have a registry collect the metrics of a service.

    :raises ConfigurationError: it has metrics of these names already
    """
    try:
        registry.register(SnapshotCollector(snapshot))
    except ValueError as error:
        raise ConfigurationError(
            "this registry has metrics of mqkit's names already: a registry holds those of one "
            f"service, and another service needs one of its own ({error})"
        ) from error


def exposed(snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
    """Return the metrics as text, and its content type.

    :param accept: the header of that name
    """
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SnapshotCollector(lambda: snapshot))
    return encode(registry), content_type


def metrics_of(snapshot: Snapshot) -> Iterator[Metric]:
    """Return what prometheus_client writes for each metric that there is."""
    found: dict[str, Metric] = {}
    for family in FAMILIES:
        metric = _empty(family, family.help)
        found[family.name] = metric
    for number in snapshot.numbers:
        metric = found[number.name]
        assert isinstance(metric, CounterMetricFamily | GaugeMetricFamily)
        metric.add_metric(number.labels, number.value)
    for times in snapshot.times:
        metric = found[times.name]
        assert isinstance(metric, HistogramMetricFamily)
        bounds = [*map(floatToGoString, snapshot.bounds[times.name]), "+Inf"]
        counts = accumulate(times.counts)
        buckets = [(b, float(c)) for b, c in zip(bounds, counts, strict=True)]
        metric.add_metric(times.labels, buckets, times.seconds)
    return (metric for metric in found.values() if metric.samples)


def _empty(family: Family, text: str) -> Metric:
    labels = ("service", *family.labels)
    match family.kind:
        case Kind.COUNTER:
            return CounterMetricFamily(family.name, text, labels=labels)
        case Kind.GAUGE:
            return GaugeMetricFamily(family.name, text, labels=labels)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(family.name, text, labels=labels)
