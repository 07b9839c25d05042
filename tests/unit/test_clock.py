"""The seconds that mqkit goes by are the running event loop's."""

from __future__ import annotations

import asyncio
import importlib
import time

import pytest

from mqkit.clock import loop_clock, monotonic
from mqkit.embedded.engine.clock import Clock


class Slow(asyncio.SelectorEventLoop):
    """A loop with a time of its own."""

    def time(self) -> float:
        return 7.0


async def _read() -> list[float]:
    return [loop_clock()(), monotonic(), Clock().unmoved()]


def test_a_loop_with_a_time_of_its_own_is_gone_by() -> None:
    """A simulated one, say; the embedded broker's clock does the same."""
    with asyncio.Runner(loop_factory=Slow) as runner:
        assert runner.run(_read()) == [7.0] * 3


@pytest.mark.parametrize("module", ["asyncio", "uvloop"])
def test_real_loops_have_the_systems_clock(module: str) -> None:
    """The own one of uvloop stands still within a turn, whose length is measured."""

    async def clocks() -> list[object]:
        return [loop_clock(), Clock().unmoved]

    with asyncio.Runner(loop_factory=importlib.import_module(module).new_event_loop) as runner:
        assert runner.run(clocks()) == [time.monotonic] * 2


def test_without_a_loop_it_is_the_systems_clock() -> None:
    """What is made before a loop runs has a clock, too."""
    assert loop_clock() is time.monotonic
