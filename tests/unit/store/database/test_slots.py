"""TransactionSlots for transactions: in order, without a timeout, but for one within another."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mqkit.store.database import slots as slots_module
from mqkit.store.database.slots import TransactionSlots


async def test_places_are_taken_in_the_order_in_which_they_are_asked_for() -> None:
    """But for those in front, who go next."""
    slots, order = TransactionSlots(1), list[str]()
    begin = asyncio.Event()

    async def hold(name: str, *, front: bool = False) -> None:
        async with slots.hold(front=front, nested_timeout=1):
            order.append(name)
            await begin.wait()

    tasks = [asyncio.create_task(hold(name)) for name in "abc"]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(hold("front", front=True)))
    await asyncio.sleep(0)
    begin.set()
    await asyncio.gather(*tasks)
    assert order == ["a", "front", "b", "c"]


async def test_a_place_within_another_is_waited_for_so_long() -> None:
    """It may be what it waits for; a task that outlives its slot is within none."""
    slots = TransactionSlots(1)
    go_on = asyncio.Event()

    async def later() -> None:
        await go_on.wait()
        async with slots.hold(front=False, nested_timeout=0):
            pass

    async with slots.hold(front=False, nested_timeout=0):
        with pytest.raises(TimeoutError):
            async with slots.hold(front=False, nested_timeout=0.01):
                pass
        task = asyncio.create_task(later())
    async with slots.hold(front=False, nested_timeout=0):
        go_on.set()
        await asyncio.sleep(0.02)
    await task


async def test_a_place_is_lost_to_no_cancellation() -> None:
    """Neither while it is waited for, nor at the moment in which it is given."""
    slots = TransactionSlots(2)
    taken = 0

    async def hold() -> None:
        nonlocal taken
        async with slots.hold(front=False, nested_timeout=1):
            taken += 1
            assert taken <= 2
            try:
                await asyncio.sleep(0)
            finally:
                taken -= 1

    for cancel_after in range(6):
        tasks = [asyncio.create_task(hold()) for _ in range(12)]
        for _ in range(cancel_after):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert slots._free == 2
        assert not slots._waiting


async def test_a_long_wait_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However many wait."""
    monkeypatch.setattr(slots_module, "WARN_AFTER", 0.05)
    slots = TransactionSlots(1)

    async def hold(seconds: float) -> None:
        async with slots.hold(front=False, nested_timeout=1):
            await asyncio.sleep(seconds)

    with caplog.at_level(logging.WARNING):
        await asyncio.gather(hold(0.08), *(hold(0) for _ in range(5)))
    assert [r.getMessage()[:35] for r in caplog.records] == ["5 transactions wait for their turn:"]
