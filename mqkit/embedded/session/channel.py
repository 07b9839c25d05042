"""A channel: puts messages together from their frames, numbers deliveries, closes on errors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from pamqp import body, commands

from mqkit.embedded.engine.consumers import Consumer
from mqkit.embedded.engine.message import Entry, Message
from mqkit.embedded.engine.queue import Queue
from mqkit.embedded.engine.vhost import VirtualHost
from mqkit.embedded.errors import ReplyError, precondition_failed, unexpected_content
from mqkit.embedded.session.transactions import Transaction
from mqkit.embedded.wire import frames
from mqkit.embedded.wire.frames import Method, ReceivedHeader

if TYPE_CHECKING:
    from mqkit.embedded.session.connection import Connection

ENCODED_KEPT = 2
"""Encodings of a message's content that are kept; consumers mostly use the same few channels."""

ENCODED_BODY = 4096
"""Bytes; the content of larger messages is encoded again each time, rather than held twice."""

MAX_BODY = 16 * 1024 * 1024
"""Bytes; RabbitMQ's own default since 4.0 (`max_message_size`)."""

MAX_BODY_EVER = 512 * 1024 * 1024
"""Bytes; a header that announces more closes the connection (RabbitMQ 4.3)."""


@dataclass(frozen=True, slots=True)
class Unacked:
    """What was delivered and not settled yet."""

    queue: Queue
    entry: Entry
    consumer: Consumer | None


@dataclass(slots=True)
class _Content:
    """A message of which not all frames have come."""

    method: commands.Basic.Publish
    header: ReceivedHeader | None
    parts: list[bytes]
    missing: int


Handler = Callable[["Channel", Any], Iterator[None] | None]
"""What does a method: at once, or in the short steps of what it returns."""


