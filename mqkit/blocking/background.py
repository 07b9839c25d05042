"""The event loop behind the blocking publisher, in a daemon thread, and the `Publisher` on it.

A caller's thread never touches the loop or a connection: it hands in a coroutine and waits for its
result. One lock guards whether the thread still takes work; it is never held while waiting.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from mqkit.errors import ConfigurationError
from mqkit.logging.error_reports import log_error
from mqkit.publishing.publisher import Publisher

logger = logging.getLogger(__name__)

T = TypeVar("T")


class BackgroundEndedError(Exception):
    """The background thread ended before the work was done, or before it began.

    `begun` is False if nothing of it can have run.
    """

    def __init__(self, *, begun: bool) -> None:
        super().__init__("the background thread has ended")
        self.begun = begun


class NoThreadError(Exception):
    """The background thread cannot be started."""


class Background:
    """A publisher on an event loop of its own, for the threads of one process."""

    def __init__(self, name: str, publisher: Publisher) -> None:
        """Start nothing yet.

        :param publisher: was not used yet: it belongs to the loop from now on
        """
        self.publisher = publisher
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        # Reentrant: a signal handler or a `__del__` may publish while its thread is in here.
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()
        self._ended = self._closing = False

    def refuse(self) -> None:
        """Take no more work."""
        self._ended = True

    def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the loop and wait for its result.

        Where the wait ends by an exception, as by Ctrl-C, the coroutine is cancelled.

        :raises BackgroundEndedError: the thread has ended, or ended meanwhile
        :raises NoThreadError: the thread cannot be started
        :raises ConfigurationError: this is the background thread itself
        """
        # Before anything begins: the exception may come at any time after that.
        future: Future[T] = Future()
        try:
            self.begin(make, future)
            return future.result()
        except concurrent.futures.CancelledError:
            raise BackgroundEndedError(begun=True) from None
        finally:
            future.cancel()  # which does nothing where it is done

    def begin(self, make: Callable[[], Coroutine[Any, Any, T]], future: Future[T]) -> None:
        """Begin to run a coroutine on the loop for a future; to cancel that cancels it.

        :raises BackgroundEndedError: the thread has ended
        :raises NoThreadError: the thread cannot be started
        :raises ConfigurationError: this is the background thread itself
        """
        if threading.current_thread() is self._thread:
            raise ConfigurationError(
                f"{self._thread.name}: a publish on the publisher's own thread would wait for "
                "itself, as where a logging handler publishes what the publisher logs; give such "
                "a handler a queue (logging.handlers.QueueHandler)"
            )
        with self._lock:
            loop = self._taking_work()
            loop.call_soon_threadsafe(_start, loop, make, future)

    def call(self, function: Callable[[], object]) -> None:
        """Call a function on the loop soon, and do not wait for it; raises as `begin`."""
        with self._lock:
            self._taking_work().call_soon_threadsafe(function)

    def close(self, seconds: float) -> None:
        """Refuse new work, wait up to `seconds` for what runs, disconnect, and end the thread."""
        with self._lock:
            self._ended = True
            if self._loop is None:
                return
            already, self._closing = self._closing, True
            if not already:
                asyncio.run_coroutine_threadsafe(self._close(seconds), self._loop)
        # As much again, for the broker's answer to the end of a connection.
        self._thread.join(2 * seconds)

    def abandon(self) -> None:
        """Take no more work and end the thread soon; for the garbage collector.

        It takes no lock, for the thread that it interrupts may be in any of them.
        """
        self._ended = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed already
                self._loop.call_soon_threadsafe(self._ending.set)

    def _taking_work(self) -> asyncio.AbstractEventLoop:
        """Return the loop, whose thread is started by the first who asks; under the lock."""
        if self._ended:
            raise BackgroundEndedError(begun=False)
        if self._loop is None:
            # Not of the application's policy, which is for the loops that the application runs.
            loop = asyncio.SelectorEventLoop()
            loop.set_default_executor(_DaemonThreads())
            self._loop = loop
            try:
                self._thread.start()
            except RuntimeError as error:
                self._loop = None
                loop.close()
                raise NoThreadError(str(error)) from error
        return self._loop

    async def _close(self, seconds: float) -> None:
        try:
            await self.publisher.close(timeout=seconds)
        finally:
            self._ending.set()

    def _run(self) -> None:
        assert self._loop is not None, "it is set before the thread is started"
        try:
            self._loop.run_until_complete(self._main())
        except Exception as error:  # noqa: BLE001 - it is logged, and ends the thread
            text = "%s: the thread failed, and what waits for it fails"
            log_error(logger, logging.ERROR, text, self._thread.name, error=error)
        finally:
            self._ended = True
            self._loop.close()

    async def _main(self) -> None:
        await self._ending.wait()
        try:
            await self.publisher.close(timeout=0)
        finally:
            own = asyncio.current_task()
            rest = [task for task in asyncio.all_tasks() if task is not own]
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)


def _start(
    loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]], future: Future[T]
) -> None:
    """Run a coroutine as a task of the loop, which ends as the future does, and the other way."""
    task = loop.create_task(make())

    def on_task_done(_: asyncio.Task[T]) -> None:
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            if task.cancelled():
                future.cancel()
            elif (error := task.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())

    def on_future_done(_: Future[T]) -> None:
        if future.cancelled():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(task.cancel)

    task.add_done_callback(on_task_done)
    future.add_done_callback(on_future_done)


class _DaemonThreads(ThreadPoolExecutor):
    """An executor with a daemon thread for each call, which are few: names of hosts are looked up.

    The interpreter waits for the threads of the usual one before it exits, and a lookup may hang.
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it is the future's
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, daemon=True).start()
        return future
