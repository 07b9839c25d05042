"""Coroutines on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from mqkit.console.letters.aside import Aside


async def test_results_and_errors_come_back() -> None:
    """From another thread, and another loop."""
    aside = Aside()
    here = asyncio.get_running_loop()

    async def where() -> tuple[str, bool]:
        return threading.current_thread().name, asyncio.get_running_loop() is here

    async def fail() -> None:
        raise KeyError("a")

    assert await aside.run(where) == ("mqkit console reader", False)
    with pytest.raises(KeyError, match="a"):
        await aside.run(fail)
    await aside.close()


async def test_what_holds_up_its_loop_does_not_hold_up_this_one() -> None:
    """Turns go on here while a coroutine there gives none."""
    aside = Aside()
    turns = 0
    is_done = threading.Event()

    async def busy() -> None:
        is_done.wait(10)

    running = asyncio.create_task(aside.run(busy))
    while turns < 5:
        await asyncio.sleep(0)
        turns += 1
    assert not running.done()
    is_done.set()
    await running
    await aside.close()


async def test_a_cancel_is_handed_on_and_waited_for() -> None:
    """What was under way there has ended by the time that the cancel is told of here."""
    aside = Aside()
    began, ended = threading.Event(), threading.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            time.sleep(0.01)  # noqa: ASYNC251 - as what gives back messages takes a while
            ended.set()

    running = asyncio.create_task(aside.run(work))
    await asyncio.to_thread(began.wait)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()
    await aside.close()


async def test_what_is_under_way_is_cancelled_at_the_end() -> None:
    """The thread ends, and who waits is told; closed again, or never begun, it does nothing."""
    aside = Aside()
    began = threading.Event()

    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(aside.run(work))
    await asyncio.to_thread(began.wait)
    await aside.close()
    with pytest.raises(asyncio.CancelledError):
        await running
    await aside.close()
    await Aside().close()
    assert not [each for each in threading.enumerate() if each.name == "mqkit console reader"]
