"""What `basic.*`, `confirm.*` and `channel.flow` methods do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pamqp import commands

from mqkit.embedded.engine.arguments import consumer_priority, expiration_fault
from mqkit.embedded.engine.direct_reply import NAME as REPLY_TO
from mqkit.embedded.engine.message import Message, header_routing_keys
from mqkit.embedded.engine.queue import Consumer
from mqkit.embedded.engine.vhost import Target
from mqkit.embedded.errors import (
    access_refused,
    not_allowed,
    not_implemented,
    precondition_failed,
    resource_locked,
)
from mqkit.embedded.session.channel import Channel
from mqkit.embedded.session.content import Published
from mqkit.embedded.session.declare import readable_queue
from mqkit.embedded.session.unacked import acknowledge, requeue, requeue_uncounted
from mqkit.embedded.session.unacked import reject as dead_letter

AT_ONCE = 100
"""Queues that a message is offered to without a look at the time."""


def publish(channel: Channel, published: Published) -> Iterator[None] | None:
    """Do `basic.publish` with its content: route it, return it if it must be, confirm it later."""
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
    message = Message(exchange.name, keys, properties, body, header.raw)
    if "BCC" in message.headers:
        # Nobody is to see who else got it.
        message = message.with_headers({"BCC": None})
    if properties.reply_to == REPLY_TO:
        message = _with_reply_key(channel, message)
    targets = vhost.targets(exchange, message)
    if channel.transaction is not None:
        channel.transaction.publish(message, targets, mandatory=method.mandatory)
        return None
    if len(targets) > AT_ONCE:
        return _offer(channel, message, targets)
    taken = [target.offer(message) for target in targets]
    message.condense()
    if not targets and method.mandatory:
        channel.return_(message)
    channel.confirm_later(taken=all(taken))
    return None


def qos(channel: Channel, method: commands.Basic.Qos) -> None:
    """Do `basic.qos`: for each consumer that starts after it, with `global` as well.

    RabbitMQ 4.3 has no prefetch shared by a channel any more, unless it is told to.
    """
    if method.prefetch_size:
        raise not_implemented(f"prefetch_size!=0 ({method.prefetch_size})")
    channel.prefetch = method.prefetch_count
    channel.send(commands.Basic.QosOk())


def consume(channel: Channel, method: commands.Basic.Consume) -> None:
    """Do `basic.consume`."""
    tag = method.consumer_tag or f"amq.ctag-{channel.vhost.replies.token(16)}"
    if tag in channel.consumers or tag == channel.reply_tag:
        raise not_allowed(f"attempt to reuse consumer tag '{tag}'")
    if method.queue == REPLY_TO:
        _consume_replies(channel, method, tag)
        return
    queue = readable_queue(channel, method.queue)
    arguments = dict(method.arguments or {})
    priority = consumer_priority(arguments, queue.options, queue.name, channel.vhost.name)
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
    """Do `basic.cancel`; a tag that is not there is cancelled already."""
    tag = method.consumer_tag or ""
    consumer = channel.consumers.get(tag)
    if consumer is not None:
        channel.stop_consumer(consumer)
    elif channel.reply_key is not None and tag == channel.reply_tag:
        channel.vhost.replies.forget(channel.reply_key)
        channel.reply_key, channel.reply_tag = None, ""
    channel.answer(method, commands.Basic.CancelOk(tag))


def get(channel: Channel, method: commands.Basic.Get) -> None:
    """Do `basic.get`."""
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
    """Do `basic.ack`."""
    channel.settle(method.delivery_tag, acknowledge, multiple=method.multiple)


def nack(channel: Channel, method: commands.Basic.Nack) -> None:
    """Do `basic.nack`, RabbitMQ's extension: it does not count towards a delivery limit (4.3)."""
    how = requeue_uncounted if method.requeue else dead_letter
    channel.settle(method.delivery_tag, how, multiple=method.multiple)


def reject(channel: Channel, method: commands.Basic.Reject) -> None:
    """Do `basic.reject`: it counts towards a delivery limit."""
    how = requeue if method.requeue else dead_letter
    channel.settle(method.delivery_tag or 0, how, multiple=False)


def recover(channel: Channel, method: commands.Basic.Recover) -> None:
    """Do `basic.recover`: what is unacknowledged goes back to its queues, uncounted (4.3)."""
    if not method.requeue:
        raise not_implemented("requeue=false")
    # Before what comes back is delivered again, as RabbitMQ's own order is.
    channel.send(commands.Basic.RecoverOk())
    channel.recover()


def recover_async(channel: Channel, method: commands.Basic.RecoverAsync) -> None:
    """Do `basic.recover-async`: as `basic.recover`, without an answer."""
    if not method.requeue:
        raise not_implemented("requeue=false")
    channel.recover()


def confirm_select(channel: Channel, method: commands.Confirm.Select) -> None:
    """Do `confirm.select`: publishes are numbered from here, and confirmed."""
    if channel.transaction is not None:
        raise precondition_failed("cannot switch from tx to confirm mode")
    channel.confirming = True
    channel.answer(method, commands.Confirm.SelectOk())


def flow(channel: Channel, method: commands.Channel.Flow) -> None:
    """Do `channel.flow`: RabbitMQ does not stop deliveries by it, and prefetch does that better."""
    if not method.active:
        raise not_implemented("active=false")
    channel.send(commands.Channel.FlowOk(True))


def _offer(channel: Channel, message: Message, targets: Sequence[Target]) -> Iterator[None]:
    """Offer a message to very many queues, one after the other."""
    all_taken = True
    for target in targets:
        all_taken = target.offer(message) and all_taken
        yield
    message.condense()
    channel.confirm_later(taken=all_taken)


def _consume_replies(channel: Channel, method: commands.Basic.Consume, tag: str) -> None:
    if not method.no_ack:
        raise precondition_failed("reply consumer cannot acknowledge")
    if channel.reply_key is not None:
        raise precondition_failed("reply consumer already set")
    channel.reply_tag = tag
    channel.reply_key = channel.vhost.replies.register(channel.deliver_reply)
    channel.answer(method, commands.Basic.ConsumeOk(tag))


def _with_reply_key(channel: Channel, message: Message) -> Message:
    """Put the channel's own reply key into `reply_to`, which named the pseudo-queue only."""
    if channel.reply_key is None:
        raise precondition_failed("fast reply consumer does not exist")
    changed = message.with_headers({})
    changed.properties.reply_to = channel.reply_key
    return changed


def _check_expiration(expiration: str | None) -> None:
    if expiration is not None and (why := expiration_fault(expiration)) is not None:
        raise precondition_failed(f"invalid expiration '{expiration}': {why}")


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
}
