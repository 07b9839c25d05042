"""Runs a command's coroutine on the event loop that `mqkit run` would take."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

T = TypeVar("T")

UVLOOP = "uvloop"


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on uvloop where that is installed.

    A replay sends each row, receives it and sends its entry in one process: with uvloop that takes
    two thirds of the processor time.
    """
    # By its name: it is an extra, and not there on Windows.
    factory = import_module(UVLOOP).new_event_loop if find_spec(UVLOOP) is not None else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
