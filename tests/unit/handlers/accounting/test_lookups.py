"""What is looked up by one statement."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handlers.accounting.lookups import to_look_up


@given(st.lists(st.integers(), max_size=600))
def test_look_ups_have_few_sizes_and_the_values_that_were_given(values: list[int]) -> None:
    """The sizes up to 512 are ten, and the values are those that were given, in their order."""
    found = to_look_up(values)
    assert found[: len(values)] == values
    assert set(found) == set(values)
    assert len(found) in {0, *(1 << power for power in range(11))}
    assert len(found) < 2 * len(values) or found == values
