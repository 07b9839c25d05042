"""Queues the publishes of the blocking publisher, and starts threads that take them.

Locks: `PublishQueue._lock` guards the queue and the list of threads, `PendingPublish._lock` one
publish. A publish's lock may be taken under the queue's, never the other way round, and neither is
held while waiting.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from mqkit.blocking.pending import PendingPublish, closed_before, lost
from mqkit.broker.reconnect import Hosts
from mqkit.errors import (
    MqkitError,
    PublishError,
)
from mqkit.logging.outages import OutageLog
from mqkit.publishing.verdicts import Stage, deadline_passed
from mqkit.settings import BrokerUrl


class Thread(Protocol):
    """What the queue knows of a thread that takes publishes: a `PublishThread`."""

    pending: PendingPublish | None
    """What it took and has no result for yet."""
    stage: Stage
    """What keeps it from taking another publish, or `TURN` if nothing does but the one it has."""

    @property
    def blocked(self) -> str | None: ...

    @property
    def is_stuck(self) -> bool: ...

    def wake(self) -> None: ...

    def join(self, seconds: float) -> None: ...


class PublishQueue:
    """The publishes of one process that wait to be written, and the threads that take them.

    `start_thread` starts one, whose number is given, or raises RuntimeError.
    """

    def __init__(
        self,
        url: BrokerUrl,
        name: str,
        connections: int,
        start_thread: Callable[[PublishQueue, int], Thread],
    ) -> None:
        self.url = url
        self.name = name
        self.closing = threading.Event()
        self.orphaned = False
        """Set once the publisher has been garbage-collected."""
        self.ever_connected = False
        self.hosts = Hosts(url.hosts)
        self.outages = OutageLog()
        self.problem: str | None = None
        """Why the latest connection attempt failed."""
        self._connections = connections
        self._start_thread = start_thread
        self._lock = threading.Lock()
        self._waiting: deque[PendingPublish] = deque()
        self._threads: list[Thread] = []
        self._idle: list[Thread] = []
        self._started = 0

    @property
    def stopping(self) -> bool:
        """True once the threads should end."""
        return self.orphaned or self.closing.is_set()

    @property
    def has_waiting(self) -> bool:
        """True if a publish waits to be taken."""
        return bool(self._waiting)

    @property
    def has_surplus(self) -> bool:
        """True if there are more threads than wanted, which were started beside stuck ones."""
        return len(self._threads) > self._connections

    # --- the callers' side -------------------------------------------------------------------

    def submit(self, pending: PendingPublish) -> None:
        """Queue a publish.

        :raises PublisherClosedError: the publisher was closed
        :raises ConnectionLostError: no thread could be started; nothing was written
        """
        with self._lock:
            if self.closing.is_set():
                raise closed_before(pending)
            self._waiting.append(pending)
            try:
                self._ensure_threads()
            except RuntimeError as error:
                # The interpreter is at its end (Python 3.12 and later), or out of threads.
                if not self._threads:
                    self._waiting.remove(pending)
                    problem = f"no thread for its connection: {error}; nothing was written"
                    raise lost(pending, problem) from error

    def ensure_threads(self) -> None:
        """Start or wake a thread for what is still queued, for others may have got stuck since."""
        with self._lock, contextlib.suppress(RuntimeError):
            self._ensure_threads()

    def forget(self, pending: PendingPublish) -> None:
        """Take an abandoned publish out of the queue."""
        with self._lock, contextlib.suppress(ValueError):
            self._waiting.remove(pending)

    def deadline_passed(self, pending: PendingPublish, seconds: float) -> PublishError:
        """Make the error of a publish whose caller waited `seconds` in vain."""
        with self._lock:
            blocked = next((thread.blocked for thread in self._threads if thread.blocked), None)
            awaited = self._awaited()
        progress = pending.progress
        return deadline_passed(
            pending.message,
            progress.stage if progress.stage is Stage.CONFIRM else awaited,
            seconds,
            blocked=blocked,
            written=progress.written,
        )

    def close(self, seconds: float) -> None:
        """Fail what is not written, and wait for the threads to end, `seconds` in all."""
        with self._lock:
            self.closing.set()
            waiting, self._waiting = self._waiting, deque()
            threads = [*self._threads]
            for thread in threads:
                thread.wake()
        for pending in waiting:
            pending.finish(closed_before(pending))
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _ensure_threads(self) -> None:
        free = sum(thread.pending is None for thread in self._threads)
        stuck = sum(thread.is_stuck for thread in self._threads)
        limit = self._connections + min(stuck, self._connections)
        if len(self._waiting) > free and len(self._threads) < limit:
            self._started += 1
            self._threads.append(self._start_thread(self, self._started))
        elif self._waiting and self._idle:
            self._idle.pop().wake()

    def _awaited(self) -> str:
        stages = {thread.stage for thread in self._threads}
        for stage in (Stage.TURN, Stage.PROBE):
            if stage in stages:
                return stage
        return Stage.CONNECTION + (f" ({self.problem})" if self.problem else "")

    # --- the threads' side -------------------------------------------------------------------

    def take(self, thread: Thread) -> PendingPublish | None:
        """Give a thread the next publish; None if there is none, and the next one wakes it."""
        with self._lock:
            if self._waiting:
                thread.pending = self._waiting.popleft()
                return thread.pending
            if thread not in self._idle:
                self._idle.append(thread)
            return None

    def give_back(self, thread: Thread, pending: PendingPublish) -> None:
        """Put a publish back in front whose connection was lost: it may be stored, or not."""
        with self._lock:
            thread.pending = None
            if not pending.unclaim():
                return
            if not self.closing.is_set():
                self._waiting.appendleft(pending)
                if self._idle:
                    self._idle.pop().wake()
                return
        pending.finish(closed_before(pending))

    def retire(self, thread: Thread) -> bool:
        """Let a thread without a connection end, unless a publish waits."""
        with self._lock:
            if self._waiting and not self.stopping:
                return False
            self._drop(thread)
            return True

    def fail(self, thread: Thread, error: MqkitError) -> None:
        """Let a thread end that cannot connect, and fail all that waits with its error."""
        with self._lock:
            self._drop(thread)
            waiting, self._waiting = self._waiting, deque()
        for pending in waiting:
            # One instance each: raising in a thread writes to its exception's traceback.
            pending.finish(type(error)(*error.args))

    def crash(self, thread: Thread) -> None:
        """Let a thread end whose own code failed, and fail all that waits."""
        with self._lock:
            self._drop(thread)
            waiting, self._waiting = [*self._waiting], deque()
        for pending in [thread.pending, *waiting] if thread.pending else waiting:
            pending.finish(lost(pending, "the publisher itself failed; its log has the traceback"))

    def _drop(self, thread: Thread) -> None:
        self._threads.remove(thread)
        if thread in self._idle:
            self._idle.remove(thread)
