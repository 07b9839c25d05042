"""An event loop that stands still is told of, with the handler that holds it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import pytest
import uvloop

from mqkit import Delivery, Queue, Retry, Service
from mqkit.consuming.consumer import Consumer
from mqkit.lifecycle.stalls import StallWatch
from mqkit.message import Properties
from mqkit.registration.handler import Handler

HEARTBEAT = 0.4
"""Seconds; a quarter of it is told of."""


class Running:
    """Stands in for a consumer: what it handles is said by the test."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.tasks: dict[asyncio.Task[None], Delivery] = {}

    def delivery_of(self, task: asyncio.Task[None]) -> Delivery | None:
        """What the task handles."""
        return self.tasks.get(task)


def block(seconds: float) -> None:
    """Hold the loop."""
    time.sleep(seconds)


async def handle(body: bytes) -> None:
    """A handler that blocks."""
    block(0.6)


def consumer() -> Running:
    """One of that handler."""
    service = Service("ledger", retry=Retry.never())
    service.handler(Queue("q"))(handle)
    return Running(service.handlers[0])


async def watched(
    running: Running, work: Callable[[], object], heartbeat: float = HEARTBEAT
) -> None:
    """Run it in a task of a watched loop."""
    consumers: list[Consumer] = [running]  # type: ignore[list-item]
    watch = StallWatch("ledger", heartbeat, consumers)
    watch.start()
    try:
        await asyncio.sleep(0.05)
        await asyncio.create_task(_call(work), name="work")
        await asyncio.sleep(0.1)
    finally:
        watch.stop()


async def _call(work: Callable[[], object]) -> None:
    result = work()
    if asyncio.iscoroutine(result):
        await result


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_handler_is_named_and_how_long(
    factory: Callable[[], asyncio.AbstractEventLoop], caplog: pytest.LogCaptureFixture
) -> None:
    """On both loops; with its message, the line, and what may come of it, while and after it."""
    running = consumer()

    def begin() -> object:
        task = asyncio.current_task()
        assert task is not None
        running.tasks[task] = Delivery(properties=Properties(message_id="m\n1"))
        return handle(b"")

    with caplog.at_level(logging.WARNING), asyncio.Runner(loop_factory=factory) as runner:
        runner.run(watched(running, begin))
    lasting, over = [record.getMessage() for record in caplog.records]
    assert lasting.startswith("ledger: the event loop stands still, for 0.4")
    assert over.startswith("ledger: the event loop stood still for 0.")
    for text in (lasting, over):
        assert f"{running.handler.name} (message m\\n1) at " in text
        assert "test_stalls.py:" in text
        assert "(block)" in text
    assert "asyncio.to_thread" in over


async def test_a_task_that_a_handler_made_is_named_by_its_function(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As is a batch, which runs in a task of its own."""
    running = consumer()
    await watched(running, lambda: handle(b""))
    assert f"handler {running.handler.name} at " in caplog.text


async def test_what_is_no_handler_is_named_by_its_task(caplog: pytest.LogCaptureFixture) -> None:
    """An application's own task may hold the loop as well."""
    await watched(consumer(), lambda: block(0.3))
    assert "task work at " in caplog.text


async def test_short_runs_and_waits_are_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a loop that waits, nor one that is busy with many runs."""

    async def be_busy() -> None:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            block(0.02)
            await asyncio.sleep(0)

    # A limit of half a second: a busy machine holds up a short run, too.
    await watched(consumer(), be_busy, heartbeat=2.0)
    await watched(consumer(), lambda: asyncio.sleep(0.8), heartbeat=2.0)
    assert caplog.records == []


async def test_one_place_is_told_of_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that holds the loop a little, each time, does not fill the log."""

    async def block_often() -> None:
        for _ in range(4):
            block(0.25)
            await asyncio.sleep(0.08)

    await watched(consumer(), block_often)
    assert len(caplog.records) == 1
