"""When a message's time to live ends."""

from __future__ import annotations

from mqkit import Delivery
from mqkit.consuming.expiry import expired, in_time, left
from mqkit.message import Properties, time_to_live
from mqkit.outcome import DeadLetter, DeathReason, Forward, RetryAfter

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
    assert left(worth(None), 5.0) is None
    assert left(worth(10.0), 5.0, 2.0) == 3.0
    assert left(worth(10.0), 12.0) == 0.001


def test_a_retry_tells_its_time_in_a_header_of_its_own() -> None:
    """It counts before the property; nonsense in it does not."""
    assert time_to_live(Properties()) is None
    assert time_to_live(Properties(expiration=2.5)) == 2.5
    retry = Properties(headers={"mqkit-time-to-live": 1500})
    assert time_to_live(retry) == 1.5
    for nonsense in (-1, True, "3", None, 2.5):
        odd = Properties(expiration=7.0, headers={"mqkit-time-to-live": nonsense})
        assert time_to_live(odd) == 7.0
