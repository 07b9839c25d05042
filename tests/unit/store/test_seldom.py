"""One line a cause and minute."""

from __future__ import annotations

from mqkit.store.seldom import EVERY, MAX_CAUSES, Seldom


def test_a_cause_is_told_of_once_a_minute_with_its_count() -> None:
    """The first time at once; another cause has a line of its own."""
    now = 0.0
    seldom = Seldom(lambda: now)
    assert [seldom.due("a") for _ in range(5)] == [1, 0, 0, 0, 0]
    assert seldom.due("b") == 1
    now = EVERY
    assert [seldom.due("a"), seldom.due("a"), seldom.due("b", 3)] == [5, 0, 3]


def test_causes_without_end_take_no_memory_without_end() -> None:
    """Those that were told of longest ago are forgotten."""
    seldom = Seldom(lambda: 0.0)
    assert all(seldom.due(i) == 1 for i in range(3 * MAX_CAUSES))
    assert len(seldom._causes) == MAX_CAUSES
    assert seldom.due(0) == 1
