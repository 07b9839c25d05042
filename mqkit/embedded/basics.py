"""What `basic.*`, `confirm.*`, `channel.flow` and `tx.*` methods do."""

from __future__ import annotations

import re
import secrets
from typing import Any

from pamqp import commands

from mqkit.embedded.arguments import MAX_MILLISECONDS
from mqkit.embedded.channel import Channel
from mqkit.embedded.consumers import Consumer
from mqkit.embedded.declarations import readable_queue
from mqkit.embedded.errors import (
    access_refused,
    not_allowed,
    not_implemented,
    precondition_failed,
    resource_locked,
)
from mqkit.embedded.frames import ReceivedHeader
from mqkit.embedded.message import Message, header_routing_keys
from mqkit.embedded.reply_to import NAME as REPLY_TO

Published = tuple[commands.Basic.Publish, ReceivedHeader, bytes]


def publish(channel: Channel, published: Published) -> None:
    """`basic.publish` with its content: route it, return it if it must be, confirm it later."""
    method, header, body = published
    channel.next_publish()
    vhost, connection = channel.vhost, channel.connection
    connection.user.check("write", "exchange", method.exchange, vhost.name)
    exchange = vhost.exchange(method.exchange)
    if exchange.internal:
        raise access_refused(
            f"cannot publish to internal exchange '{exchange.name}' in vhost '{vhost.name}'"
        )
    if method.immediate:
        raise not_implemented("immediate=true")
    properties = header.properties
    if properties.user_id and properties.user_id != connection.user.name:
        raise precondition_failed(
            f"user_id property set to '{properties.user_id}' but authenticated user was "
            f"'{connection.user.name}'"
        )
    _check_expiration(properties.expiration)
    keys = (method.routing_key, *header_routing_keys(properties.headers or {}))
    message = Message(exchange.name, keys, properties, body, header)
    if "BCC" in message.headers:
        # Nobody is to see who else got it.
        message = message.with_headers({"BCC": None})
    if properties.reply_to == REPLY_TO:
        message = _with_reply_key(channel, message)
    routed, taken = vhost.publish(exchange, message)
    if not routed and method.mandatory:
        channel.return_(message)
    channel.confirm_later(taken=taken)


def qos(channel: Channel, method: commands.Basic.Qos) -> None:
    """`basic.qos`: for each consumer that starts after it, with `global` as well.

    RabbitMQ 4.3 has no prefetch shared by a channel any more, unless it is told to.
    """
    if method.prefetch_size:
        raise not_implemented(f"prefetch_size!=0 ({method.prefetch_size})")
    channel.prefetch = method.prefetch_count
    channel.send(commands.Basic.QosOk())


def consume(channel: Channel, method: commands.Basic.Consume) -> None:
    """`basic.consume`."""
    tag = method.consumer_tag or f"amq.ctag-{secrets.token_urlsafe(16)}"
    if tag in channel.consumers or tag == channel.reply_tag:
        raise not_allowed(f"attempt to reuse consumer tag '{tag}'")
    if method.queue == REPLY_TO:
        _consume_replies(channel, method, tag)
        return
    queue = readable_queue(channel, method.queue)
    arguments = dict(method.arguments or {})
    priority = arguments.get("x-priority", 0)
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise precondition_failed(f"Invalid x-priority: {priority!r}")
    single = queue.options.single_active_consumer
    # As in RabbitMQ: quorum queues take no notice of it.
    exclusive = method.exclusive and not queue.options.is_quorum
    if (exclusive and (queue.consumers or single)) or queue.consumers.has_exclusive:
        raise access_refused(
            f"queue '{queue.name}' in vhost '{channel.vhost.name}' in exclusive use"
        )
    consumer = Consumer(
        tag,
        queue,
        channel,
        no_ack=method.no_ack,
        exclusive=exclusive,
        priority=priority,
        prefetch=channel.prefetch,
        arguments=arguments,
    )
    channel.consumers[tag] = consumer
    queue.add_consumer(consumer)
    channel.answer(method, commands.Basic.ConsumeOk(tag))
    queue.serve()


def cancel(channel: Channel, method: commands.Basic.Cancel) -> None:
    """`basic.cancel`; a tag that is not there is cancelled already."""
    tag = method.consumer_tag or ""
    consumer = channel.consumers.get(tag)
    if consumer is not None:
        channel.stop_consumer(consumer)
    elif channel.reply_key is not None and tag == channel.reply_tag:
        channel.vhost.replies.forget(channel.reply_key)
        channel.reply_key, channel.reply_tag = None, ""
    channel.answer(method, commands.Basic.CancelOk(tag))


