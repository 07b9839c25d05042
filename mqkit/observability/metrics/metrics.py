"""Counts what a service does, in plain numbers; they are made metrics when somebody reads them.

`prometheus_client` takes a lock for each increment, and looks up each label: some microseconds for
every message. Here an increment is one of a list's or a slot's, on the event loop's thread alone,
and whoever reads, in whatever thread, copies the numbers.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from mqkit.message import Delivery, Message
from mqkit.middleware import ConsumerReading, Observer, ServiceReading
from mqkit.observability.metrics.buckets import Buckets
from mqkit.observability.metrics.results import CONFIRMED, RESULTS, result_of
from mqkit.observability.metrics.snapshot import Number, Snapshot, Times
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue, RetryAfter
from mqkit.pause import Status

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

OWNED_FOR = 60.0
"""Seconds for which a partition counts as this process's after it has settled a message of it."""

OLDEST = 30 * 86_400.0
"""Seconds; a timestamp that is further back is nobody's idea of when the message was published."""

AHEAD = 60.0
"""Seconds by which clocks may differ; a timestamp that is further ahead tells nothing."""

STAMP = "timestamp_in_ms"
"""The header that a broker writes whose operator has configured it
(https://www.rabbitmq.com/docs/message-interceptors): milliseconds of the broker's clock."""


class _OfHandler:
    """What one handler has done with the messages of one queue."""

    __slots__ = (
        "acked",
        "dead",
        "held",
        "lost",
        "requeued",
        "retried",
        "run_counts",
        "run_seconds",
        "wait_counts",
        "wait_seconds",
    )

    def __init__(self, buckets: Buckets) -> None:
        self.acked = self.retried = self.requeued = self.lost = self.held = 0
        self.dead: Counter[DeathReason] = Counter()
        self.run_counts = [0] * (len(buckets.handler) + 1)
        self.wait_counts = [0] * (len(buckets.queue) + 1)
        self.run_seconds = self.wait_seconds = 0.0


class Metrics(Observer):
    """Counts what one service does, for Prometheus: give it to its `Runtime` as an observer.

        metrics = Metrics()
        async with Runtime(service, url, observer=metrics): ...

    `text` is what Prometheus scrapes; with a `registry` of prometheus_client's, which may have
    metrics of the application's own, they are collected with that. The global one is used by nobody
    who does not hand it in.

    Labels are the names of services, handlers, queues and sagas, and a few fixed words: never a
    key, an id, or the text of an error.

    :param registry: a `prometheus_client.CollectorRegistry`; one holds the metrics of one service
    :param buckets: the histograms' upper bounds
    :param now: the wall clock, in seconds
    :raises MissingExtraError: there is a registry, and no prometheus_client
    :raises ConfigurationError: the registry has the metrics of a service already
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        buckets: Buckets | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.buckets = buckets or Buckets()
        self._run_bounds = list(self.buckets.handler)
        self._wait_bounds = list(self.buckets.queue)
        self._confirm_bounds = list(self.buckets.confirm)
        self._now = now
        self._handlers: dict[tuple[str, str], _OfHandler] = {}
        self._results: Counter[str] = Counter()
        self._confirm_counts = [0] * (len(self._confirm_bounds) + 1)
        self._confirm_seconds = 0.0
        self._read: Callable[[], ServiceReading] | None = None
        if registry is not None:
            from mqkit.observability.metrics.exposition import register  # noqa: PLC0415 - an extra

            register(registry, self.snapshot)

    def ran(self, handler: str, deliveries: Sequence[Delivery], seconds: float) -> None:
        """Count a run, and how long its messages had waited for it."""
        of = self._handlers.get((handler, deliveries[0].queue)) or self._add(handler, deliveries)
        of.run_counts[bisect_left(self._run_bounds, seconds)] += 1
        of.run_seconds += seconds
        for delivery in deliveries:
            # A retry has waited for its delay, and one that comes again for somebody's death.
            if delivery.attempt == 1 and not delivery.redelivered:
                properties = delivery.properties
                stamp = properties.headers.get(STAMP) if properties.headers else None
                if stamp.__class__ is int:
                    published: float = stamp / 1000
                elif properties.timestamp is not None:
                    published = properties.timestamp.timestamp()
                else:
                    continue
                waited = self._now() - seconds - published
                if waited < 0.0:
                    if waited < -AHEAD:
                        continue
                    waited = 0.0
                elif waited > OLDEST:
                    continue
                of.wait_counts[bisect_left(self._wait_bounds, waited)] += 1
                of.wait_seconds += waited

    def held(self, handler: str, delivery: Delivery, outcome: RetryAfter) -> None:  # noqa: ARG002
        """Count a retry in its place."""
        self._of(handler, delivery).held += 1

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:
        """Count a delivery by its outcome."""
        of = self._handlers.get((handler, delivery.queue)) or self._add(handler, (delivery,))
        kind = outcome.__class__
        if kind is Ack:
            of.acked += 1
        elif isinstance(outcome, RetryAfter):
            of.retried += 1
        elif isinstance(outcome, DeadLetter):
            of.dead[outcome.reason] += 1
        elif kind is Requeue:
            of.requeued += 1
        elif kind is Lost:
            of.lost += 1

    def publish_ended(self, message: Message, seconds: float, error: BaseException | None) -> None:  # noqa: ARG002
        """Count a publish by its result."""
        if error is None:
            self._results[CONFIRMED] += 1
            self._confirm_counts[bisect_left(self._confirm_bounds, seconds)] += 1
            self._confirm_seconds += seconds
        else:
            self._results[result_of(error)] += 1

    def running(self, read: Callable[[], ServiceReading]) -> None:
        """Read this service from now on."""
        self._read = read

    @property
    def reading(self) -> ServiceReading | None:
        """How the service is now; None before its runtime has started."""
        return None if self._read is None else self._read()

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics as Prometheus reads them, and their content type.

        :param accept: the header of that name, of who asks: OpenMetrics is written on demand
        :raises MissingExtraError: there is no prometheus_client
        """
        from mqkit.observability.metrics.exposition import exposed  # noqa: PLC0415 - an extra

        return exposed(self.snapshot(), accept)

    def snapshot(self) -> Snapshot:
        """Return all metrics as they are now; there are none before the runtime has started."""
        reading = self.reading
        if reading is None:
            return Snapshot()
        service = reading.service
        for (
            each
        ) in reading.consumers:  # with zeros from the start: the first message is a rise, too
            self._handlers.setdefault((each.handler, each.queue), _OfHandler(self.buckets))
        return Snapshot(
            tuple(
                Number(name, (service, *labels), value)
                for name, labels, value in self._numbers(reading)
            ),
            tuple(
                Times(name, (service, *labels), tuple(counts), seconds)
                for name, labels, counts, seconds in self._times()
            ),
            {
                "mqkit_queue_seconds": tuple(self._wait_bounds),
                "mqkit_handler_seconds": tuple(self._run_bounds),
                "mqkit_confirm_seconds": tuple(self._confirm_bounds),
            },
        )

    def _of(self, handler: str, delivery: Delivery) -> _OfHandler:
        return self._handlers.get((handler, delivery.queue)) or self._add(handler, (delivery,))

    def _add(self, handler: str, deliveries: Sequence[Delivery]) -> _OfHandler:
        key = handler, deliveries[0].queue
        return self._handlers.setdefault(key, _OfHandler(self.buckets))

    def _times(self) -> Iterator[tuple[str, tuple[str, ...], list[int], float]]:
        for labels, of in list(self._handlers.items()):
            yield "mqkit_queue_seconds", labels, of.wait_counts, of.wait_seconds
            yield "mqkit_handler_seconds", labels, of.run_counts, of.run_seconds
        yield "mqkit_confirm_seconds", (), self._confirm_counts, self._confirm_seconds

    def _numbers(self, reading: ServiceReading) -> Iterator[tuple[str, tuple[str, ...], float]]:
        for labels, of in list(self._handlers.items()):
            outcomes = {
                "acked": of.acked,
                "retried": of.retried,
                "dead_lettered": of.dead.total(),
                "requeued": of.requeued,
                "lost": of.lost,
            }
            for outcome, count in outcomes.items():
                yield "mqkit_handled_total", (*labels, outcome), count
            yield "mqkit_retries_total", labels, of.retried + of.held
            for reason in DeathReason:
                yield "mqkit_dead_letters_total", (*labels, reason.value), of.dead[reason]
        for result in RESULTS:
            yield "mqkit_publishes_total", (result,), self._results[result]
        yield "mqkit_processes", (), 1
        yield "mqkit_process_restarts_total", (), 0
        yield from _of_connections(reading)
        yield from _of_consumers(reading.consumers)
        if reading.has_store:
            yield from _of_store(reading)


