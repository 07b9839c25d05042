"""The event loop of `mqkit run`, and the garbage collector of a process that is mqkit's own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest
import uvloop

from mqkit.cli import loop
from mqkit.cli.loop import FULL, THRESHOLD, tune_collector
from mqkit.errors import ConfigurationError


async def running_loop() -> type[asyncio.AbstractEventLoop]:
    return type(asyncio.get_running_loop())


@pytest.mark.parametrize("name", [None, "uvloop"])
def test_it_is_uvloop_where_that_is_installed(name: str | None) -> None:
    """Without being asked for, too."""
    with loop.runner(name) as runner:
        assert runner.run(running_loop()) is uvloop.Loop


@pytest.mark.parametrize("name", [None, "asyncio"])
def test_it_is_asyncios_otherwise(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it was asked for, and where uvloop is not installed."""
    if name is None:
        monkeypatch.setattr(loop, "find_spec", lambda _: None)
    with loop.runner(name) as runner:
        assert issubclass(runner.run(running_loop()), asyncio.SelectorEventLoop)


def test_a_loop_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setattr(loop, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'mqkit\[uvloop\]'"):
        loop.check_loop("uvloop")


def test_a_typo_is_told() -> None:
    """With the name that was meant."""
    with pytest.raises(ConfigurationError, match=r"'uvlop'; did you mean uvloop\?"):
        loop.check_loop("uvlop")


@pytest.fixture(autouse=True)
def _collector_as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.enable()
    gc.set_threshold(*before)


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
    tune_collector()
    assert gc.get_threshold() == then


def test_a_collector_that_is_off_stays_off() -> None:
    """Where the service has turned the collector off, nothing is set."""
    gc.disable()
    before = gc.get_threshold()
    tune_collector()
    assert not gc.isenabled()
    assert gc.get_threshold() == before


def test_what_was_imported_is_not_looked_at_again() -> None:
    """What exists at the start is left out of every later collection."""
    gc.unfreeze()
    tune_collector()
    assert gc.get_freeze_count() > 1000


@pytest.mark.parametrize(("found", "then"), [(10, FULL), (1000, 1000)])
def test_a_broker_seldom_has_all_looked_at(found: int, then: int) -> None:
    """What waits in a broker's queues is seldom looked at; a setting that is higher is kept."""
    gc.set_threshold(700, 10, found)
    tune_collector(holds_much=True)
    assert gc.get_threshold() == (THRESHOLD, 10, then)
