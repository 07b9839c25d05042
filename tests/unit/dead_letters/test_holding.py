"""What is moved is not left half done where its run is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from mqkit.dead_letters.holding import to_its_end


async def test_work_that_is_cancelled_is_ended_first() -> None:
    """A message whose confirm comes after Ctrl-C is taken out all the same; then it is over."""
    confirmed, done = asyncio.Event(), []

    async def move() -> None:
        await confirmed.wait()
        done.append(1)

    run = asyncio.ensure_future(to_its_end(move()))
    await asyncio.sleep(0)
    run.cancel()
    await asyncio.sleep(0)
    assert not run.done()
    confirmed.set()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert done == [1]


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_an_error_is_raised_unless_the_run_is_cancelled(*, is_cancelled: bool) -> None:
    """Then it is over in any case, and nobody is told of an error that nobody has asked for."""
    failing = asyncio.Event()

    async def move() -> None:
        await failing.wait()
        raise ValueError

    run = asyncio.ensure_future(to_its_end(move()))
    await asyncio.sleep(0)
    if is_cancelled:
        run.cancel()
        await asyncio.sleep(0)
    failing.set()
    with pytest.raises(asyncio.CancelledError if is_cancelled else ValueError):
        await run
