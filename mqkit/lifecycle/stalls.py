"""Logs when the event loop stood still, and which handler held it.

While a handler blocks, nothing else of the loop runs: no other message, no timeout, no heartbeat.
RabbitMQ closes the connection and delivers the message again, to be blocked on once more, and the
log has nothing but a lost connection. A thread sees it, and where the loop's own thread is at.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

from mqkit.consuming.consumer import Consumer
from mqkit.logging.shown import shown

logger = logging.getLogger(__name__)

SHARE = 0.25
"""Of a heartbeat, after which a loop that stands still is told of: each waits for the next half."""

LOOKS = 4
"""How often it looks in that time. A run is blamed that is seen twice in a row: on a busy machine
many short ones may take long, and none of them stands still."""

QUIET = 30.0
"""Seconds in which the same place is told of once, unless a connection may be lost by it."""


class StallWatch:
    """Watches the running loop from `start` to `stop`, which are called on it."""

    def __init__(self, service: str, heartbeat: float, consumers: Sequence[Consumer]) -> None:
        """Watch nothing yet.

        :param heartbeat: the connection's, in seconds
        :param consumers: those of the service, also those that come later
        """
        self._service = service
        self._heartbeat = heartbeat
        self._limit = heartbeat * SHARE
        self._tick = self._limit / LOOKS
        self._consumers = consumers
        self._over = threading.Event()
        self._beaten = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._where = ""
        """What was seen of the stall that goes on; the loop takes it when it goes on itself."""
        self._told: dict[str, float] = {}

    def start(self) -> None:
        """Watch."""
        loop = asyncio.get_running_loop()
        self._beaten = time.monotonic()
        self._timer = loop.call_later(self._tick, self._beat, loop)
        watch = threading.Thread(
            target=self._watch,
            args=(loop, threading.get_ident()),
            name="mqkit stall watch",
            daemon=True,
        )
        watch.start()

    def stop(self) -> None:
        """Stop watching."""
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        stood, self._beaten = now - self._beaten, now
        self._timer = loop.call_later(self._tick, self._beat, loop)
        where, self._where = self._where, ""
        if where and stood >= self._limit:
            self._tell_end(where, stood, now)

    def _tell_end(self, where: str, stood: float, now: float) -> None:
        last = self._told.get(where)
        if last is not None and now - last < QUIET and stood < self._heartbeat:
            return
        self._told = {w: at for w, at in self._told.items() if now - at < QUIET} | {where: now}
        logger.warning(
            "%s: the event loop stood still for %.1f s: %s. Nothing else ran meanwhile, heartbeats "
            "among it: a connection without any is closed after two to three times %g s, and its "
            "messages come again. Make the handler a plain `def`, which runs in a thread, or "
            "await asyncio.to_thread(...) where it blocks",
            self._service,
            stood,
            where,
            self._heartbeat,
        )

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        seen, warned_of = "", 0.0
        while True:
            asked = time.monotonic()
            if self._over.wait(self._tick):
                return
            now, beaten = time.monotonic(), self._beaten
            # Where this thread was held up itself, the whole process was: no handler did it.
            if now - beaten < 2 * self._tick or now - asked > self._limit:
                seen = ""
                continue
            run, place = self._look(loop, thread)
            if run and run == seen:
                self._where = f"{run} at {place}"
                if now - beaten > self._heartbeat and warned_of != beaten:
                    # It may last, and the process end in it: not only once it is over.
                    warned_of = beaten
                    self._tell_of_one_that_lasts(now - beaten)
            seen = run

    def _tell_of_one_that_lasts(self, stood: float) -> None:
        logger.warning(
            "%s: the event loop stands still, for %.1f s by now: %s",
            self._service,
            stood,
            self._where,
        )

    def _look(self, loop: asyncio.AbstractEventLoop, thread: int) -> tuple[str, str]:
        """Return what the loop runs, and where; nothing if it waits."""
        frame = sys._current_frames().get(thread)  # noqa: SLF001 - no other way to see it
        task = asyncio.current_task(loop)
        if frame is None or task is None:
            return "", ""
        place = f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_name})"
        return run_of(self._consumers, task, frame) or f"task {task.get_name()}", place


def run_of(
    consumers: Sequence[Consumer], task: asyncio.Task[object], frame: FrameType
) -> str | None:
    """Describe whose run a task is; None if it is no handler's.

    :param frame: the innermost one of its thread
    """
    for consumer in consumers:
        if (delivery := consumer.delivery_of(task)) is not None:
            return f"handler {consumer.handler.name} (message {shown(delivery.message_id)})"
    # One that a handler made, or a batch's.
    names = {each.handler.code: each.handler.name for each in consumers}
    inner: FrameType | None = frame
    while inner is not None:
        if (name := names.get(inner.f_code)) is not None:
            return f"handler {name}"
        inner = inner.f_back
    return None
