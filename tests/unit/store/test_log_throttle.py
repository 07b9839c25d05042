"""One line a cause and minute."""

from __future__ import annotations

from mqkit.store.log_throttle import EVERY, MAX_CAUSES, LogThrottle


def test_a_cause_is_told_of_once_a_minute_with_its_count() -> None:
    """The first time at once; another cause has a line of its own."""
    now = 0.0
    throttle = LogThrottle(lambda: now)
    assert [throttle.due("a") for _ in range(5)] == [1, 0, 0, 0, 0]
    assert throttle.due("b") == 1
    now = EVERY
    assert [throttle.due("a"), throttle.due("a"), throttle.due("b", 3)] == [5, 0, 3]


def test_causes_without_end_take_no_memory_without_end() -> None:
    """Those that were told of longest ago are forgotten."""
    throttle = LogThrottle(lambda: 0.0)
    assert all(throttle.due(i) == 1 for i in range(3 * MAX_CAUSES))
    assert len(throttle._causes) == MAX_CAUSES
    assert throttle.due(0) == 1
