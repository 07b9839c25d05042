"""How long messages wait: formulas against known values, and against a simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from mqkit.capacity import MAX_WORKERS, Load, waits, workers_for
from mqkit.errors import OptionError
from tests.unit.capacity.simulated import simulated_waits


def test_one_worker_is_as_pollaczek_and_khinchine_say() -> None:
    """The mean wait of M/G/1 is exact for every spread: rho s (1 + cv^2) / 2 (1 - rho)."""
    for cv in (0.0, 0.5, 1.0, 3.0):
        found = waits(Load(8, 0.1, cv), 1)
        assert found.mean == pytest.approx(0.8 * 0.1 * (1 + cv**2) / 2 / 0.2)


def test_erlangs_c_has_its_known_values() -> None:
    """Of 5 workers of which 4 are busy, 0.5541 wait: the tables' value of C(5, 4)."""
    found = waits(Load(40, 0.1), 5)
    assert found.chance == pytest.approx(0.5541, abs=1e-4)
    assert found.mean == pytest.approx(0.5541 / 10, abs=1e-5)
    assert found.utilisation == pytest.approx(0.8)
    assert found.capacity == pytest.approx(50)
    assert found.response == pytest.approx(found.mean + 0.1)


@pytest.mark.parametrize(
    ("workers", "utilisation", "cv"),
    [
        (1, 0.4, 1.0),
        (4, 0.6, 1.0),
        (4, 0.8, 1.0),
        (4, 0.6, 0.0),
        (4, 0.8, 0.5),
        (8, 0.9, 0.3),
        (4, 0.7, 2.0),
    ],
)
def test_a_simulation_waits_as_long_as_is_computed(
    workers: int, utilisation: float, cv: float
) -> None:
    """The mean is that of 160,000 messages queued one by one, and 99 of 100 wait no longer."""
    load = Load(utilisation * workers / 0.1, 0.1, cv)
    computed = waits(load, workers)
    runs = [simulated_waits(load, workers, messages=40_000, seed=seed) for seed in range(4)]
    waited = sorted(each for run in runs for each in run)
    assert computed.mean == pytest.approx(sum(waited) / len(waited), rel=0.1)
    longest = waited[int(0.99 * len(waited))]
    assert computed.quantile(0.99) == pytest.approx(longest, rel=0.2)
    assert computed.longer_than(longest) == pytest.approx(0.01, abs=0.006)


def test_the_fewest_workers_hold_the_deadline_and_one_fewer_do_not() -> None:
    """What is found is the smallest number for which the quantile is within the deadline."""
    for deadline in (0.0, 0.01, 0.2, 3.0):
        load = Load(95, 0.2, 0.7)
        found = workers_for(load, deadline, 0.99)
        assert found.quantile(0.99) <= deadline + 1e-12
        fewer = waits(load, found.workers - 1)
        assert not fewer.is_stable or fewer.quantile(0.99) > deadline


def test_a_load_that_is_too_much_waits_for_ever() -> None:
    """At a utilisation of 1 and more there is no mean, no quantile, and no end of a backlog."""
    for rate in (50, 51, 1e9):
        found = waits(Load(rate, 0.1), 5)
        assert not found.is_stable
        assert found.mean == found.quantile(0.5) == found.drain(1) == math.inf
        assert (found.longer_than(10), found.drain(0)) == (1.0, 0.0)


def test_a_backlog_is_gone_by_what_is_to_spare() -> None:
    """50 a second can be done, 40 come: 1,000 are gone after 100 s."""
    assert waits(Load(40, 0.1), 5).drain(1_000) == pytest.approx(100)


@pytest.mark.parametrize("number", [math.nan, math.inf, -1, "4", None, True, 10**400])
@pytest.mark.parametrize(
    "make",
    [
        lambda number: Load(number, 1),
        lambda number: Load(1, number),
        lambda number: Load(1, 1, number),
        lambda number: workers_for(Load(1, 1), number, 0.9),
        lambda number: workers_for(Load(1, 1), 1, number),
        lambda number: waits(Load(0.1, 1), 1).quantile(number),
    ],
)
def test_what_is_no_such_number_is_refused(
    make: Callable[[object], object], number: object
) -> None:
    """Whatever cannot be a rate, a time, a spread or a share raises an error that shows it."""
    with pytest.raises(OptionError, match="not "):
        make(number)


@pytest.mark.parametrize("number", [1e308, 1.01e15, 2**70])
def test_a_number_that_is_too_large_says_what_may_be(number: float) -> None:
    """1e308 is more than 0: the error names the limit that it is over, and what to look at."""
    words = r"up to 1e\+15, not .*: more is a slip .* units"
    with pytest.raises(OptionError, match=words):
        Load(number, 1)
    with pytest.raises(OptionError, match=words):
        Load(1, 1, number)
    with pytest.raises(OptionError, match=r"0 or more and up to 1e\+15"):
        workers_for(Load(1, 1), number, 0.9)


@pytest.mark.parametrize("workers", [0, -1, MAX_WORKERS + 1, 10**9, 1.5, True, math.nan])
def test_what_is_no_number_of_workers_is_refused(workers: object) -> None:
    """A billion workers are refused and not computed for an hour."""
    with pytest.raises(OptionError, match="number of workers is 1 to 1000000"):
        waits(Load(1, 1), workers)  # type: ignore[arg-type]


def test_what_takes_too_many_workers_says_so_and_ends_soon() -> None:
    """A rate in the wrong unit is an error that says what to look at."""
    for rate, seconds in ((1e9, 1.0), (1e15, 1e15), (MAX_WORKERS, 1.0)):
        with pytest.raises(OptionError, match="look at the units"):
            workers_for(Load(rate, seconds), 1, 0.99)


def test_extremes_are_computed_without_overflow() -> None:
    """Next to no load waits for next to nothing, and a thousand busy workers less than one."""
    assert waits(Load(1e-12, 1e-9), 1).mean == pytest.approx(0, abs=1e-15)
    assert waits(Load(1, 1e-300), 5).quantile(0.999) == 0
    many = waits(Load(9_900, 1), 10_000)
    assert 0 < many.mean < waits(Load(0.99, 1), 1).mean
    assert waits(Load(1, 0.5, 1e6), 1).mean == pytest.approx(0.5 * (1 + 1e12) / 2)
