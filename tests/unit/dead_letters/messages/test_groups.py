"""Groups of dead letters that failed alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from mqkit.dead_letters.messages.groups import MAX_GROUPS, OTHER, grouped
from tests.unit.dead_letters.samples import NOW, letter


def test_groups_count_and_know_first_and_last() -> None:
    """The largest group is first; the text is that of the last failure."""
    base = letter()
    late = replace(base, last_failure=NOW + timedelta(hours=1), error_message="late", replays=2)
    other = replace(base, place="elsewhere.py:1 in f", last_failure=None)
    first, second = grouped([late, base, other, base])
    assert (first.count, first.first, first.last) == (3, NOW, NOW + timedelta(hours=1))
    assert (first.error_message, first.replayed, first.size) == ("late", 1, 6)
    assert (second.count, second.first, second.last) == (1, None, None)


def test_groups_without_end_are_bounded() -> None:
    """Whoever writes another place into each message fills no memory: the rest is one group."""
    base = letter()
    found = grouped(replace(base, place=f"p{n}") for n in range(MAX_GROUPS + 5))
    assert len(found) == MAX_GROUPS + 1
    assert (found[0].group, found[0].count) == (OTHER, 5)
