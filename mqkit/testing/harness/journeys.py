"""Follows each message through a service's queues: under way, waiting, or at its end.

A message's way through one queue is a journey. It begins when its publish is confirmed or when
it is first settled, whichever is seen first: the broker may deliver a message before its
publisher hears of the confirm. It is under way, or waits in the delay ladder until it is due, or
has ended. Pure: time is given, and who waits for a change is told by `Journeys.changed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from mqkit.broker.delays import ticks
from mqkit.logging.shown import shown
from mqkit.message import Delivery
from mqkit.outcome import DELAY_TICK, Ack, DeadLetter, Outcome, RetryAfter
from mqkit.testing.harness.records import Attempt, Result

MAX_DESCRIBED = 10
"""How many journeys an error tells of; the rest are counted."""


@dataclass(slots=True, eq=False)
class Journey:
    """One message in one queue, over all its attempts."""

    message_id: str | None
    queue: str
    is_published: bool
    """Whether its publish was seen; it may have been another client's."""
    next_attempt: int = 1
    due: float | None = None
    """When it comes, or comes back, from a delay, in seconds of the harness's clock; None if it
    waits for none."""
    attempts: list[Attempt] = field(default_factory=list)
    has_ended: bool = False
    is_ordered: bool = False
    """Whether its handler keeps an order, and holds it over its retries."""

    def is_waiting(self, now: float) -> bool:
        """Tell whether it, or its retry, is not due yet."""
        return self.due is not None and self.due > now

    def is_under_way(self, now: float) -> bool:
        """Tell whether it can go on without time passing."""
        return not self.has_ended and not self.is_waiting(now)

    def result(self) -> Result:
        """Return what became of the message; to be called once it has ended."""
        return Result(self.message_id, self.queue, tuple(self.attempts))

    def describe(self, now: float) -> str:
        """Say where the message is, for a person."""
        what = f"message {shown(self.message_id)} in {self.queue}"
        done = ", ".join(_told(attempt) for attempt in self.attempts)
        if self.is_waiting(now):
            assert self.due is not None
            left = self.due - now
            done = done or "published to be held until then"
            return f"{what}: {done}; attempt {self.next_attempt} is due in {left:,.1f} s"
        if self.is_ordered:
            return (
                f"{what}: {done or 'published'}; it has not ended, and may wait for a retry, which "
                "a handler with order_by does in real time"
            )
        return f"{what}: {done or 'published'}; attempt {self.next_attempt} has not ended"


class Journeys:
    """All journeys, and a future that is done when one of them changes.

    `holding` are the queues whose handlers keep an order: these hold a message over its retries,
    and settle it once, at its last attempt.
    """

    def __init__(self, now: Callable[[], float], holding: Collection[str] = ()) -> None:
        self._now = now
        self._holding = holding
        self._all: dict[tuple[str, str | None], list[Journey]] = {}
        self._open: set[Journey] = set()
        self.changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done at the next change, when another one takes its place."""

    def published(self, message_id: str | None, queue: str, held: float | None = None) -> None:
        """Note that a publish of the message to this queue was confirmed.

        :param held: seconds for which the broker holds it before it goes there
        """
        journeys = self._all.setdefault((queue, message_id), [])
        for journey in journeys:
            if not journey.is_published:
                journey.is_published = True
                return
        due = None if held is None else self._now() + ticks(held) * DELAY_TICK
        self._begin(journeys, Journey(message_id, queue, is_published=True, due=due))

    def settled(self, delivery: Delivery, outcome: Outcome) -> None:
        """Note that a delivery was settled."""
        journey = self._of(delivery)
        journey.attempts.append(Attempt(delivery.attempt, outcome))
        journey.due = None
        if isinstance(outcome, Ack | DeadLetter):
            journey.has_ended = True
            self._open.discard(journey)
        elif isinstance(outcome, RetryAfter):
            journey.next_attempt = delivery.attempt + (1 if outcome.counted else 0)
            # The broker counts from when it took the copy, which was before now.
            journey.due = self._now() + ticks(outcome.delay) * DELAY_TICK
        self._change()

    def find(self, message_id: str, queue: str | None = None) -> list[Journey]:
        """Find the journeys of a message, in the order of their beginnings for each queue."""
        return [
            journey
            for (where, known), journeys in self._all.items()
            if known == message_id and queue in (None, where)
            for journey in journeys
        ]

    def under_way(self) -> list[Journey]:
        """List the journeys that can go on without time passing."""
        now = self._now()
        return [journey for journey in self._open if journey.is_under_way(now)]

    def unended(self) -> list[Journey]:
        """List the journeys that have not come to their end."""
        return list(self._open)

    def next_due(self) -> float | None:
        """Return when the next delay ends; None if none is waited for."""
        return min(self._dues(), default=None)

    def late(self, journeys: Iterable[Journey], left: float) -> str | None:
        """Describe a journey that cannot end within `left` seconds, as its retry is due later."""
        now = self._now()
        for journey in journeys:
            if journey.due is not None and journey.due - now > left:
                return journey.describe(now)
        return None

    def describe(self, journeys: Iterable[Journey]) -> str:
        """Say where the messages are, for a person."""
        now = self._now()
        found = [journey.describe(now) for journey in journeys]
        more = [f"and {len(found) - MAX_DESCRIBED} more"] if len(found) > MAX_DESCRIBED else []
        return "; ".join(found[:MAX_DESCRIBED] + more) or "nothing is known of it"

    def _dues(self) -> Iterator[float]:
        now = self._now()
        for journey in self._open:
            if journey.due is not None and journey.is_waiting(now):
                yield journey.due

    def _of(self, delivery: Delivery) -> Journey:
        """Find the journey that a delivery belongs to; copies of one message may be on several."""
        journeys = self._all.setdefault((delivery.queue, delivery.message_id), [])
        for journey in journeys:
            if not journey.has_ended and journey.next_attempt == delivery.attempt:
                return journey
        now = self._now()
        for journey in journeys:
            if journey.is_ordered and journey.is_under_way(now):
                return journey
        # Another client's message, a publish whose confirm is not seen yet, or a second copy.
        second_copy = bool(journeys) and delivery.attempt > 1
        journey = Journey(delivery.message_id, delivery.queue, is_published=second_copy)
        journey.next_attempt = delivery.attempt
        self._begin(journeys, journey)
        return journey

    def _begin(self, journeys: list[Journey], journey: Journey) -> None:
        journey.is_ordered = journey.queue in self._holding
        journeys.append(journey)
        self._open.add(journey)
        self._change()

    def _change(self) -> None:
        changed, self.changed = self.changed, self.changed.get_loop().create_future()
        if not changed.done():
            changed.set_result(None)


def _told(attempt: Attempt) -> str:
    outcome = attempt.outcome
    if isinstance(outcome, RetryAfter):
        how = f"failed with {type(outcome.error).__name__}, retry in {outcome.delay:g} s"
    else:
        how = type(outcome).__name__.lower()
    return f"attempt {attempt.number} {how}"
