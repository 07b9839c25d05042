"""The metrics as text, and in a registry of the application's."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as read

from mqkit import Delivery
from mqkit.errors import ConfigurationError, MissingExtraError
from mqkit.message import Message
from mqkit.observability.metrics import Buckets, Metrics
from mqkit.observability.metrics.families import FAMILIES, Kind
from mqkit.outcome import Ack
from tests.unit.observability.readings import consumer, reading

read_strictly: Any = openmetrics_parser.text_string_to_metric_families

LABELS = {"service": "ledger", "handler": "post", "queue": "q"}


def counted(registry: CollectorRegistry | None = None, queue: str = "q") -> Metrics:
    """Of a service that has handled two messages and published one."""
    made = Metrics(registry, buckets=Buckets(handler=(0.1, 1)))
    made.running(lambda: reading(consumer(queue=queue)))
    for ended in (0.05, 0.5):
        made.settled("post", Delivery(queue=queue, ran=(0.0, ended)), Ack())
    made.publish_ended(Message("e", "k", b""), 0.25, None)
    return made


def test_prometheus_reads_what_is_written() -> None:
    """Buckets add up from the lowest on, and a name of any kind is escaped"""
    text, content_type = counted().text()
    assert content_type.startswith("text/plain; version=")
    samples = {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in read(text.decode())
        for s in family.samples
    }

    def of(**more: str) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((LABELS | more).items()))

    assert samples["mqkit_handled_total", of(outcome="acked")] == 2
    for bound, count in (("0.1", 1), ("1.0", 2), ("+Inf", 2)):
        assert samples["mqkit_handler_seconds_bucket", of(le=bound)] == count
    assert samples["mqkit_handler_seconds_count", of()] == 2
    assert samples["mqkit_handler_seconds_sum", of()] == 0.55


@pytest.mark.parametrize("queue", ['a"b', "a\\b", "a\nb", "\udcff", "ü" * 80], ids=ascii)
def test_any_name_of_a_queue_is_a_label(queue: str) -> None:
    """What a queue may be called is no reason that a scrape fails"""
    text, _ = counted(queue=queue).text()
    families = list(read(text.decode()))
    found = {s.labels.get("queue") for family in families for s in family.samples}
    assert len(found - {None}) == 1


def test_open_metrics_are_written_on_demand() -> None:
    """They end as they must, and a parser that is strict reads them"""
    text, content_type = counted().text("application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    assert content_type.startswith("application/openmetrics-text")
    assert {family.name for family in read_strictly(text.decode())} >= {"mqkit_handled"}


def test_names_are_what_prometheus_wants() -> None:
    """Counters end in _total, times in _seconds, and all begin with mqkit_"""
    for family in FAMILIES:
        assert family.name.startswith("mqkit_")
        assert family.name.endswith("_total") == (family.kind is Kind.COUNTER)
        assert family.kind is not Kind.HISTOGRAM or family.name.endswith("_seconds")
        assert family.help.endswith(".")


def test_a_registry_of_the_application_s_collects_them_beside_its_own() -> None:
    """One scrape has both"""
    registry = CollectorRegistry()
    Counter("shop_orders", "Orders.", registry=registry).inc()
    counted(registry)
    text = generate_latest(registry).decode()
    assert "shop_orders_total 1.0" in text
    assert 'outcome="acked",queue="q",service="ledger"} 2.0' in text


def test_a_registry_holds_the_metrics_of_one_service() -> None:
    """Those of a second one would be names that are there twice, which no scraper takes"""
    registry = CollectorRegistry()
    counted(registry)
    with pytest.raises(ConfigurationError, match="needs one of its own"):
        counted(registry)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting needs nothing, and writing the extra"""
    monkeypatch.delitem(sys.modules, "mqkit.observability.metrics.exposition", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mqkit\[metrics\]'"):
        counted().text()
