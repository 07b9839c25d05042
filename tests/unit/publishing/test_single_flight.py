"""One piece of work for all who want it done at the same time."""

from __future__ import annotations

import asyncio

import pytest

from mqkit.publishing.single_flight import SingleFlight


async def test_all_who_ask_meanwhile_share_one_piece_of_work() -> None:
    """It is done once, and all of them have what it returned."""
    shared: SingleFlight[int] = SingleFlight()
    begun = 0

    async def work() -> int:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0)
        return begun

    assert await asyncio.gather(*(shared.do("key", work) for _ in range(5))) == [1] * 5
    assert await shared.do("key", work) == 2


async def test_what_has_ended_is_not_waited_for_again() -> None:
    """Who asks in the turn in which it ended has it done anew, and gives the loop its turns."""
    shared: SingleFlight[int] = SingleFlight()
    begun = 0

    async def work() -> int:
        nonlocal begun
        begun += 1
        mine = begun
        await asyncio.sleep(0)
        return mine

    first = asyncio.create_task(shared.do("key", work))
    await asyncio.sleep(0)
    (task,) = shared._running.values()
    async with asyncio.timeout(5):
        while not task.done():
            await asyncio.sleep(0)
        assert "key" in shared._running, "the turn in which it ended is not over"
        assert await shared.do("key", work) == 2
        assert await first == 1
        assert await shared.do("key", work) == 3
    assert not shared._running


async def test_a_caller_who_goes_does_not_end_it_for_the_others() -> None:
    """One of two callers is cancelled, and the other has the result."""
    shared: SingleFlight[int] = SingleFlight()
    gate = asyncio.Event()

    async def work() -> int:
        await gate.wait()
        return 1

    one, other = (asyncio.create_task(shared.do("key", work)) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await other == 1
    with pytest.raises(asyncio.CancelledError):
        await one


async def test_what_it_raises_all_of_them_have() -> None:
    """An exception comes to every caller, and the next one has it done anew."""
    shared: SingleFlight[int] = SingleFlight()

    async def work() -> int:
        await asyncio.sleep(0)
        raise ValueError("no")

    results = await asyncio.gather(*(shared.do(1, work) for _ in range(3)), return_exceptions=True)
    assert [str(each) for each in results] == ["no"] * 3
    assert not shared._running
