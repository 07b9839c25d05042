"""The state of this process, made of what its service reads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mqkit import Delivery
from mqkit.middleware import ServiceReading, StoreReading
from mqkit.observability.states.state import State, decode, encode
from mqkit.observability.states.tally import Tally
from mqkit.observability.states.telling import Identity, state_of
from mqkit.outcome import Ack
from mqkit.pause import Status
from tests.unit.observability.readings import consumer, reading

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WHO = Identity("0123456789abcdef", "host-1", 7, NOW)


def told(of: ServiceReading, tally: Tally | None = None, **options: Any) -> State:
    """The state, by way of its JSON."""
    state = state_of(
        of, tally or Tally(), WHO, at=NOW, up=5.0, every=2.0, server="RabbitMQ 4.3.6", **options
    )
    assert decode(encode(state)) == state
    return state


def test_it_says_who_and_how_the_process_is() -> None:
    """Its service, its machine, its connections, and that nothing is wrong."""
    state = told(reading())
    assert (state.id, state.host, state.pid, state.service) == (WHO.id, "host-1", 7, "ledger")
    assert (state.phase, state.problems, state.up, state.every) == ("running", (), 5.0, 2.0)
    assert [(c.name, c.is_up, c.opened, c.blocked_seconds) for c in state.connections] == [
        ("consume", True, 1, 0.0),
        ("publish", True, 3, 1.5),
    ]
    assert state.store is None


def test_its_phase_is_that_of_the_service() -> None:
    """From starting to ended."""
    assert told(reading(is_started=False)).phase == "starting"
    assert told(reading(is_stopping=True)).phase == "stopping"
    assert told(reading(is_stopping=True), has_ended=True).phase == "ended"


def test_consumers_of_one_handler_are_one() -> None:
    """Their statuses are counted, their reasons told once, their pauses added up as in metrics."""
    partitions = [
        consumer(
            Status.PAUSED if number else Status.CONSUMING,
            "DownError, 3 times" if number else "",
            consumed=f"q.{number}",
            is_partition=True,
            in_flight=1 if number == 0 else 0,
            settled_ago=[None, 5.0, 500.0][number],
            pauses=2,
        )
        for number in range(3)
    ]
    tally = Tally()
    tally.settled("post", Delivery(queue="q"), Ack())
    (handler,) = told(reading(*partitions), tally).handlers
    assert handler.consumers == {"consuming": 1, "paused": 2}
    assert handler.because == ("DownError, 3 times",)
    assert (handler.in_flight, handler.pauses, handler.partitions) == (1, 6, 3)
    assert handler.owned == {"q.0": 0.0, "q.1": 5.0}
    assert handler.acked == 1


def test_a_handler_is_there_before_its_first_message() -> None:
    """With zeros, so that its first message is a rise."""
    (handler,) = told(reading(consumer())).handlers
    assert (handler.handler, handler.queue, handler.settled) == ("post", "q", 0)


def test_a_store_is_up_or_down() -> None:
    """With what it has yet to do, where it answers."""
    assert told(reading(has_store=True)).store is not None
    down = told(reading(has_store=True)).store
    assert down is not None
    assert not down.is_up
    store = StoreReading(3, 1, 2.5, {("payment", "running"): 4})
    up = told(reading(has_store=True, store=store)).store
    assert up is not None
    assert (up.is_up, up.waiting, up.dead, up.oldest) == (True, 3, 1, 2.5)
    assert [(s.name, s.status, s.count) for s in up.sagas] == [("payment", "running", 4)]


def test_a_thousand_partitions_that_are_paused_are_a_state_that_can_be_read() -> None:
    """What is wrong with them is told of some, and how many more there are."""
    many = [
        consumer(Status.PAUSED, f"Error{n} in a.py:1", consumed=f"q.{n}", is_partition=True)
        for n in range(1000)
    ]
    state = told(reading(*many))
    assert len(state.problems) == 20
    assert state.problems[-1] == "and 981 more"
    assert len(encode(state)) < 10_000
