"""A queue: takes messages in, delivers them to its consumers, expires or dead-letters them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mqkit.embedded.engine.arguments import QueueArguments
from mqkit.embedded.engine.clock import Clock, Timer
from mqkit.embedded.engine.consumers import Consumers
from mqkit.embedded.engine.message import ACQUIRED_COUNT, DELIVERY_COUNT, Entry, Message
from mqkit.embedded.engine.ready import Held, Ready

EXPIRED, MAXLEN, REJECTED, DELIVERY_LIMIT = "expired", "maxlen", "rejected", "delivery_limit"
"""The reasons of a dead letter, as `x-death` names them."""

QUORUM_PRIORITIES = 31
"""The highest priority of a quorum queue (RabbitMQ 4.3)."""

QUORUM_DEFAULT_PRIORITY = 4
"""Of a message without one, in a quorum queue."""


class Receiver(Protocol):
    """What a queue uses of a consumer's channel; `session.channel.Channel` is one."""

    def can_take(self) -> bool:
        """Return True if a delivery may be sent now."""
        ...

    def deliver(self, consumer: Consumer, entry: Entry, message: Message) -> None:
        """Send a message to one of the channel's consumers."""
        ...

    def consumer_gone(self, consumer: Consumer, *, tell: bool) -> None:
        """Forget a consumer whose queue was deleted, and tell the client if `tell`."""
        ...


@dataclass(slots=True, eq=False)
class Consumer:
    """One `basic.consume`."""

    tag: str
    queue: Queue
    channel: Receiver
    no_ack: bool = False
    exclusive: bool = False
    priority: int = 0
    prefetch: int = 0
    """Unacknowledged messages that it may have; 0 is no limit."""
    arguments: dict[str, Any] = field(default_factory=dict)
    unacked: int = 0

    def can_take(self) -> bool:
        """Return True if a message may be sent to it now."""
        return (
            self.no_ack or not self.prefetch or self.unacked < self.prefetch
        ) and self.channel.can_take()


class Host(Protocol):
    """What a queue calls of its virtual host."""

    @property
    def clock(self) -> Clock: ...

    def dead_letter(self, queue: Queue, entry: Entry, reason: str) -> None:
        """Dead-letter an entry that has left the queue for this reason."""
        ...

    def queue_expired(self, queue: Queue) -> None:
        """Delete a queue that nobody used for its `x-expires`."""
        ...

    def stored(self, queue: Queue, entry: Entry) -> None:
        """Make an entry durable, if it is to be."""
        ...

    def changed(self, queue: Queue, entry: Entry) -> None:
        """Make the new delivery and acquired counts of an entry durable, if it is."""
        ...

    def removed(self, queue: Queue, entry: Entry) -> None:
        """Forget an entry that has left the queue for good."""
        ...

    def discarded(self, entries: Iterable[Entry]) -> None:
        """Forget entries that have gone with their queue."""
        ...


