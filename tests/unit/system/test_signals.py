"""Signals on an event loop that knows them, and on one that does not."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from mqkit.system.signals import STOPPING, on_signal

USED = signal.SIGINT


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    """Give the signal back to whom it belonged."""
    former = signal.getsignal(USED)
    yield
    signal.signal(USED, former)


class LoopWithoutSignals(asyncio.SelectorEventLoop):
    """As those of Windows are."""

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        raise NotImplementedError


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, LoopWithoutSignals])
def test_each_signal_is_told_on_the_loop(loop: Any) -> None:
    """With its arguments, as often as it comes."""

    async def run() -> list[str]:
        told: asyncio.Queue[str] = asyncio.Queue()
        on_signal(USED, told.put_nowait, "stop")
        for _ in range(2):
            signal.raise_signal(USED)
        return [await asyncio.wait_for(told.get(), 5) for _ in range(2)]

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(run()) == ["stop", "stop"]


def test_a_signal_after_the_end_of_the_loop_is_nothing() -> None:
    """The process ends already; nothing is raised in whatever it is at."""

    async def run() -> None:
        on_signal(USED, lambda: None)

    with asyncio.Runner(loop_factory=LoopWithoutSignals) as runner:
        runner.run(run())
    signal.raise_signal(USED)


def test_the_signals_that_stop_are_those_of_this_system() -> None:
    """Ctrl-Break is one where there is such a thing."""
    assert set(STOPPING) >= {signal.SIGTERM, signal.SIGINT}
    assert {each.name for each in STOPPING} <= {"SIGTERM", "SIGINT", "SIGBREAK"}
