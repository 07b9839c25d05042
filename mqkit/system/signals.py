"""Handles signals on the event loop, also where the loop cannot."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from types import FrameType
from typing import TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")

STOPPING: tuple[signal.Signals, ...] = (
    signal.SIGTERM,
    signal.SIGINT,
    # Ctrl-Break, by which one process stops another on Windows.
    *(each for each in signal.Signals if each.name == "SIGBREAK"),
)
"""The signals that tell a process to stop."""


def on_signal(
    number: signal.Signals, callback: Callable[[Unpack[Ts]], object], *arguments: *Ts
) -> None:
    """Call back on the running loop, which is the main thread's, whenever the signal comes.

    The loops of Windows cannot do that. There Python's own handler passes the signal on, which runs
    once the main thread is back in Python code.
    """
    loop = asyncio.get_running_loop()

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends already
            loop.call_soon_threadsafe(callback, *arguments)

    try:
        loop.add_signal_handler(number, callback, *arguments)
    except NotImplementedError:
        signal.signal(number, pass_on)


def terminate_as_interrupt() -> None:
    """Do on SIGTERM what Ctrl-C does: `asyncio.run` cancels what it runs, and it can clean up.

    For the main thread of a process that is mqkit's own.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, interrupt)
