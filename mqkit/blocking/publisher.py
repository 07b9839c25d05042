"""The publisher for synchronous code: a Django or Flask view, a script, a `def` handler.

A caller's thread never touches a connection. It queues its publish and waits; daemon
threads, each with a `BlockingConnection` of its own, take what is queued, one publish at a time,
and answer heartbeats in between. So any number of callers may share a publisher, a thread that is
stuck in an alarm or on a dead host releases its caller at the deadline, and whose verdict it is
needs no guessing.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from mqkit.blocking.pending import PendingPublish
from mqkit.blocking.queue import PublishQueue
from mqkit.blocking.thread import start_thread
from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.drivers.frames import check_writable
from mqkit.errors import PublisherClosedError
from mqkit.limits import DEFAULT_LIMITS, Limits, checked_limits
from mqkit.message import HeaderValue, Message
from mqkit.publishing.outgoing import Outgoing, to_message
from mqkit.publishing.probe import PROBE_AFTER
from mqkit.publishing.publisher import DEFAULT_TIMEOUT
from mqkit.publishing.verdicts import publish_error
from mqkit.settings import BrokerUrl
from mqkit.topology import Exchange

DEFAULT_CONNECTIONS = 4
"""Connections that one publisher opens at most, each when that many publishes wait at once."""

CLOSE_TIMEOUT = 3.0
"""Seconds that `close` waits for publishes in flight, and for the connections to be closed."""


AT_EXIT = (
    "the interpreter is at its end, where no thread runs any more: publish before the program "
    "ends, and not in a `__del__`"
)


class BlockingPublisher:
    """Publishes with confirms from any thread; `publish` returns when the broker has the message.

    Nothing is opened before the first publish, and nothing is shared over a fork: a child process
    opens connections of its own and leaves its parent's alone. A publisher that nobody closed
    does not keep the interpreter from exiting.

    Up to `connections` publishes are on their way at the same time, each on a connection of its
    own; a program that publishes from one thread has one. Up to as many again are opened while
    existing ones wait for a confirm longer than `PROBE_AFTER`.

    :param url: the broker, as `BrokerUrl.parse` takes it
    :param timeout: seconds in which a publish must be confirmed, publishing it again included
    :param name: what the connections are called in the broker's list
    :param limits: what a message may have to be published
    :raises BrokerUrlError: the URL is malformed
    :raises OptionError: another option cannot be what it was given
    """

    def __init__(
        self,
        url: str | BrokerUrl,
        *,
        app_id: str | None = None,
        timeout: Seconds = DEFAULT_TIMEOUT,
        name: str = "mqkit.blocking.publisher",
        connections: int = DEFAULT_CONNECTIONS,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._url = url if isinstance(url, BrokerUrl) else BrokerUrl.parse(url)
        self._app_id = app_id
        if app_id is not None:
            checked.name(app_id, "BlockingPublisher(app_id=...)")
        self._limits = checked_limits(limits, "BlockingPublisher(limits=...)")
        self._timeout = checked.seconds(timeout, "BlockingPublisher(timeout=...)", over=0)
        self._name = checked.name(name, "BlockingPublisher(name=...)")
        self._connections = checked.count(connections, "BlockingPublisher(connections=...)")
        self._closed = False
        # By process id; `setdefault` is one step for all threads of a child, and a lock that
        # another thread held during the fork could never be taken there. What belongs to the
        # parent stays referenced, so that no destructor in the child touches its sockets.
        self._queues: dict[int, PublishQueue] = {}
        weakref.finalize(self, _orphan, self._queues).atexit = False

    def __repr__(self) -> str:
        return f"BlockingPublisher({str(self._url)!r}, name={self._name!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def publish(
        self,
        exchange: Exchange | str,
        routing_key: str,
        body: object,
        *,
        message_id: str | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        type: str | None = None,  # noqa: A002 - the property's name
        expiration: Seconds | None = None,
        priority: int | None = None,
        persistent: bool = True,
        mandatory: bool = True,
        timeout: Seconds | None = None,
    ) -> str:
        """Publish one message and return its `message_id` once the broker has confirmed it.

        `timeout` is in seconds, 30 by default; it holds whatever the network does. `expiration`
        is in seconds: so long it may wait in a queue. `message_id` is a random one where it is
        None. See `Outgoing`.

        :raises InvalidMessageError: it cannot be encoded, or is over a limit; nothing was written
        :raises OptionError: the timeout is none; nothing was written
        :raises UnroutableError: no queue is bound for the routing key
        :raises ExchangeNotFoundError: there is no such exchange
        :raises PublishRefusedError: the broker refused it (permissions, size)
        :raises NackedError: a queue refused it; it may be stored
        :raises BlockedError: the broker blocks publishers until the timeout; nothing was written
        :raises PublishTimeoutError: no confirm within the timeout; it may be stored
        :raises ConnectionLostError: no connection at the timeout; see its `may_be_stored`
        :raises PublisherClosedError: `close` was called before it was written, or the interpreter
            is at its end
        :raises AuthenticationError: the first connection's credentials were refused
        :raises VirtualHostError: the first connection's virtual host was refused
        """
        outgoing = Outgoing(
            exchange=exchange,
            routing_key=routing_key,
            body=body,
            message_id=message_id,
            headers=headers,
            correlation_id=correlation_id,
            reply_to=reply_to,
            type=type,
            expiration=expiration,
            priority=priority,
            persistent=persistent,
            mandatory=mandatory,
        )
        message = to_message(outgoing, self._app_id, limits=self._limits)
        self.send(message, timeout=timeout)
        return message.properties.message_id or ""

    def send(self, message: Message, *, timeout: Seconds | None = None) -> None:
        """Publish a message that is ready to be written; raises as `publish` does.

        The publisher's limits are not for it.
        """
        seconds = self._seconds(timeout)
        deadline = time.monotonic() + seconds
        check_writable(message)
        if self._closed:
            raise publish_error(PublisherClosedError, message, "the publisher is closed")
        if sys.is_finalizing():
            # Threads do not run any more: a publish would wait for its whole timeout.
            raise publish_error(PublisherClosedError, message, AT_EXIT)
        queue = self._own_queue()
        pending = PendingPublish(message)
        try:
            queue.submit(pending)
            while not pending.done.wait(max(0.0, min(PROBE_AFTER, deadline - time.monotonic()))):
                if time.monotonic() >= deadline:
                    break
                queue.ensure_threads()
        finally:
            # Here also when a signal's exception ended the wait: what nobody waits for any more
            # must not be written later.
            gave_up = pending.abandon()
            if gave_up:
                queue.forget(pending)
        if gave_up:
            raise queue.deadline_passed(pending, seconds)
        if pending.error is not None:
            raise pending.error

    def close(self) -> None:
        """Refuse further publishes, await those in flight for at most 3 s, and disconnect.

        A publish that was not written yet gets `PublisherClosedError` in its own thread. May be
        called twice, and from any thread.
        """
        self._closed = True
        queue = self._queues.get(os.getpid())
        if queue is not None and not sys.is_finalizing():
            queue.close(CLOSE_TIMEOUT)

    def _seconds(self, timeout: Seconds | None) -> float:
        if timeout is None:
            return self._timeout
        return checked.seconds(timeout, "timeout", over=0)

    def _own_queue(self) -> PublishQueue:
        process = os.getpid()
        queue = self._queues.get(process)
        if queue is None:
            fresh = PublishQueue(self._url, self._name, self._connections, start_thread)
            queue = self._queues.setdefault(process, fresh)
        return queue


def _orphan(queues: dict[int, PublishQueue]) -> None:
    """Let the threads of a publisher end that was dropped unclosed.

    A flag and no lock: the garbage collector may run this inside any of them.
    """
    for queue in queues.values():
        queue.orphaned = True
