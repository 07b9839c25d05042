"""The rule of trust for mqkit's own headers, and time to live."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from mqkit import Delivery
from mqkit.broker.delays import DELIVER, level_name
from mqkit.consuming.headers import (
    drop_untrusted_headers,
    expired,
    in_time,
    seconds_to_live,
    time_to_live,
)
from mqkit.drivers.base import Incoming
from mqkit.message import HeaderValue, Properties
from mqkit.outcome import DeadLetter, DeathReason, Forward, RetryAfter


def left(exchange: str, routing_key: str, queue: str, *names: str) -> set[str]:
    """The names of the headers that are left of these."""
    headers: dict[str, HeaderValue] = dict.fromkeys(names, "4711")
    incoming = Incoming(1, False, exchange, routing_key, Properties(headers=headers), b"")
    drop_untrusted_headers(incoming, queue)
    return set(incoming.properties.headers)


ALL = ("mqkit-publish", "mqkit-attempt", "mqkit-elapsed", "mqkit-reason", "mqkit-new", "tenant")


@pytest.mark.parametrize(
    ("exchange", "routing_key", "queue", "names"),
    [
        (DELIVER, "0.0.q", "q", {*ALL} - {"mqkit-publish"}),
        (level_name(3), "0.0.q", "q", {*ALL} - {"mqkit-publish"}),
        ("mqkit.delay.v10.deliver", "0.0.q", "q", {"tenant"}),
        ("orders", "new", "q", {"tenant"}),
        ("", "q", "q", {"tenant"}),
        ("", "q.dead", "q.dead", {"mqkit-reason", "mqkit-new", "tenant"}),
        ("orders", "q.dead", "q.dead", {"tenant"}),
        ("", "q.dead", "q", {"tenant"}),
    ],
)
def test_a_header_is_believed_by_the_way_it_came(
    exchange: str, routing_key: str, queue: str, names: set[str]
) -> None:
    """All but the publish number from the ladder; what tells of a failure in a dead letter."""
    assert left(exchange, routing_key, queue, *ALL) == names


HELD = {"queue": "mqkit.delay.v1.later.03", "reason": "expired"}
LANDED = {"queue": "mqkit.delay.v1.to.03.orders", "reason": "expired"}
ELSEWHERE = {"queue": "orders.old", "reason": "rejected"}


@pytest.mark.parametrize(
    ("deaths", "are_left"),
    [
        ([LANDED, HELD], False),
        ([ELSEWHERE, LANDED, HELD], True),
        ([ELSEWHERE], True),
        ("nonsense", True),
        ([1], True),
        ([{}], True),
    ],
)
def test_what_the_broker_tells_of_a_delay_is_hidden(deaths: Any, are_left: bool) -> None:
    """A stay in the ladders leaves no `x-death`; a dead letter of another queue keeps it all."""
    headers: dict[str, HeaderValue] = {
        "x-death": deaths,
        "x-first-death-queue": "q",
        "x-last-death-queue": "q",
        "mqkit-landing": "q",
        "mqkit-hold-03": True,
        "tenant": "a",
    }
    incoming = Incoming(1, False, "orders", "new", Properties(headers=headers), b"")
    drop_untrusted_headers(incoming, "q")
    of_deaths = {"x-death", "x-first-death-queue", "x-last-death-queue"}
    assert set(incoming.properties.headers) == {"tenant"} | (of_deaths if are_left else set())


def test_what_is_dropped_is_logged_without_its_value(caplog: pytest.LogCaptureFixture) -> None:
    """The log says how many were dropped of which message, and nothing of what they held."""
    caplog.set_level(logging.DEBUG, "mqkit.consuming.headers")
    left("orders", "new", "q", *ALL)
    assert "4 are dropped" in caplog.text
    assert "4711" not in caplog.text


def test_the_number_of_a_publish_alone_is_not_worth_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every message from mqkit has one; it goes, and nothing is logged."""
    caplog.set_level(logging.DEBUG, "mqkit.consuming.headers")
    assert left("orders", "new", "q", "mqkit-publish", "tenant") == {"tenant"}
    assert caplog.text == ""


def test_names_that_are_no_utf_8_are_the_applications() -> None:
    """They stay, but for those that begin as mqkit's do."""
    assert left("x", "k", "q", "\udcff", "mqkit-\udcff", "\udcffmqkit-") == {
        "\udcff",
        "\udcffmqkit-",
    }


ERROR = ValueError("why")


def worth(until: float | None) -> Delivery:
    return Delivery(expires=until)


def test_a_message_is_worth_handling_until_its_time_ends() -> None:
    """Before that there is nothing to say, and from then on it is dead; without one it never is."""
    assert expired(worth(None), 1e9) is None
    assert expired(worth(10.0), 9.9) is None
    dead = expired(worth(10.0), 10.0)
    assert dead is not None
    assert dead.reason is DeathReason.EXPIRED


def test_a_copy_that_would_come_too_late_is_a_dead_letter() -> None:
    """A retry is judged by when it is due, and what is on its way to a partition by now."""
    in_four = RetryAfter(4.0, ERROR)
    assert in_time(worth(None), in_four, 1e9) is in_four
    assert in_time(worth(10.0), in_four, 5.9) is in_four
    late = in_time(worth(10.0), in_four, 6.0)
    assert isinstance(late, DeadLetter)
    assert late.reason is DeathReason.EXPIRED
    assert late.error.__cause__ is ERROR
    assert in_time(worth(10.0), Forward("q.1"), 9.0) == Forward("q.1")
    assert isinstance(in_time(worth(10.0), Forward("q.1"), 11.0), DeadLetter)
    dead = DeadLetter(DeathReason.REJECTED, ERROR)
    assert in_time(worth(10.0), dead, 11.0) is dead


def test_a_copy_has_what_is_left_after_its_delay() -> None:
    """Counted down, and never nothing: with 0 the broker would drop it at once."""
    assert seconds_to_live(worth(None), 5.0) is None
    assert seconds_to_live(worth(10.0), 5.0, 2.0) == 3.0
    assert seconds_to_live(worth(10.0), 12.0) == 0.001


def test_a_retry_tells_its_time_in_a_header_of_its_own() -> None:
    """It counts before the property; nonsense in it does not."""
    assert time_to_live(Properties()) is None
    assert time_to_live(Properties(expiration=2.5)) == 2.5
    retry = Properties(headers={"mqkit-time-to-live": 1500})
    assert time_to_live(retry) == 1.5
    for nonsense in (-1, True, "3", None, 2.5):
        odd = Properties(expiration=7.0, headers={"mqkit-time-to-live": nonsense})
        assert time_to_live(odd) == 7.0
