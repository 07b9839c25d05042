"""Runs coroutines on an event loop in a thread of its own, so that pages need not wait for them.

To go through ten thousand dead letters takes a second of processor time, in bursts. On the loop
that answers pages, each of them would stand still for as long as a burst takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

LAST_STEPS = 6.0
"""Seconds that what is cancelled gets to end."""


class Aside:
    """An event loop in a daemon thread, which begins with the first coroutine."""

    def __init__(self, name: str = "mqkit console reader") -> None:
        """Start nothing yet."""
        self._name = name
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine there, and return its result here.

        Where this is cancelled the coroutine is, and is waited for.
        """
        here = asyncio.get_running_loop()
        there = self._started()
        result: asyncio.Future[T] = here.create_future()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            tasks.append(there.create_task(make()))
            tasks[0].add_done_callback(end)

        def end(task: asyncio.Task[T]) -> None:
            with contextlib.suppress(RuntimeError):  # who has asked is gone
                here.call_soon_threadsafe(_settle, result, task)

        def cancel() -> None:
            tasks[0].cancel()

        there.call_soon_threadsafe(begin)
        try:
            return await asyncio.shield(result)
        except asyncio.CancelledError:
            with contextlib.suppress(RuntimeError):  # it has ended, and all that ran there
                there.call_soon_threadsafe(cancel)
            await asyncio.wait([result], timeout=LAST_STEPS)
            raise

    async def close(self) -> None:
        """Cancel what runs there, and end the thread."""
        thread, loop, ending = self._thread, self._loop, self._ending
        if thread is None or loop is None or ending is None:
            return
        with contextlib.suppress(RuntimeError):  # it has ended already
            loop.call_soon_threadsafe(ending.set)
        await asyncio.to_thread(thread.join, LAST_STEPS)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            is_there = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(is_there,), name=self._name, daemon=True
            )
            self._thread.start()
            is_there.wait()
        assert self._loop is not None, "the thread has said so"
        return self._loop

    def _run(self, is_there: threading.Event) -> None:
        with asyncio.Runner() as runner:
            self._loop, self._ending = runner.get_loop(), asyncio.Event()
            is_there.set()
            # What runs beside it is cancelled when it returns, and waited for.
            runner.run(_until(self._ending))


async def _until(ending: asyncio.Event) -> None:
    await ending.wait()


def _settle(result: asyncio.Future[T], task: asyncio.Task[T]) -> None:
    """Give what has come of a task to who waits for it."""
    if result.done():
        return
    if task.cancelled():
        result.cancel()
    elif (error := task.exception()) is not None:
        result.set_exception(error)
    else:
        result.set_result(task.result())
