"""Counts what a service does, in plain numbers; they are made metrics when somebody reads them.

`prometheus_client` takes a lock for each increment, and looks up each label: some microseconds for
every message. Here an increment is one of a list's or a slot's, on the event loop's thread alone,
and whoever reads, in whatever thread, copies the numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from mqkit.clock import Clock, utc_now
from mqkit.message import Delivery, Message
from mqkit.middleware import ConsumerReading, Observer, ServiceReading
from mqkit.observability.metrics.buckets import Buckets
from mqkit.observability.metrics.results import CONFIRMED, RESULTS, result_of
from mqkit.observability.metrics.snapshot import Number, Snapshot, Times
from mqkit.observability.metrics.waits import Waits
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue, RetryAfter
from mqkit.pause import Status

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

OWNED_FOR = 60.0
"""Seconds for which a partition counts as this process's after it has settled a message of it."""


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
    :param clock: the wall clock, by which messages have waited
    :raises MissingExtraError: there is a registry, and no prometheus_client
    :raises ConfigurationError: the registry has the metrics of a service already
    """

    times_runs = True

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        buckets: Buckets | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.buckets = buckets or Buckets()
        self._run_bounds = list(self.buckets.handler)
        self._confirm_bounds = list(self.buckets.confirm)
        self._waits = Waits(self.buckets.queue, clock)
        self._handlers: dict[tuple[str, str], _OfHandler] = {}
        self._results: Counter[str] = Counter()
        self._confirm_counts = [0] * (len(self._confirm_bounds) + 1)
        self._confirm_seconds = 0.0
        self._read: Callable[[], ServiceReading] | None = None
        if registry is not None:
            from mqkit.observability.metrics.exposition import register  # noqa: PLC0415 - an extra

            register(registry, self.snapshot)

    def held(self, handler: str, delivery: Delivery, outcome: RetryAfter) -> None:
        """Count a retry in its place, and the run that failed."""
        of = self._of(handler, delivery)
        of.held += 1
        if delivery.ran is not None:
            began, ended = delivery.ran
            if ended is not None:
                of.run_counts[bisect_left(self._run_bounds, ended - began)] += 1
                of.run_seconds += ended - began
            if outcome.counted:  # it waits for its first that counts
                of.wait_seconds += self._waits.count(of.wait_counts, ((delivery, outcome),))

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:
        """Count a delivery by its outcome."""
        self.settled_together(handler, ((delivery, outcome),))

    def settled_together(self, handler: str, settled: Sequence[tuple[Delivery, Outcome]]) -> None:
        """Count deliveries by their outcomes, their runs, and how long they waited for these."""
        of = self._of(handler, settled[0][0])  # they are of one queue: of one consumer
        # All that a message costs, and so without a call or a search that it could do without.
        run_counts, bounds, shortest = of.run_counts, self._run_bounds, self._run_bounds[0]
        acked, short, run_seconds = 0, 0, 0.0
        for delivery, outcome in settled:
            if outcome.__class__ is Ack:
                acked += 1
            else:
                _count(of, outcome)
            if (ran := delivery.ran) is not None:
                began, ended = ran
                if ended is not None:
                    seconds = ended - began
                    run_seconds += seconds
                    if seconds <= shortest:
                        short += 1
                    else:
                        run_counts[bisect_left(bounds, seconds)] += 1
        run_counts[0] += short
        of.run_seconds += run_seconds
        of.acked += acked
        of.wait_seconds += self._waits.count(of.wait_counts, settled)

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
        service = _writable(reading.service)
        for (
            each
        ) in reading.consumers:  # with zeros from the start: the first message is a rise, too
            self._handlers.setdefault((each.handler, each.queue), _OfHandler(self.buckets))
        return Snapshot(
            tuple(
                Number(name, (service, *map(_writable, labels)), value)
                for name, labels, value in self._numbers(reading)
            ),
            tuple(
                Times(name, (service, *map(_writable, labels)), tuple(counts), seconds)
                for name, labels, counts, seconds in self._times()
            ),
            {
                "mqkit_queue_seconds": tuple(self.buckets.queue),
                "mqkit_handler_seconds": tuple(self._run_bounds),
                "mqkit_confirm_seconds": tuple(self._confirm_bounds),
            },
        )

    def _of(self, handler: str, delivery: Delivery) -> _OfHandler:
        key = handler, delivery.queue
        return self._handlers.get(key) or self._handlers.setdefault(key, _OfHandler(self.buckets))

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


def _writable(label: str) -> str:
    """Escape what UTF-8 cannot hold: the bytes of a name that came as no text are surrogates."""
    return label if label.isascii() else label.encode("utf-8", "backslashreplace").decode()


def _count(of: _OfHandler, outcome: Outcome) -> None:
    match outcome:
        case RetryAfter():
            of.retried += 1
        case DeadLetter(reason):
            of.dead[reason] += 1
        case Requeue():
            of.requeued += 1
        case Lost():
            of.lost += 1


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
