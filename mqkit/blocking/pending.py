"""A publish of the blocking publisher, shared by the thread that waits and the one that writes.

No lock but the publish's own is taken here.
"""

from __future__ import annotations

import threading

from mqkit.errors import MqkitError, PublisherClosedError, PublishError
from mqkit.message import Message
from mqkit.publishing.verdicts import Progress, Stage, connection_lost, publish_error


class PendingPublish:
    """One publish: its caller waits for `done`, and a thread writes it."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.done = threading.Event()
        self.error: MqkitError | None = None
        """Why it failed; read it when `done` is set."""
        self.progress = Progress(Stage.TURN)
        self._abandoned = False
        self._lock = threading.Lock()

    def claim(self) -> bool:
        """Note that a thread is about to write it; False if its caller is gone, and it must not."""
        with self._lock:
            if self._abandoned:
                return False
            self.progress.written, self.progress.stage = True, Stage.CONFIRM
            return True

    def unclaim(self) -> bool:
        """Note that its connection was lost before the verdict; False if its caller is gone."""
        with self._lock:
            self.progress.lost, self.progress.stage = True, Stage.TURN
            return not self._abandoned

    def finish(self, error: MqkitError | None) -> None:
        """Give the caller the result, which is known: None is confirmed."""
        if isinstance(error, PublishError) and self.progress.lost:
            # Whatever the broker says of the message now: it may have taken it before.
            error.may_be_stored = True
        with self._lock:
            self.error = error
            self.done.set()

    def abandon(self) -> bool:
        """Note that the caller has stopped waiting; True if there is no result yet."""
        with self._lock:
            self._abandoned = not self.done.is_set()
            return self._abandoned


def lost(pending: PendingPublish, problem: str) -> PublishError:
    """Make the error of a publish that no connection carried through."""
    return connection_lost(pending.message, problem, written=pending.progress.written)


def closed_before(pending: PendingPublish) -> PublishError:
    """Make the error of a publish that `close` cut off."""
    if pending.progress.written:
        return lost(pending, "the publisher was closed before the confirm came; it may be stored")
    return publish_error(PublisherClosedError, pending.message, "the publisher is closed")
