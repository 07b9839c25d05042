"""One publish of the blocking publisher: its state between two threads, and what became of it.

No lock but the publish's own is taken here.
"""

from __future__ import annotations

import threading

from mqkit.drivers.base import Acked, Gone, Nacked, Returned, Verdict
from mqkit.errors import (
    ConnectionLostError,
    MqkitError,
    PublisherClosedError,
    PublishError,
    PublishRefusedError,
)
from mqkit.message import Message
from mqkit.publishing.verdicts import (
    NOT_FOUND,
    exchange_not_found,
    nacked,
    publish_error,
    unroutable,
)


class PendingPublish:
    """One publish: its caller waits for `done`, and a thread writes it."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.done = threading.Event()
        self.error: MqkitError | None = None
        """Why it failed; read it when `done` is set."""
        self.written = False
        """True once it was handed to a transport, so that it may be stored."""
        self.confirming = False
        """True while a thread waits for the broker's verdict on it."""
        self._abandoned = False
        self._lock = threading.Lock()

    def claim(self) -> bool:
        """A thread is about to write it; False if its caller is gone, and it must not."""
        with self._lock:
            if self._abandoned:
                return False
            self.written = self.confirming = True
            return True

    def unclaim(self) -> bool:
        """The connection was lost before the verdict; False if the caller is gone, too."""
        with self._lock:
            self.confirming = False
            return not self._abandoned

    def finish(self, error: MqkitError | None) -> None:
        """The result is known: None is confirmed."""
        with self._lock:
            self.error = error
            self.done.set()

    def abandon(self) -> bool:
        """The caller goes; True if no result was there, and then none will be looked at."""
        with self._lock:
            self._abandoned = not self.done.is_set()
            return self._abandoned


def judge(message: Message, verdict: Verdict) -> PublishError | None:
    """The error for what the broker said to a message; None where it has stored it."""
    match verdict:
        case Acked():
            return None
        case Nacked():
            return nacked(message)
        case Returned():
            return unroutable(message, verdict)
        case Gone(why) if why.code == NOT_FOUND:
            return exchange_not_found(message)
        case Gone(why):
            # Nothing else was in flight on that channel: it is this message that was refused.
            return publish_error(PublishRefusedError, message, why.text)


def lost(pending: PendingPublish, problem: str) -> ConnectionLostError:
    """The error for a publish that no connection carried through."""
    return ConnectionLostError(
        problem,
        exchange=pending.message.exchange,
        routing_key=pending.message.routing_key,
        message_id=pending.message.properties.message_id,
        may_be_stored=pending.written,
    )


def closed_before(pending: PendingPublish) -> PublishError:
    """The error for a publish that `close` cut off."""
    if pending.written:
        return lost(pending, "the publisher was closed before the confirm came; it may be stored")
    return publish_error(PublisherClosedError, pending.message, "the publisher is closed")
