"""A channel: has methods carried out, numbers deliveries and publishes, closes on errors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from pamqp import body, commands

from mqkit.embedded.engine.message import Entry, Message
from mqkit.embedded.engine.queue import Consumer, Queue
from mqkit.embedded.engine.users import User
from mqkit.embedded.engine.vhost import VirtualHost
from mqkit.embedded.errors import ReplyError, precondition_failed, unexpected_content
from mqkit.embedded.session.content import Content
from mqkit.embedded.session.transactions import Transaction
from mqkit.embedded.session.turns import Turn
from mqkit.embedded.session.unacked import (
    Settle,
    Unacked,
    free_prefetch,
    requeue,
    requeue_uncounted,
)
from mqkit.embedded.wire import frames
from mqkit.embedded.wire.frames import Method, ReceivedHeader

ENCODED_KEPT = 2
"""Encodings of a message's content that are kept; consumers mostly use the same few channels."""

ENCODED_BODY = 4096
"""Bytes; the content of larger messages is encoded again each time, rather than held twice."""


class Session(Protocol):
    """What a channel uses of its connection; `connection.Connection` is one."""

    vhost: VirtualHost | None
    """What it opened; None before."""
    frame_max: int
    """Bytes of a whole frame, as agreed; 0 is no limit."""
    turn: Turn
    """What it may do before others have their turn."""

    @property
    def user(self) -> User: ...

    def can(self, capability: str) -> bool:
        """Return True if the client said that it understands this extension."""
        ...

    def can_take(self) -> bool:
        """Return True if deliveries may be written now."""
        ...

    def write(self, data: bytes) -> None:
        """Queue bytes for the client."""
        ...

    def confirm_later(self) -> None:
        """Call `confirm` of the channels once all that was done is durable."""
        ...

    def settle(self) -> None:
        """Make all that was done durable, then confirm it."""
        ...


Handler = Callable[["Channel", Any], Iterator[None] | None]
"""What does a method: at once, or in the short steps of what it returns."""


class Channel:
    """One channel of one connection."""

    def __init__(
        self, number: int, connection: Session, vhost: VirtualHost, methods: dict[type, Handler]
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
        self._content: Content | None = None
        """The message whose frames are coming."""

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
                content = self._expecting()
                if content.take_header(frame):
                    self._publish(content)
            elif isinstance(frame, body.ContentBody):
                content = self._expecting()
                if content.take_body(frame):
                    self._publish(content)
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
        """Return True if a delivery may be sent now."""
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

    def _take(self, tag: int, *, multiple: bool) -> dict[int, Unacked]:
        """Take out the deliveries that an ack, nack or reject is about, oldest first."""
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

    def settle(self, tag: int, how: Settle, *, multiple: bool) -> None:
        """Settle deliveries, now or at the commit.

        :raises ReplyError: 406, the tag is not one of an unacknowledged delivery
        """
        taken = self._take(tag, multiple=multiple)
        if self.transaction is not None:
            self.transaction.settle(how, taken)
        else:
            how(free_prefetch(taken.values()))

    def recover(self) -> None:
        """Give all that is unacknowledged back to its queues, uncounted (RabbitMQ 4.3)."""
        requeue_uncounted(free_prefetch(self._take(0, multiple=True).values()))

    def roll_back(self) -> None:
        """Undo the transaction, so that what was settled in it is unacknowledged again."""
        if self.transaction is not None and (again := self.transaction.rollback()):
            self.unacked.update(again)
            # `multiple` relies on their order.
            self.unacked = dict(sorted(self.unacked.items()))

    def next_publish(self) -> None:
        """Number a publish, in confirm mode."""
        if self.confirming:
            self._published += 1

    def confirm_later(self, *, taken: bool) -> None:
        """Confirm the present publish once everything of it is done and durable."""
        if self.confirming:
            self._confirms.append((self._published, taken))
            self.connection.confirm_later()

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
        """Forget a consumer whose queue is gone; the client is told if it understands that."""
        self.consumers.pop(consumer.tag, None)
        if tell and not self.is_closing and self.connection.can("consumer_cancel_notify"):
            self.send(commands.Basic.Cancel(consumer.tag, nowait=True))

    def stop_consumer(self, consumer: Consumer) -> None:
        """End a consumer because the client cancels it."""
        del self.consumers[consumer.tag]
        consumer.queue.remove_consumer(consumer)
        self.vhost.consumer_left(consumer.queue)

    def release(self) -> None:
        """End the consumers of a channel that is gone, and give back what is unacknowledged."""
        consumers = list(self.consumers.values())
        self.consumers.clear()
        for consumer in consumers:
            consumer.queue.remove_consumer(consumer)
        self.roll_back()
        requeue(free_prefetch(self._take(0, multiple=True).values()))
        for consumer in consumers:
            self.vhost.consumer_left(consumer.queue)
        if self.reply_key is not None:
            self.vhost.replies.forget(self.reply_key)
            self.reply_key = None
        self._content = None

    def serve(self) -> None:
        """Let the queues of its consumers deliver again, after something held them up."""
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
            self._content.refuse_method()
        if isinstance(method, commands.Basic.Publish):
            self._content = Content(method)
            return
        handler = self._methods.get(type(method))
        if handler is None:
            raise ReplyError(503, "unimplemented method")
        if (work := handler(self, method)) is not None:
            self._carry_on(work, method)

    def _carry_on(self, work: Iterator[None], method: Method) -> None:
        """Do work that may take several turns; meanwhile no frame of this connection is taken."""

        def steps() -> Iterator[None]:
            try:
                yield from work
            except ReplyError as error:
                if error.hard:
                    error.about = frames.ids(method)
                    raise
                self._fail(error, method)

        self.connection.turn.carry_on(steps())

    def _expecting(self) -> Content:
        """Return the message that a frame of content belongs to."""
        if self._content is None:
            raise unexpected_content()
        return self._content

    def _publish(self, content: Content) -> None:
        self._content = None
        publish = self._methods[commands.Basic.Publish]
        if (work := publish(self, content.whole())) is not None:
            self._carry_on(work, content.method)

    def _fail(self, error: ReplyError, frame: frames.Frame) -> None:
        about = frame if isinstance(frame, Method) else commands.Basic.Publish()
        self.is_closing = True
        class_id, method_id = frames.ids(about)
        self.send(commands.Channel.Close(error.code, error.text, class_id, method_id))
        self.release()