def _of_connections(reading: ServiceReading) -> Iterator[tuple[str, tuple[str, ...], float]]:
    for each in reading.connections:
        yield "mqkit_connected", (each.name,), each.is_up
        yield "mqkit_reconnects_total", (each.name,), max(each.opened - 1, 0)
        yield "mqkit_blocked_seconds_total", (each.name,), each.blocked_seconds


def _of_consumers(
    consumers: Sequence[ConsumerReading],
) -> Iterator[tuple[str, tuple[str, ...], float]]:
    in_flight: Counter[tuple[str, str]] = Counter()
    pauses: Counter[tuple[str, str]] = Counter()
    statuses: Counter[tuple[str, str, str]] = Counter()
    owned: Counter[tuple[str, str]] = Counter()
    for each in consumers:
        of = each.handler, each.queue
        in_flight[of] += each.in_flight
        pauses[of] += each.pauses
        statuses[*of, each.state.status.value] += 1
        if each.is_partition:
            is_recent = each.settled_ago is not None and each.settled_ago < OWNED_FOR
            owned[of] += bool(each.in_flight or is_recent)
    for of in in_flight:
        yield "mqkit_in_flight", of, in_flight[of]
        yield "mqkit_pauses_total", of, pauses[of]
        for status in Status:
            yield "mqkit_consumers", (*of, status.value), statuses[*of, status.value]
        if of in owned:
            yield "mqkit_partitions_owned", of, owned[of]


def _of_store(reading: ServiceReading) -> Iterator[tuple[str, tuple[str, ...], float]]:
    store = reading.store
    yield "mqkit_store_up", (), store is not None
    if store is None:
        return
    if store.waiting is not None:
        yield "mqkit_outbox_messages", (), store.waiting
        yield "mqkit_outbox_dead_messages", (), store.dead
        yield "mqkit_outbox_oldest_seconds", (), store.oldest
    for (saga, status), count in store.sagas.items():
        yield "mqkit_sagas", (saga, status), count
