"""The ladder of what is published later: its routing, walked as the broker would."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.broker.delays import ticks
from mqkit.broker.later import (
    DUE,
    HOLD,
    LANDING,
    LANDINGS,
    entry,
    landing_name,
    level_name,
    seconds_left,
)
from mqkit.message import Message, Properties
from mqkit.outcome import DELAY_LEVELS, DELAY_TICK, MAX_DELAY

NOW = datetime(2026, 11, 30, tzinfo=UTC)


def walk(message: Message) -> int:
    """Follow a message to the ladder's end: the ticks that it waited."""
    waited, exchange = 0, message.exchange
    while exchange != DUE:
        level = int(exchange[-2:])
        held = message.properties.headers[f"{HOLD}{level:02d}"]
        assert held is True or held is False
        waited += held * 2**level
        exchange = level_name(level - 1) if level else DUE
    return waited


@given(
    count=st.integers(0, 2**DELAY_LEVELS - 1),
    exchange=st.text(max_size=80),
    key=st.text(max_size=80),
)
def test_any_delay_waits_exactly_and_keeps_the_message(count: int, exchange: str, key: str) -> None:
    """Whatever the delay and the names, it waits its ticks, with its own key, body and headers."""
    properties = Properties(message_id="m", headers={"a": 1, "x-death": []}, priority=3)
    message = Message(exchange, key, b"body", properties, mandatory=True, due=NOW)
    held = entry(message, count * DELAY_TICK)
    assert walk(held) == count
    assert (held.routing_key, held.body, held.due) == (key, b"body", None)
    assert held.properties.headers[LANDING] == landing_name(exchange, key)
    assert held.properties.headers["a"] == 1
    assert "x-death" not in held.properties.headers
    assert held.properties.priority == 3
    assert held.properties.timestamp == NOW  # as if it were published then


@given(seconds=st.floats(-1e6, 1e9), early=st.floats(0, 100), exchange=st.just("x"))
def test_what_is_written_late_is_due_at_the_same_time(
    seconds: float, early: float, exchange: str
) -> None:
    """Time that has passed before the write is part of the delay, and no message is early."""
    due = NOW + timedelta(seconds=seconds)
    now = NOW + timedelta(seconds=early)
    left = seconds_left(due, now)
    assert 0 <= left <= MAX_DELAY
    comes = now + timedelta(seconds=ticks(left) * DELAY_TICK)
    if 0 < left < MAX_DELAY:
        assert timedelta(microseconds=-1) <= comes - due < timedelta(seconds=DELAY_TICK + 1e-5)
    elif left == 0:
        assert due <= now


@given(exchange=st.text(max_size=255), key=st.text(max_size=255))
def test_a_landing_queue_has_a_name_that_is_its_exchanges(exchange: str, key: str) -> None:
    """It fits into a short string, and no other exchange of such a name gets the same."""
    name = landing_name(exchange, key)
    assert len(name.encode(errors="surrogateescape")) <= 255
    assert name == landing_name(exchange, key)
    assert name != landing_name(f"{exchange}.", key)


def test_the_keys_of_an_exchange_share_a_few_landing_queues() -> None:
    """However many keys there are, there are no more queues than `LANDINGS`."""
    names = {landing_name("payments", f"account.{number}") for number in range(1_000)}
    assert len(names) == LANDINGS


def test_long_names_that_begin_alike_have_landing_queues_of_their_own() -> None:
    """What is cut from a name is in its digest."""
    first, second = (landing_name("x" * 254 + end, "k") for end in "ab")
    assert first != second
    assert (len(first), len(second)) == (255, 255)


@pytest.mark.parametrize("delay", [-1.0, MAX_DELAY + 1])
def test_what_the_ladder_cannot_hold_is_refused(delay: float) -> None:
    """A negative or a longer delay is a ValueError."""
    with pytest.raises(ValueError, match="a delay is"):
        entry(Message("x", "k", b""), delay)
