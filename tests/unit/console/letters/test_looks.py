"""What was read of dead letters, kept for some seconds."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mqkit.console.letters.looks import AGAIN, AT_A_TIME, FRESH, MOST, Looks
from mqkit.dead_letters import DeadLettersInUseError


class Reading:
    """Counts how often it is read, and can be held up."""

    def __init__(self) -> None:
        self.count = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        """Read."""
        self.count += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.count


class Seconds:
    """Seconds that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        """Return them."""
        return self.now


async def test_what_was_found_is_shown_again_without_reading() -> None:
    """However often a page is loaded, until it is some seconds old."""
    seconds, reading = Seconds(), Reading()
    looks = Looks(seconds=seconds)
    for _ in range(5):
        assert (await looks.at(("a",), reading)).found == 1
    seconds.now += FRESH
    assert (await looks.at(("a",), reading)).found == 2


async def test_a_page_does_not_wait_for_a_long_reading() -> None:
    """It is told that one is under way, and what was found before; two pages read once."""
    seconds, reading = Seconds(), Reading()
    looks = Looks(seconds=seconds)
    await looks.at(("a",), reading)
    seconds.now += FRESH
    reading.gate.clear()
    first, second = await asyncio.gather(looks.at(("a",), reading), looks.at(("a",), reading))
    assert first.is_reading
    assert (first.found, second.found, reading.count) == (1, 1, 2)
    reading.gate.set()
    assert (await looks.at(("a",), reading)).found == 2


async def test_what_is_forgotten_is_read_again() -> None:
    """Of one queue, and not of others; and also what is being read just then."""
    first, second = Reading(), Reading()
    looks = Looks()
    await looks.at(("survey", "a", "x"), first)
    await looks.at(("survey", "b", "x"), second)
    looks.forget("survey", "a")
    await looks.at(("survey", "a", "x"), first)
    await looks.at(("survey", "b", "x"), second)
    assert (first.count, second.count) == (2, 1)


async def test_what_is_forgotten_while_it_is_read_is_read_again_afterwards() -> None:
    """A replay that ends meanwhile has changed what is there."""
    reading = Reading()
    looks = Looks()
    reading.gate.clear()
    await looks.at(("a",), reading)
    looks.forget("a")
    reading.gate.set()
    await looks.at(("a",), reading)
    await looks.at(("a",), reading)
    assert reading.count == 2


async def test_an_error_is_kept_and_tried_again_later() -> None:
    """What was found before stays, beside the error."""
    seconds, reading = Seconds(), Reading()
    looks = Looks(seconds=seconds)
    await looks.at(("a",), reading)
    seconds.now += FRESH
    reading.error = DeadLettersInUseError("a handler consumes them")
    for _ in range(3):
        look = await looks.at(("a",), reading)
        assert (look.found, str(look.error)) == (1, "a handler consumes them")
    assert reading.count == 2
    reading.error = None
    seconds.now += AGAIN
    look = await looks.at(("a",), reading)
    assert (look.found, look.error) == (3, None)


async def test_an_error_that_is_not_mqkits_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A page says that it failed, and nothing of what failed."""
    reading = Reading()
    reading.error = RuntimeError("planted")
    with caplog.at_level(logging.ERROR):
        look = await Looks().at(("a",), reading)
    assert "planted" not in str(look.error)
    assert "planted" in caplog.text


async def test_nothing_is_read_while_it_may_not_be() -> None:
    """A replay has the queue."""
    reading = Reading()
    look = await Looks().at(("a",), reading, may_read=False)
    assert (reading.count, look.found, look.is_reading) == (0, None, False)


async def test_few_are_read_at_a_time_and_kept() -> None:
    """Whoever opens many pages opens no connection for each; the oldest are forgotten."""
    looks, readings = Looks(), [Reading() for _ in range(MOST + 5)]
    for each in readings:
        each.gate.clear()
    waiting = [
        asyncio.create_task(looks.at((str(number),), each)) for number, each in enumerate(readings)
    ]
    await asyncio.wait(waiting)
    assert sum(each.count for each in readings) == AT_A_TIME
    for each in readings:
        each.gate.set()
    await asyncio.gather(*(looks.at((str(n),), each) for n, each in enumerate(readings)))
    await looks.at(("last",), Reading())
    assert looks.known(("0",)) is None
    assert looks.known(("last",)) is not None


async def test_looks_that_are_under_way_end_with_the_console() -> None:
    """None is left that would hold a lock."""
    reading = Reading()
    looks = Looks()
    reading.gate.clear()
    await looks.at(("a", "queue"), reading)
    await looks.close()
    await looks.ended("queue")
    assert not looks._kept["a", "queue"].look.is_reading
