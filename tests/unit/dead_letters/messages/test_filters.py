"""Which dead letters a filter means."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from mqkit.dead_letters.messages.filters import EVERYTHING, Filter
from mqkit.dead_letters.messages.letters import read
from mqkit.errors import OptionError
from tests.unit.dead_letters.samples import NOW, QUEUE, failed, incoming, letter, named, raised

SECOND = timedelta(seconds=1)
FOUND = letter(failed(raised(ValueError()), tenant="t", n=5, yes=True, raw=b"\xff", nothing=None))


@pytest.mark.parametrize(
    "meant",
    [
        EVERYTHING,
        Filter(groups=frozenset({FOUND.group, "00000000"})),
        Filter(ids=frozenset({"m-1"})),
        Filter(ids=frozenset({FOUND.ref})),
        Filter(handler="shop.ledger.post"),
        Filter(since=NOW),
        Filter(since=NOW - SECOND, until=NOW + SECOND),
        Filter(headers={"tenant": "t", "n": "5", "yes": "true"}),
        Filter(headers={"raw": b"\xff".decode(errors="surrogateescape")}),
        Filter(headers={"nothing": "None"}),
    ],
)
def test_what_meets_all_is_meant(meant: Filter) -> None:
    """Each part of a filter matches by what the message has."""
    assert meant.matches(FOUND)


@pytest.mark.parametrize(
    "other",
    [
        Filter(groups=frozenset({"00000000"})),
        Filter(ids=frozenset({"m-2"})),
        Filter(handler="shop.ledger"),
        Filter(since=NOW + SECOND),
        Filter(until=NOW),
        Filter(headers={"tenant": "u"}),
        Filter(headers={"tenant": "t", "missing": ""}),
        Filter(ids=frozenset({"m-1"}), handler="other"),
    ],
)
def test_what_misses_one_is_not_meant(other: Filter) -> None:
    """A filter means what meets all that it says."""
    assert not other.matches(FOUND)


def test_a_message_without_a_time_is_in_no_range() -> None:
    """A range of time leaves out what does not tell when it failed."""
    found = read(incoming(), queue=QUEUE)
    assert not Filter(since=NOW).matches(found)
    assert not Filter(until=NOW).matches(found)
    assert not Filter(headers={"tenant": "t"}).matches(read(named({}), queue=QUEUE))


@pytest.mark.parametrize(
    "wrong",
    [
        {"groups": "abc"},
        {"groups": {"xyz"}},
        {"groups": {""}},
        {"ids": {5}},
        {"ids": {""}},
        {"handler": ""},
        {"since": "2026"},
        {"since": datetime(2026, 1, 1)},  # noqa: DTZ001 - what is refused
        {"since": NOW, "until": NOW},
        {"headers": {"a": 5}},
        {"headers": ["a"]},
    ],
)
def test_what_is_no_filter_is_refused(wrong: dict[str, Any]) -> None:
    """A value that could match nothing by mistake is an error."""
    with pytest.raises(OptionError):
        Filter(**wrong)
