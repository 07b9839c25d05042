"""The garbage collector of a process that is mqkit's own."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from mqkit.cli.collector import FULL, THRESHOLD, spare_broker, spare_collector


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.enable()
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.parametrize(
    ("found", "then"),
    [
        ((700, 10, 10), (THRESHOLD, 10, 10)),
        ((2000, 5, 7), (THRESHOLD, 5, 7)),
        ((50_000, 10, 10), (50_000, 10, 10)),
        ((0, 10, 10), (0, 10, 10)),
    ],
)
def test_the_collector_looks_less_often(
    found: tuple[int, int, int], then: tuple[int, int, int]
) -> None:
    """A low threshold is raised; one that the service has raised or turned off is kept."""
    gc.set_threshold(*found)
    spare_collector()
    assert gc.get_threshold() == then


def test_a_collector_that_is_off_stays_off() -> None:
    """Where the service has turned the collector off, nothing is set."""
    gc.disable()
    before = gc.get_threshold()
    spare_collector()
    assert not gc.isenabled()
    assert gc.get_threshold() == before


def test_what_was_imported_is_not_looked_at_again() -> None:
    """What exists at the start is left out of every later collection."""
    gc.unfreeze()
    spare_collector()
    assert gc.get_freeze_count() > 1000


@pytest.mark.parametrize(("found", "then"), [(10, FULL), (1000, 1000)])
def test_a_broker_seldom_has_all_looked_at(found: int, then: int) -> None:
    """What waits in a broker's queues is seldom looked at; a setting that is higher is kept."""
    gc.set_threshold(700, 10, found)
    spare_broker()
    assert gc.get_threshold() == (THRESHOLD, 10, then)