class Channel:
    """One channel of one connection."""

    def __init__(
        self, number: int, connection: Connection, vhost: VirtualHost, methods: dict[type, Handler]
    ) -> None:
        self.number = number
        self.connection = connection
        self.vhost = vhost
        self.is_closing = False
        """We sent `channel.close`, and wait for its answer."""
        self.consumers: dict[str, Consumer] = {}
        self.unacked: dict[int, Unacked] = {}
        self.prefetch = 0
        """For consumers that start from now on."""
        self.last_queue = ""
        """What an empty queue name means: the one declared last on this channel."""
        self.confirming = False
        self.transaction: Transaction | None = None
        """What waits for `tx.commit`; None on a channel without transactions."""
        self.reply_key: str | None = None
        """Where answers to this channel arrive (direct reply-to)."""
        self.reply_tag = ""
        self._methods = methods
        self._tag = 0
        self._published = 0
        self._confirms: list[tuple[int, bool]] = []
        self._content: _Content | None = None

    @property
    def about(self) -> tuple[int, int] | None:
        """The class and method whose content is coming; None between methods."""
        return None if self._content is None else frames.ids(self._content.method)

    def receive(self, frame: frames.Frame) -> None:
        """Take one frame; what comes after `channel.close` is dropped until its answer.

        :raises ReplyError: a hard error; a soft one closes this channel
        """
        if self.is_closing:
            return
        try:
            if isinstance(frame, Method):
                self._method(frame)
            elif isinstance(frame, ReceivedHeader):
                self._header(frame)
            elif isinstance(frame, body.ContentBody):
                self._body(frame)
        except ReplyError as error:
            if error.hard:
                raise
            self._fail(error, frame)

    def answer(self, to: Any, reply: Method) -> None:
        """Send a reply, unless the client said that it waits for none."""
        if not getattr(to, "nowait", False):
            self.send(reply)

    def send(self, method: Method) -> None:
        """Write a method frame."""
        self.connection.write(frames.method(self.number, method))

    def can_take(self) -> bool:
        """True if a delivery may be sent now."""
        return not self.is_closing and self.connection.can_take()

    def deliver(self, consumer: Consumer, entry: Entry, message: Message) -> None:
        """Send a message to a consumer; it is unacknowledged from now on."""
        tag = self._next_tag()
        if not consumer.no_ack:
            self.unacked[tag] = Unacked(consumer.queue, entry, consumer)
        method = frames.Deliver(
            consumer.tag, tag, entry.redelivered, message.exchange, message.routing_key
        )
        self._send_content(method, message)

    def deliver_got(self, queue: Queue, entry: Entry, message: Message, *, no_ack: bool) -> None:
        """Answer a `basic.get` with a message."""
        tag = self._next_tag()
        if not no_ack:
            self.unacked[tag] = Unacked(queue, entry, None)
        method = frames.GetOk(
            tag, entry.redelivered, message.exchange, message.routing_key, len(queue.ready)
        )
        self._send_content(method, message)

    def deliver_reply(self, message: Message) -> None:
        """Send an answer to whoever asked from this channel (direct reply-to)."""
        method = frames.Deliver(
            self.reply_tag, self._next_tag(), False, message.exchange, message.routing_key
        )
        self._send_content(method, message)

    def return_(self, message: Message) -> None:
        """Give a mandatory message back that could not be routed."""
        method = frames.Return(312, "NO_ROUTE", message.exchange, message.routing_key)
        self._send_content(method, message)

    def take(self, tag: int, *, multiple: bool) -> dict[int, Unacked]:
        """Take out what an ack, nack or reject is about, oldest first; then it is to be `settled`.

        :raises ReplyError: 406, the tag is not one of an unacknowledged delivery
        """
        if not multiple:
            found = self.unacked.pop(tag, None)
            if found is None:
                raise precondition_failed(f"unknown delivery tag {tag}")
            return {tag: found}
        # Tag 0 is all (AMQP 0-9-1, section 1.8.3.13).
        if tag and tag not in self.unacked:
            raise precondition_failed(f"unknown delivery tag {tag}")
        # Tags count up, so those behind it need not be looked at.
        tags = list(itertools.takewhile(lambda each: not tag or each <= tag, self.unacked))
        return {each: self.unacked.pop(each) for each in tags}

    @staticmethod
    def settled(taken: dict[int, Unacked]) -> list[Unacked]:
        """Count deliveries that were taken out no more towards their consumers' prefetch."""
        for each in taken.values():
            if each.consumer is not None:
                each.consumer.unacked -= 1
        return list(taken.values())

    def requeue_all(self, *, counts: bool) -> None:
        """Give all that is unacknowledged back to its queues."""
        self.requeue(self.settled(self.take(0, multiple=True)), counts=counts)

    @staticmethod
    def requeue(settled: Iterable[Unacked], *, counts: bool) -> None:
        """Give deliveries back to their queues, each queue's together, oldest first."""
        by_queue: dict[Queue, list[Entry]] = {}
        for each in settled:
            by_queue.setdefault(each.queue, []).append(each.entry)
        for queue, entries in by_queue.items():
            queue.requeue([entry for entry in entries if entry in queue.unacked], counts=counts)

    def next_publish(self) -> None:
        """Number a publish, in confirm mode."""
        if self.confirming:
            self._published += 1

    def confirm_later(self, *, taken: bool) -> None:
        """Confirm the present publish once everything of it is done and durable."""
        if self.confirming:
            self._confirms.append((self._published, taken))
            self.connection.node.unconfirmed.add(self.connection)

    def confirm(self) -> None:
        """Send the confirms that wait; those of one kind in a row as one."""
        confirms, self._confirms = self._confirms, []
        if self.is_closing:
            return
        first = 0
        for index, (tag, taken) in enumerate(confirms):
            if index + 1 < len(confirms) and confirms[index + 1][1] is taken:
                continue
            multiple = index > first
            first = index + 1
            if taken:
                self.send(commands.Basic.Ack(tag, multiple))
            else:
                self.send(commands.Basic.Nack(tag, multiple, False))

    def consumer_gone(self, consumer: Consumer, *, tell: bool) -> None:
        """A consumer's queue is gone; the client is told if it understands that."""
        self.consumers.pop(consumer.tag, None)
        if tell and not self.is_closing and self.connection.can("consumer_cancel_notify"):
            self.send(commands.Basic.Cancel(consumer.tag, nowait=True))

    def stop_consumer(self, consumer: Consumer) -> None:
        """End a consumer by its own wish."""
        del self.consumers[consumer.tag]
        consumer.queue.remove_consumer(consumer)
        self.vhost.consumer_left(consumer.queue)

    def release(self) -> None:
        """End the consumers and give back what is unacknowledged: the channel is gone."""
        consumers = list(self.consumers.values())
        self.consumers.clear()
        for consumer in consumers:
            consumer.queue.remove_consumer(consumer)
        if self.transaction is not None:
            self.transaction.rollback()
        self.requeue_all(counts=True)
        for consumer in consumers:
            self.vhost.consumer_left(consumer.queue)
        if self.reply_key is not None:
            self.vhost.replies.forget(self.reply_key)
            self.reply_key = None
        self._content = None

    def serve(self) -> None:
        """Let the queues of its consumers go on, after something held them up."""
        for queue in {consumer.queue for consumer in self.consumers.values()}:
            queue.serve()

    def _next_tag(self) -> int:
        self._tag += 1
        return self._tag

    def _send_content(self, method: Method, message: Message) -> None:
        frame_max = self.connection.frame_max
        kept = message.encoded or {}
        content = kept.get((self.number, frame_max))
        if content is None:
            content = frames.content(self.number, message.content_header(), message.body, frame_max)
            if message.is_shared and len(kept) < ENCODED_KEPT and len(message.body) <= ENCODED_BODY:
                message.encoded = {**kept, (self.number, frame_max): content}
        self.connection.write(frames.method(self.number, method) + content)

    def _method(self, method: Method) -> None:
        if self._content is not None:
            self._expected_content("header" if self._content.header is None else "body")
        if isinstance(method, commands.Basic.Publish):
            self._content = _Content(method, None, [], 0)
            return
        handler = self._methods.get(type(method))
        if handler is None:
            raise ReplyError(503, "unimplemented method")
        if (work := handler(self, method)) is not None:
            self._carry_on(work, method)

    def _carry_on(self, work: Iterator[None], method: Method) -> None:
        """Do what takes several turns; meanwhile no frame of this connection is taken."""

        def steps() -> Iterator[None]:
            try:
                yield from work
            except ReplyError as error:
                if error.hard:
                    error.about = frames.ids(method)
                    raise
                self._fail(error, method)

        self.connection.turn.carry_on(steps())

    def _header(self, header: ReceivedHeader) -> None:
        content = self._content
        if content is None:
            raise unexpected_content()
        if content.header is not None:
            self._expected_content("body")
        if header.content_class != commands.Basic.frame_id:
            raise ReplyError(
                505,
                f"expected content header for class 60, got one for class "
                f"{header.content_class} instead",
            )
        if header.weight:
            self._expected_content("header")
        if header.body_size > MAX_BODY_EVER:
            raise ReplyError(
                501,
                f"content body size {header.body_size} exceeds maximum allowed size "
                f"{MAX_BODY_EVER}",
            )
        content.header = header
        content.missing = header.body_size
        if not content.missing:
            self._publish(content)

    def _body(self, part: body.ContentBody) -> None:
        content = self._content
        if content is None:
            raise unexpected_content()
        if content.header is None:
            self._expected_content("header")
        if content.header.body_size <= MAX_BODY:
            content.parts.append(part.value)
        content.missing -= len(part.value)
        if content.missing < 0:
            raise ReplyError(501, "content body frame exceeds remaining content size")
        if not content.missing:
            self._publish(content)

    @staticmethod
    def _expected_content(what: str) -> NoReturn:
        # What came instead does not matter to RabbitMQ either.
        of_class = " for class 60" if what == "header" else ""
        raise ReplyError(
            505, f"expected content {what}{of_class}, got non content {what} frame instead"
        )

    def _publish(self, content: _Content) -> None:
        self._content = None
        assert content.header is not None
        if (size := content.header.body_size) > MAX_BODY:
            # Only now, as RabbitMQ: a client that is told sooner has not sent all of it yet.
            raise precondition_failed(
                f"message size {size} is larger than configured max size {MAX_BODY}"
            )
        publish = self._methods[commands.Basic.Publish]
        work = publish(self, (content.method, content.header, b"".join(content.parts)))
        if work is not None:
            self._carry_on(work, content.method)

    def _fail(self, error: ReplyError, frame: frames.Frame) -> None:
        about = frame if isinstance(frame, Method) else commands.Basic.Publish()
        self.is_closing = True
        class_id, method_id = frames.ids(about)
        self.send(commands.Channel.Close(error.code, error.text, class_id, method_id))
        self.release()
