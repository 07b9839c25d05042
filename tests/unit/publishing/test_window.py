"""Places in a window, and deadlines that share a timer."""

from __future__ import annotations

import asyncio

import pytest

from mqkit.publishing.window import Deadlines, Window
from tests.support import eventually


async def test_places_are_given_in_the_order_of_asking() -> None:
    """Who comes later does not pass who waits, and a place is never given twice or lost."""
    window = Window(2)
    assert window.try_acquire()
    assert window.try_acquire()
    assert not window.try_acquire()
    got: list[int] = []

    async def wait(number: int) -> None:
        await window.acquire()
        got.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(3)]
    await asyncio.sleep(0)
    window.release()
    assert not window.try_acquire()
    await tasks[0]
    tasks[1].cancel()
    window.release()
    await tasks[2]
    assert got == [0, 2]
    window.release()
    window.release()
    assert [window.try_acquire() for _ in range(3)] == [True, True, False]


async def test_idle_waits_for_all_places() -> None:
    """Those of callers who waited for one, and of one who takes another for what it held."""
    window = Window(1)
    await window.idle()
    assert window.try_acquire()
    waiting = asyncio.create_task(window.acquire())
    idle = asyncio.create_task(window.idle())
    await asyncio.sleep(0)
    window.release()
    await waiting
    window.release()
    assert window.try_acquire()  # before `idle` had its turn
    for _ in range(5):
        await asyncio.sleep(0)
    assert not idle.done()
    window.release()
    await idle


async def test_a_place_given_to_one_who_is_cancelled_goes_on() -> None:
    """A place that reaches a cancelled caller is the next one's."""
    window = Window(1)
    assert window.try_acquire()
    first, second = (asyncio.create_task(window.acquire()) for _ in range(2))
    await asyncio.sleep(0)
    window.release()
    first.cancel()
    await second
    await asyncio.wait([first])
    assert first.cancelled()
    assert not window.try_acquire()


async def test_what_has_nothing_in_time_is_late() -> None:
    """Each future gets the value at its own deadline and not before; what is done is left alone."""
    loop = asyncio.get_running_loop()
    deadlines: Deadlines[str] = Deadlines("late")
    soon, done, later = (loop.create_future() for _ in range(3))
    deadlines.watch(soon, 0.02)
    deadlines.watch(done, 0.02)
    deadlines.watch(later, 60)
    done.set_result("known")
    assert await soon == "late"
    assert done.result() == "known"
    assert not later.done()
    next_one = loop.create_future()
    deadlines.watch(next_one, 0.02)
    assert await next_one == "late"
    later.set_result("known")


async def test_each_of_a_line_has_its_own_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was given as many seconds later is not late together with the first one."""
    now = 0.0
    monkeypatch.setattr("mqkit.publishing.window.loop_clock", lambda: lambda: now)
    deadlines: Deadlines[str] = Deadlines("late")
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))
    deadlines.watch(first, 0.02)
    now = 10.0
    deadlines.watch(second, 0.02)
    assert await first == "late"
    assert not second.done()
    second.set_result("known")


async def test_what_is_closed_leaves_no_timer() -> None:
    """Where all have a value, nothing is waited for; where one has none, it is late in its time."""
    loop = asyncio.get_running_loop()
    deadlines: Deadlines[str] = Deadlines("late")
    done, open_ = loop.create_future(), loop.create_future()
    deadlines.watch(done, 30)
    deadlines.watch(open_, 0.02)
    (timer,) = [each for seconds, each in deadlines._timers.items() if seconds == 30]
    done.set_result("known")
    deadlines.close()
    assert timer.cancelled()
    assert await open_ == "late"
    again = loop.create_future()
    deadlines.watch(again, 0.02)
    assert await again == "late"
    assert not deadlines._timers


async def test_who_is_given_up_after_the_end_leaves_no_timer() -> None:
    """A waiter that is cancelled once nothing more is watched keeps no timer until its deadline."""
    deadlines: Deadlines[str] = Deadlines("late")
    waiter = asyncio.get_running_loop().create_future()
    deadlines.watch(waiter, 3600)
    deadlines.close()
    waiter.cancel()
    await eventually(lambda: not deadlines._timers)
