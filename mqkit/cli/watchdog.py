"""Ends a process that was told to stop and has not ended by itself within a stated time.

A thread cannot be stopped, a coroutine may refuse to be, a loop may be blocked, a log may go to a
pipe that nobody reads, and the interpreter waits for threads on its way out. A thread of its own
sees none of that, and ends the process. Its messages go back to their queues: the broker sees to
it once the connection is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Container, Iterable
from types import FrameType, TracebackType
from typing import Self

from mqkit.cli.exit_codes import FAILED
from mqkit.cli.labels import finish_output
from mqkit.system.signals import STOPPING

logger = logging.getLogger(__name__)

AFTER_GRACE = 2.8
"""Seconds after the grace period in which handlers are cancelled and everything is closed."""

LAST_WORD = 0.3
"""Seconds that the log may take to be told; a pipe that nobody reads takes nothing any more."""

MANY = 10
"""Threads that are named."""


class ShutdownWatchdog:
    """Ends this process when its time to stop is over; `begin` may be called from any thread.

    While it is entered, on the main thread and inside of the event loop, whose handlers of the
    signals are there already, SIGTERM and SIGINT begin the time even if the loop stands still.
    """

    def __init__(
        self,
        grace: float,
        *,
        after: float = AFTER_GRACE,
        first: Callable[[], None] = lambda: None,
        hurried_by: Container[int] = STOPPING,
    ) -> None:
        """Begin nothing yet.

        :param grace: seconds that it has from the signal on, and `after` more of them
        :param first: called before the process is ended
        :param hurried_by: the signals that stop it, and end the grace period when one comes again;
            without any, SIGTERM stops it, however often it comes
        """
        self._grace = grace
        self._after = after
        self.doing: Callable[[], str] = str
        """Tells what the process is at, for the log."""
        self._first = first
        self._hurried_by = hurried_by
        self._changed = threading.Condition()
        self._ends_at: float | None = None
        self._over = False
        self._signals = 0
        self._ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        self._former = -1
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, grace: float | None = None) -> None:
        """Start the time: its own grace period, or this one if that is over earlier."""
        ends_at = time.monotonic() + (self._grace if grace is None else grace) + self._after
        with self._changed:
            if self._ends_at is None:
                threading.Thread(
                    target=self._wait, name="mqkit shutdown watchdog", daemon=True
                ).start()
            if self._ends_at is None or ends_at < self._ends_at:
                self._ends_at = ends_at
                self._changed.notify()

    def end(self) -> None:
        """Stop the time: what was to end has ended."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._former = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._relay, name="mqkit signals", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        mine = self._theirs.fileno()
        current = signal.set_wakeup_fd(self._former)
        if current != mine:  # somebody else's meanwhile, and it stays that
            signal.set_wakeup_fd(current)
        with self._changed:
            self._former = -1  # its number may soon be another file's
        self._theirs.close()

    def _relay(self) -> None:
        """Pass each signal's byte on to the event loop, whose wakeup file this has replaced."""
        while data := self._ours.recv(4096):
            with self._changed, contextlib.suppress(BlockingIOError):  # full: it wakes up anyway
                self._wake_loop(data)
            for number in data:
                if number in self._hurried_by:
                    self._signals += 1
                    self.begin(None if self._signals == 1 else 0.0)
                elif number == signal.SIGTERM:
                    self.begin()
        self._ours.close()

    def _wake_loop(self, data: bytes) -> None:
        if sys.platform == "win32":
            # Its wakeup file is a socket, to which nothing else can write. The loop need not know
            # which signal it is: Python's own handlers run once it is awake.
            assert self._loop is not None, "it is entered"
            self._loop.call_soon_threadsafe(lambda: None)
        elif self._former >= 0:
            os.write(self._former, data)

    def _wait(self) -> None:
        with self._changed:
            assert self._ends_at is not None, "it has begun"
            while not self._over and (left := self._ends_at - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._over:
                return
        self._first()
        teller = threading.Thread(target=self._tell, name="mqkit last word", daemon=True)
        teller.start()
        teller.join(LAST_WORD)
        os._exit(FAILED)

    def _tell(self) -> None:
        doing = self.doing()
        logger.critical(
            "not ended %g s after the grace period%s: ending the process now; what it had not "
            "settled comes again. Running: %s",
            self._after,
            f", while {doing}" if doing else "",
            "; ".join(_running()),
        )
        logging.shutdown()
        finish_output()


def _running() -> Iterable[str]:
    """Name the threads that are no daemons, each with what it is at."""
    frames = sys._current_frames()  # noqa: SLF001 - there is no other way to see another thread
    for thread in [t for t in threading.enumerate() if not t.daemon][:MANY]:
        frame = frames.get(thread.ident or 0)
        yield thread.name if frame is None else f"{thread.name} at {_place(frame)}"


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} ({code.co_name})"