def get(channel: Channel, method: commands.Basic.Get) -> None:
    """`basic.get`."""
    queue = readable_queue(channel, method.queue)
    if queue.options.is_quorum and queue.options.single_active_consumer:
        raise resource_locked(
            f"cannot obtain access to locked queue '{queue.name}' in vhost "
            f"'{channel.vhost.name}'. basic.get operations are not supported by quorum queues "
            "with single active consumer"
        )
    entry = queue.get()
    if entry is None:
        channel.send(commands.Basic.GetEmpty())
        return
    channel.deliver_got(queue, entry, queue.outgoing(entry), no_ack=method.no_ack)
    if method.no_ack:
        queue.acknowledge(entry)


def ack(channel: Channel, method: commands.Basic.Ack) -> None:
    """`basic.ack`."""
    settled = channel.settle(method.delivery_tag, multiple=method.multiple)
    for each in settled:
        if each.entry in each.queue.unacked:
            each.queue.acknowledge(each.entry)
    for queue in {each.queue for each in settled}:
        queue.serve()


def nack(channel: Channel, method: commands.Basic.Nack) -> None:
    """`basic.nack`, RabbitMQ's extension: it does not count towards a delivery limit (4.3)."""
    tag, multiple, requeue = method.delivery_tag, method.multiple, method.requeue
    _refuse(channel, tag, multiple=multiple, requeue=requeue, counts=False)


def reject(channel: Channel, method: commands.Basic.Reject) -> None:
    """`basic.reject`: it counts towards a delivery limit."""
    tag = method.delivery_tag or 0
    _refuse(channel, tag, multiple=False, requeue=method.requeue, counts=True)


def recover(channel: Channel, method: commands.Basic.Recover) -> None:
    """`basic.recover`: all that is unacknowledged goes back to its queues, uncounted (4.3)."""
    if not method.requeue:
        raise not_implemented("requeue=false")
    channel.requeue_all(counts=False)
    channel.send(commands.Basic.RecoverOk())


def recover_async(channel: Channel, method: commands.Basic.RecoverAsync) -> None:
    """`basic.recover-async`: as `basic.recover`, without an answer."""
    if not method.requeue:
        raise not_implemented("requeue=false")
    channel.requeue_all(counts=False)


def confirm_select(channel: Channel, method: commands.Confirm.Select) -> None:
    """`confirm.select`: publishes are numbered from here, and confirmed."""
    channel.confirming = True
    channel.answer(method, commands.Confirm.SelectOk())


def flow(channel: Channel, method: commands.Channel.Flow) -> None:
    """`channel.flow`: RabbitMQ does not stop deliveries by it, and prefetch does that better."""
    if not method.active:
        raise not_implemented("active=false")
    channel.send(commands.Channel.FlowOk(True))


def transaction(_: Channel, method: Any) -> None:
    """`tx.*`: refused, rather than accepted and not kept."""
    raise not_implemented(
        f"{method.name}: transactions are not implemented by this broker; use publisher confirms"
    )


def _refuse(channel: Channel, tag: int, *, multiple: bool, requeue: bool, counts: bool) -> None:
    settled = channel.settle(tag, multiple=multiple)
    if requeue:
        channel.requeue(settled, counts=counts)
        return
    for each in settled:
        if each.entry in each.queue.unacked:
            each.queue.reject(each.entry)
    for queue in {each.queue for each in settled}:
        queue.serve()


def _consume_replies(channel: Channel, method: commands.Basic.Consume, tag: str) -> None:
    if not method.no_ack:
        raise precondition_failed("reply consumer cannot acknowledge")
    if channel.reply_key is not None:
        raise precondition_failed("reply consumer already set")
    channel.reply_tag = tag
    channel.reply_key = channel.vhost.replies.register(channel.deliver_reply)
    channel.answer(method, commands.Basic.ConsumeOk(tag))


def _with_reply_key(channel: Channel, message: Message) -> Message:
    """What answers the message must know where to; the pseudo-queue's name would not tell."""
    if channel.reply_key is None:
        raise precondition_failed("fast reply consumer does not exist")
    changed = message.with_headers({})
    changed.properties.reply_to = channel.reply_key
    return changed


def _check_expiration(expiration: str | None) -> None:
    if expiration is None:
        return
    if not re.fullmatch(r"[0-9]+", expiration):
        raise precondition_failed(f"invalid expiration '{expiration[:50]}': no_integer")
    if int(expiration) > MAX_MILLISECONDS:
        raise precondition_failed(f"invalid expiration '{expiration[:50]}'")


HANDLERS: dict[type, Any] = {
    commands.Basic.Publish: publish,
    commands.Basic.Qos: qos,
    commands.Basic.Consume: consume,
    commands.Basic.Cancel: cancel,
    commands.Basic.Get: get,
    commands.Basic.Ack: ack,
    commands.Basic.Nack: nack,
    commands.Basic.Reject: reject,
    commands.Basic.Recover: recover,
    commands.Basic.RecoverAsync: recover_async,
    commands.Confirm.Select: confirm_select,
    commands.Channel.Flow: flow,
    commands.Tx.Select: transaction,
    commands.Tx.Commit: transaction,
    commands.Tx.Rollback: transaction,
}
