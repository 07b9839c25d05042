"""Who may run, and in what order."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mqkit.consuming.lanes import Lanes

KEYS = st.lists(st.one_of(st.none(), st.integers(0, 4)), max_size=20)


@given(KEYS, st.integers(1, 6), st.data())
def test_each_key_takes_its_turns_in_order_and_one_at_a_time(
    keys: list[int | None], at_a_time: int, data: st.DataObject
) -> None:
    """Whatever ends when: all run, no more than may, never two of a key, none before its turn."""
    lanes: Lanes[int] = Lanes(at_a_time)
    running: list[tuple[int, Any]] = []
    ran: dict[Any, list[int]] = defaultdict(list)
    coming = list(enumerate(keys))
    while coming or running or len(lanes):
        comes: Any = data.draw(st.booleans())
        if coming and (comes or not (running or len(lanes))):
            item, key = coming.pop(0)
            lanes.add(item, key)
        while (turn := lanes.next()) is not None:
            started, lane = turn
            assert lane is None or lane not in [other for _, other in running]
            running.append((started, lane))
            ran[lane].append(started)
        assert len(running) <= at_a_time
        ends: Any = data.draw(st.booleans())
        if running and ends:
            _, ended = running.pop(data.draw(st.integers(0, len(running) - 1)))
            lanes.done(ended)
    assert sorted(item for items in ran.values() for item in items) == list(range(len(keys)))
    assert all(items == sorted(items) for items in ran.values())


@given(KEYS, st.integers(1, 6))
def test_what_waits_can_be_taken_out(keys: list[int | None], at_a_time: int) -> None:
    """All that does not run is given, each key's in order; what comes then waits for who runs."""
    lanes: Lanes[int] = Lanes(at_a_time)
    for item, key in enumerate(keys):
        lanes.add(item, key)
    running = list(iter(lanes.next, None))
    waiting = lanes.take_waiting()
    assert sorted([item for item, _ in running] + waiting) == list(range(len(keys)))
    for wanted in set(keys):
        of_key = [item for item in waiting if keys[item] == wanted]
        assert of_key == sorted(of_key)
    assert len(lanes) == 0
    for _, lane in running:
        if lane is not None:
            lanes.add(-1, lane)
    assert lanes.next() is None or at_a_time > len(running)
    for _, lane in running:
        lanes.done(lane)
    again = [key for _, key in iter(lanes.next, None)]
    assert sorted(again, key=str) == sorted((k for _, k in running if k is not None), key=str)
