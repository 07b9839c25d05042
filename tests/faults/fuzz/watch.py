"""Notes what a run leaves behind or says on the side: logs, warnings, tasks, processor time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

QUIET = 1.5
"""Seconds for which nothing is to be done."""

IDLE = 0.15
"""Seconds of processor time that this may take, heartbeats and this test's own looks included."""


class Watch(logging.Handler):
    """Takes the log records of mqkit and asyncio, and Python's warnings."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self.lost = 0
        """How often a connection was lost."""
        self.unwritten = 0
        """Records whose text, or traceback, raised an error."""
        self.faults: Counter[str] = Counter()
        """What was said that nobody should have to say, and how often."""
        self.critical: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, as handlers do, and look at it.

        As of those, what is no `Exception` rises from here to who logs.
        """
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - whatever a text raises
            self.unwritten += 1
            return
        if "connection lost" in text:
            self.lost += 1
        if record.name == "asyncio" and record.levelno >= logging.ERROR:
            self.faults[text[:160]] += 1
        elif record.levelno >= logging.CRITICAL:
            self.critical[str(record.msg)] += 1

    def warned(self, message: Warning | str, *_: Any, **__: Any) -> None:
        """Take a warning; as `warnings.showwarning`."""
        self.faults[f"a warning: {message}"[:160]] += 1

    def unraisable(self, hook: Any) -> None:
        """Take what a destructor raised; as `sys.unraisablehook`."""
        self.faults[f"not raised: {type(hook.exc_value).__name__} in {hook.object!r}"[:160]] += 1

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch for as long as the block runs."""
        loggers = [logging.getLogger(name) for name in ("mqkit", "asyncio")]
        shown, unraisable = warnings.showwarning, sys.unraisablehook
        for logger in loggers:
            logger.addHandler(self)
        logging.getLogger("mqkit").setLevel(logging.INFO)
        logging.getLogger("mqkit").propagate = False
        logging.getLogger("asyncio").propagate = False
        warnings.simplefilter("always")
        warnings.showwarning = self.warned
        sys.unraisablehook = self.unraisable
        try:
            yield
        finally:
            gc.collect()  # who was never awaited or retrieved says so now
            for logger in loggers:
                logger.removeHandler(self)
            warnings.showwarning, sys.unraisablehook = shown, unraisable


async def processor_time() -> float:
    """Seconds of processor time that this process takes while nothing is to be done."""
    began = time.process_time()
    await asyncio.sleep(QUIET)
    return time.process_time() - began
