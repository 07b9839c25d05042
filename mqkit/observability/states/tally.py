"""Counts what a service does in one process, as cheaply as that can be done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from mqkit.message import Delivery, Message
from mqkit.middleware import Observer
from mqkit.observability.metrics.results import CONFIRMED, result_of
from mqkit.outcome import Ack, DeadLetter, Lost, Outcome, Requeue, RetryAfter


class Counted:
    """Counts deliveries of one handler and queue by outcome, and their runs."""

    __slots__ = ("acked", "dead_lettered", "held", "lost", "requeued", "retried", "runs", "seconds")

    def __init__(self) -> None:
        self.acked = self.retried = self.dead_lettered = self.requeued = self.lost = 0
        self.held = 0
        """Retries for which a message is held in its place, beside those that were settled."""
        self.runs = 0
        self.seconds = 0.0
        """Of all these runs together."""


class Tally(Observer):
    """Counts outcomes, runs and publishes of one process: for its state, and for its supervisor.

    Unlike `Metrics` it has no histograms, and looks at no clock but for the runs.
    """

    times_runs = True

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, str], Counted] = {}
        self._published: Counter[str] = Counter()

    def held(self, handler: str, delivery: Delivery, outcome: RetryAfter) -> None:  # noqa: ARG002
        """Count a retry in its place, and the run that failed."""
        of = self.of(handler, delivery.queue)
        of.held += 1
        ran = delivery.ran
        if ran is not None and ran[1] is not None:
            of.runs += 1
            of.seconds += ran[1] - ran[0]

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:
        """Count a delivery that was settled."""
        self.settled_together(handler, ((delivery, outcome),))

    def settled_together(self, handler: str, settled: Sequence[tuple[Delivery, Outcome]]) -> None:
        """Count deliveries that were settled, and their runs."""
        of = self.of(handler, settled[0][0].queue)  # they are of one queue: of one consumer
        # All that a message costs, and so without a call that it could do without.
        acked, runs, seconds = 0, 0, 0.0
        for delivery, outcome in settled:
            ran = delivery.ran
            if ran is not None:
                began, ended = ran
                if ended is not None:
                    runs += 1
                    seconds += ended - began
            if outcome.__class__ is Ack:
                acked += 1
            else:
                _count(of, outcome)
        of.acked += acked
        of.runs += runs
        of.seconds += seconds

    def publish_ended(self, message: Message, seconds: float, error: BaseException | None) -> None:  # noqa: ARG002
        """Count a publish by its result."""
        self._published[CONFIRMED if error is None else result_of(error)] += 1

    def of(self, handler: str, queue: str) -> Counted:
        """Return what is counted of a handler and its queue."""
        key = handler, queue
        return self._handlers.get(key) or self._handlers.setdefault(key, Counted())

    @property
    def counted(self) -> Iterator[tuple[tuple[str, str], Counted]]:
        """What is counted so far, by handler and queue."""
        return iter(list(self._handlers.items()))

    @property
    def published(self) -> dict[str, int]:
        """How many publishes have ended, by result (`mqkit.observability.metrics.results`)."""
        return dict(self._published)


def _count(of: Counted, outcome: Outcome) -> None:
    match outcome:
        case RetryAfter():
            of.retried += 1
        case DeadLetter():
            of.dead_lettered += 1
        case Requeue():
            of.requeued += 1
        case Lost():
            of.lost += 1
