"""Functions around a handler, and who is told what of messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mqkit import CallNext, Delivery, HandlerCall
from mqkit.message import Message
from mqkit.middleware import Observer, Observers, ServiceReading, compose
from mqkit.observability.metrics import Metrics
from mqkit.outcome import Ack, Lost, Outcome


async def test_the_first_is_outermost() -> None:
    """Each runs around the next, and results come back through all of them."""

    def layer(label: str) -> Any:
        async def middleware(call: HandlerCall, call_next: CallNext) -> Any:
            return [label, *await call_next(call), label]

        return middleware

    async def handler(call: HandlerCall) -> Any:
        return [call.body]

    run = compose([layer("a"), layer("b")], handler)
    assert await run(HandlerCall("s", "h", Delivery(), "x")) == ["a", "b", "x", "b", "a"]


class Together(Observer):
    """Is told of all that were settled in one turn."""

    def __init__(self) -> None:
        self.told: list[tuple[str, list[Outcome]]] = []

    def settled_together(self, handler: str, settled: Sequence[tuple[Delivery, Outcome]]) -> None:
        self.told.append((handler, [outcome for _, outcome in settled]))


class Single(Observer):
    """Is told of each, and fails at the first."""

    def __init__(self) -> None:
        self.told: list[Outcome] = []

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:
        self.told.append(outcome)
        if len(self.told) == 1:
            raise SystemExit("on purpose")


def test_an_observer_is_told_of_each_or_of_all_together(caplog: pytest.LogCaptureFixture) -> None:
    """As it has overridden; and one that fails keeps no other from being told"""
    together, single = Together(), Single()
    told = Observers([single, together])
    told.settled("h", Delivery(), Ack(1))
    told.settled_together("h", [(Delivery(), Ack(2)), (Delivery(), Lost())])
    assert together.told == [("h", [Ack(1)]), ("h", [Ack(2), Lost()])]
    assert single.told == [Ack(1), Ack(2), Lost()]
    assert caplog.text.count("h: the observer of settled deliveries failed: SystemExit") == 1


def test_nobody_is_called_for_what_no_observer_wants() -> None:
    """A publisher, a dispatcher and the store's watch then do without it"""
    told = Observers([Single()])
    assert (told.on_confirmed, told.on_ended, told.ask, told.times_runs) == (
        None,
        None,
        False,
        False,
    )
    assert told.of_arrivals is None
    every = Observers([Metrics()])
    assert every.of_arrivals is None
    assert every.on_ended == every.publish_ended
    assert (every.on_confirmed, every.ask, every.times_runs) == (None, True, True)


def test_what_observers_of_publishes_and_of_the_service_raise_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The publish goes on, and the service starts"""

    class Rude(Observer):
        def confirmed(self, message: Message) -> None:
            raise ZeroDivisionError("confirmed")

        def publish_ended(self, message: Message, seconds: float, error: Any) -> None:
            raise ZeroDivisionError("ended")

        def running(self, read: Callable[[], ServiceReading]) -> None:
            raise ZeroDivisionError("running")

    told = Observers([Rude()])
    told.confirmed(Message("e", "k", b""))
    told.publish_ended(Message("e", "k", b""), 1.0, None)
    told.running(lambda: ServiceReading("s", is_started=False, is_stopping=False))
    for what in ("confirmed messages", "publishes", "the running service"):
        assert f"the observer of {what} failed: ZeroDivisionError" in caplog.text