class Queue:
    """One queue of one virtual host."""

    def __init__(
        self,
        name: str,
        host: Host,
        options: QueueArguments,
        *,
        durable: bool = False,
        auto_delete: bool = False,
        owner: object | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.options = options
        self.durable = durable
        self.auto_delete = auto_delete
        self.owner = owner
        """The connection that alone may use it; None where any may."""
        self.arguments = dict(arguments or {})
        self.consumers: Consumers[Consumer] = Consumers(
            single_active=options.single_active_consumer, takeover=options.is_quorum
        )
        self.ready = Ready(
            priorities=QUORUM_PRIORITIES if options.is_quorum else options.max_priority,
            returns_first=options.is_quorum,
        )
        self.unacked: dict[Entry, Consumer | None] = {}
        self.held = Held()
        self._host = host
        self._is_deleted = False
        self._count = 0
        self._message_timer: Timer | None = None
        self._may_expire = False
        self._expiry_timer: Timer | None = None
        self.touch()

    def __repr__(self) -> str:
        return f"<Queue {self.name}: {len(self.ready)} ready, {len(self.unacked)} unacked>"

    def offer(self, message: Message) -> bool:
        """Take a message; False if the queue is full and refuses it."""
        if self._is_deleted:
            # It was there when the message was routed.
            return True
        entry = self._entry(message)
        if self.options.overflow != "drop-head" and self._would_overflow(entry):
            if self.options.overflow == "reject-publish-dlx":
                self._host.stored(self, entry)
                self._host.dead_letter(self, entry, MAXLEN)
            return False
        self._host.stored(self, entry)
        # Straight to a consumer that waits, even with a TTL of 0.
        if not self.ready and (consumer := self.consumers.next()) is not None:
            self._deliver(entry, consumer)
            return True
        self.ready.append(entry)
        self._may_expire = self._may_expire or entry.expires_at is not None
        self.serve()
        return True

    def restore(self, entry: Entry) -> None:
        """Put back an entry that was kept over a restart; they come in their order."""
        self._count = max(self._count, entry.number)
        latest = self._latest_end(entry.message)
        if entry.expires_at is not None and latest is not None:
            # It was kept by the wall clock, which may have gone back meanwhile.
            entry.expires_at = min(entry.expires_at, latest)
        self.ready.append(entry)
        self._may_expire = self._may_expire or entry.expires_at is not None

    def serve(self) -> None:
        """Deliver what can be delivered, and drop what is too old or too much."""
        self._expire()
        while (entry := self.ready.head()) is not None:
            consumer = self.consumers.next()
            if consumer is None:
                break
            self.ready.take(entry)
            self._deliver(entry, consumer)
            self._expire()
        self._drop_excess()
        self._watch_messages()

    def get(self) -> Entry | None:
        """Take the next message for `basic.get`; it must be settled, or removed at once."""
        self._expire()
        entry = self.ready.head()
        if entry is not None:
            self.ready.take(entry)
            self.unacked[entry] = None
        self._watch_messages()
        self.touch()
        return entry

    def acknowledge(self, entry: Entry) -> None:
        """Remove a message that was handled."""
        del self.unacked[entry]
        self._host.removed(self, entry)

    def reject(self, entry: Entry) -> None:
        """Dead-letter a message that is not wanted."""
        del self.unacked[entry]
        self._host.dead_letter(self, entry, REJECTED)

    def requeue(self, entries: Iterable[Entry], *, counts: bool) -> None:
        """Take messages back, oldest first.

        :param counts: towards the delivery limit of a quorum queue
        """
        limit = self.options.delivery_limit
        for entry in entries:
            del self.unacked[entry]
            entry.redelivered = True
            if self.options.is_quorum:
                entry.acquired_count += 1
                entry.delivery_count += counts
                self._host.changed(self, entry)
            if limit is not None and entry.delivery_count > limit:
                self._host.dead_letter(self, entry, DELIVERY_LIMIT)
            else:
                self.ready.put_back(entry)
                self._may_expire = self._may_expire or entry.expires_at is not None
        self.serve()

    def purge(self) -> int:
        """Drop the ready messages, without dead-lettering them; returns how many there were."""
        entries = self.ready.clear()
        for entry in entries:
            self._host.removed(self, entry)
        return len(entries)

    def add_consumer(self, consumer: Consumer) -> None:
        """Add a consumer."""
        self.consumers.add(consumer)
        self.touch()

    def remove_consumer(self, consumer: Consumer) -> None:
        """Remove a consumer; what it holds unacknowledged stays its channel's."""
        self.consumers.remove(consumer)
        self.touch()

    def touch(self) -> None:
        """Count `x-expires` from now; a queue with consumers does not expire."""
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
            self._expiry_timer = None
        if self.options.expires is not None and not self.consumers:
            due = self._host.clock.now() + self.options.expires
            self._expiry_timer = self._host.clock.call_at(
                due, lambda: self._host.queue_expired(self)
            )

    def close(self) -> None:
        """End a queue that is deleted: cancel its timers, and ignore late acks."""
        self._is_deleted = True
        self._host.discarded([*self.ready.clear(), *self.unacked, *(e for e, _ in self.held)])
        self.unacked.clear()
        self.held.clear()
        for timer in (self._expiry_timer, self._message_timer):
            if timer is not None:
                timer.cancel()

    def outgoing(self, entry: Entry) -> Message:
        """Return the message as a consumer gets it: a quorum queue tells how often it came back."""
        counts = {ACQUIRED_COUNT: entry.acquired_count, DELIVERY_COUNT: entry.delivery_count}
        changes = {name: count for name, count in counts.items() if count}
        return entry.message.with_headers(changes) if changes else entry.message

    def _entry(self, message: Message) -> Entry:
        self._count += 1
        return Entry(message, self._count, self._priority(message), self._latest_end(message))

    def _latest_end(self, message: Message) -> float | None:
        """Return when a message expires that comes now."""
        ttls = [
            ttl for ttl in (self.options.message_ttl, expiration_of(message)) if ttl is not None
        ]
        return self._host.clock.now() + min(ttls) if ttls else None

    def _priority(self, message: Message) -> int:
        given = message.properties.priority
        if self.options.is_quorum:
            return QUORUM_DEFAULT_PRIORITY if given is None else min(given, QUORUM_PRIORITIES)
        return min(given or 0, self.options.max_priority)

    def _deliver(self, entry: Entry, consumer: Consumer) -> None:
        if consumer.no_ack:
            self._host.removed(self, entry)
        else:
            self.unacked[entry] = consumer
            consumer.unacked += 1
        consumer.channel.deliver(consumer, entry, self.outgoing(entry))

    def _expire(self) -> None:
        if not self._may_expire:
            return
        now = self._host.clock.now()
        while expired := [head for head in self._expiring() if head.has_expired(now)]:
            for entry in expired:
                self.ready.take(entry)
                self._host.dead_letter(self, entry, EXPIRED)
        if not self.ready:
            self._may_expire = False

    def _expiring(self) -> list[Entry]:
        """Return the messages that may expire now: what is behind another one waits for its turn.

        In a classic queue that is the next one; in a quorum queue, the next of each priority.
        """
        heads = list(self.ready.heads())
        return heads if self.options.is_quorum else heads[:1]

    def _watch_messages(self) -> None:
        """Set a timer for when the next head expires."""
        due = None
        if self._may_expire:
            expiries = (head.expires_at for head in self._expiring())
            due = min((at for at in expiries if at is not None), default=None)
        timer = self._message_timer
        if timer is not None and not timer.is_cancelled:
            # One that comes too early only looks again; to set it anew for each message that
            # leaves would cost more.
            if due is not None and timer.due <= due:
                return
            timer.cancel()
        self._message_timer = None if due is None else self._host.clock.call_at(due, self.serve)

    def _would_overflow(self, entry: Entry) -> bool:
        limit, byte_limit = self.options.max_length, self.options.max_length_bytes
        count = len(self.ready) + len(self.held) + 1
        size = self.ready.bytes + self.held.bytes + entry.size
        return (limit is not None and count > limit) or (
            byte_limit is not None and size > byte_limit
        )

    def _drop_excess(self) -> None:
        limit, byte_limit = self.options.max_length, self.options.max_length_bytes
        if self.options.overflow != "drop-head" or (limit is None and byte_limit is None):
            return
        while (entry := self.ready.head()) is not None and (
            (limit is not None and len(self.ready) > limit)
            or (byte_limit is not None and self.ready.bytes > byte_limit)
        ):
            self.ready.take(entry)
            self._host.dead_letter(self, entry, MAXLEN)


def expiration_of(message: Message) -> float | None:
    """Return the message's own TTL in seconds; it was checked when it was published."""
    expiration = message.properties.expiration
    return int(expiration) / 1000 if expiration else None
