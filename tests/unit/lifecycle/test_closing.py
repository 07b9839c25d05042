"""Closing things one after the other, whatever each of them does."""

from __future__ import annotations

import asyncio
import time

import pytest

from mqkit.lifecycle.closing import Closing, Step


async def close(*steps: Step, within: float = 5.0) -> Closing:
    """Close them within so many seconds."""
    closing = Closing("ledger")
    await closing.run(list(steps), asyncio.get_running_loop().time() + within)
    return closing


async def test_what_fails_or_hangs_does_not_keep_the_rest_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each is closed, in its order, and each failure is logged with what it was about."""
    closed = []

    def step(name: str, error: BaseException | None = None, *, hangs: bool = False) -> Step:
        async def run() -> None:
            closed.append(name)
            if hangs:
                await asyncio.Event().wait()
            if error is not None:
                raise error

        return name, run

    began = time.monotonic()
    closing = await close(
        step("a"),
        step("b", RuntimeError("no")),
        step("c", hangs=True),
        step("d", SystemExit(3)),
        step("e", TimeoutError()),
        step("f"),
        within=1.0,
    )
    assert closed == ["a", "b", "c", "d", "e", "f"]
    assert time.monotonic() - began < 3
    kinds = [type(error) for error in closing.errors]
    assert kinds == [RuntimeError, TimeoutError, SystemExit, TimeoutError]
    told = [record.getMessage() for record in caplog.records]
    assert [text.split(" ")[2] for text in told] == ["b", "c", "d", "e"]
    assert closing.doing == ""


async def test_the_caller_may_be_cancelled_meanwhile() -> None:
    """What is left is closed all the same, and the cancellation is among the errors."""
    waiting, closed = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        waiting.set()
        await asyncio.Event().wait()

    async def note() -> None:
        closed.set()

    task = asyncio.create_task(close(("a", wait), ("b", note)))
    await waiting.wait()
    task.cancel()
    closing = await task
    assert closed.is_set()
    assert [type(error) for error in closing.errors] == [asyncio.CancelledError]


async def test_a_step_after_a_slow_one_gets_some_time_too() -> None:
    """The share of each is kept for it, and the whole stays within its time."""
    ended = []

    async def hang() -> None:
        await asyncio.Event().wait()

    async def end_soon() -> None:
        await asyncio.sleep(0.1)
        ended.append(True)

    began = time.monotonic()
    await close(("a", hang), ("b", end_soon), within=1.0)
    assert ended == [True]
    assert time.monotonic() - began < 1.5
