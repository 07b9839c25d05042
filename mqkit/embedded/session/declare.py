"""What `exchange.*` and `queue.*` methods do: checked against permissions, then carried out."""

from __future__ import annotations

from typing import Any

from pamqp import commands

from mqkit.embedded.engine.direct_reply import NAME as REPLY_TO
from mqkit.embedded.engine.direct_reply import REPLY_PREFIX
from mqkit.embedded.engine.queue import Queue
from mqkit.embedded.engine.routing.bindings import Destination
from mqkit.embedded.engine.routing.exchanges import DEFAULT, RESERVED_PREFIX
from mqkit.embedded.errors import access_refused, not_found, not_implemented, precondition_failed
from mqkit.embedded.session.channel import Channel
from mqkit.embedded.wire import frames


def declare_exchange(channel: Channel, method: commands.Exchange.Declare) -> None:
    """Do `exchange.declare`, passive or not."""
    name = method.exchange
    _not_default(name)
    if method.passive:
        channel.connection.user.check_any("exchange", name, channel.vhost.name)
        channel.vhost.exchange(name)
    else:
        _check(channel, "configure", "exchange", name)
        arguments = dict(method.arguments or {})
        alternate = arguments.get("alternate-exchange")
        if isinstance(alternate, str):
            _check(channel, "read", "exchange", name)
            _check(channel, "write", "exchange", alternate)
        channel.vhost.declare_exchange(
            name,
            method.exchange_type,
            durable=method.durable,
            auto_delete=method.auto_delete,
            internal=method.internal,
            arguments=arguments,
        )
    channel.answer(method, commands.Exchange.DeclareOk())


def delete_exchange(channel: Channel, method: commands.Exchange.Delete) -> None:
    """Do `exchange.delete`."""
    name = method.exchange
    _not_default(name)
    if name.startswith(RESERVED_PREFIX):
        raise access_refused(
            f"deletion of system exchange '{name}' in vhost '{channel.vhost.name}' not allowed"
        )
    _check(channel, "configure", "exchange", name)
    channel.vhost.delete_exchange(name, if_unused=method.if_unused)
    channel.answer(method, commands.Exchange.DeleteOk())


def bind_exchange(channel: Channel, method: commands.Exchange.Bind) -> None:
    """Do `exchange.bind`, RabbitMQ's extension."""
    _may_bind_exchanges(channel, method.source, method.destination)
    source = channel.vhost.exchange(method.source)
    to = Destination("exchange", channel.vhost.exchange(method.destination).name)
    channel.vhost.bind(source, to, method.routing_key, dict(method.arguments or {}))
    channel.answer(method, commands.Exchange.BindOk())


def unbind_exchange(channel: Channel, method: commands.Exchange.Unbind) -> None:
    """Do `exchange.unbind`, RabbitMQ's extension; what is not there is unbound already."""
    _may_bind_exchanges(channel, method.source, method.destination)
    to = Destination("exchange", method.destination)
    channel.vhost.unbind(method.source, to, method.routing_key, method.arguments or {})
    channel.answer(method, commands.Exchange.UnbindOk())


def declare_queue(channel: Channel, method: commands.Queue.Declare) -> None:
    """Do `queue.declare`, passive or not."""
    vhost, connection = channel.vhost, channel.connection
    if method.queue == REPLY_TO or method.queue.startswith(REPLY_PREFIX):
        _declare_reply_queue(channel, method)
        return
    if method.passive:
        name = _name(channel, method.queue)
        connection.user.check_any("queue", name, vhost.name)
        queue = vhost.queue(name, connection)
        queue.touch()
    else:
        if method.queue.startswith(RESERVED_PREFIX):
            raise access_refused(
                f"queue name '{method.queue}' contains reserved prefix '{RESERVED_PREFIX}*'"
            )
        name = method.queue or f"{RESERVED_PREFIX}gen-{vhost.replies.token(16)}"
        _check(channel, "configure", "queue", name)
        arguments = dict(method.arguments or {})
        dead_letter_exchange = arguments.get("x-dead-letter-exchange")
        if isinstance(dead_letter_exchange, str):
            _check(channel, "read", "queue", name)
            _check(channel, "write", "exchange", dead_letter_exchange)
        queue = vhost.declare_queue(
            name,
            durable=method.durable,
            auto_delete=method.auto_delete,
            owner=connection if method.exclusive else None,
            connection=connection,
            arguments=arguments,
        )
    channel.last_queue = queue.name
    channel.answer(
        method, frames.QueueDeclareOk(queue.name, len(queue.ready), len(queue.consumers))
    )


def bind_queue(channel: Channel, method: commands.Queue.Bind) -> None:
    """Do `queue.bind`."""
    to, key = _queue_to_bind(channel, method)
    source = channel.vhost.exchange(method.exchange)
    channel.vhost.queue(to.name, channel.connection)
    channel.vhost.bind(source, to, key, dict(method.arguments or {}))
    channel.answer(method, commands.Queue.BindOk())


def unbind_queue(channel: Channel, method: commands.Queue.Unbind) -> None:
    """Do `queue.unbind`; what is not there is unbound already."""
    to, key = _queue_to_bind(channel, method)
    arguments = method.arguments or {}
    if channel.vhost.is_bound(method.exchange, to, key, arguments):
        # Only then does it matter whose the queue is.
        channel.vhost.queue(to.name, channel.connection)
    channel.vhost.unbind(method.exchange, to, key, arguments)
    channel.answer(method, commands.Queue.UnbindOk())


def purge_queue(channel: Channel, method: commands.Queue.Purge) -> None:
    """Do `queue.purge`."""
    queue = readable_queue(channel, method.queue)
    channel.answer(method, commands.Queue.PurgeOk(queue.purge()))


def delete_queue(channel: Channel, method: commands.Queue.Delete) -> None:
    """Do `queue.delete`; one that is not there is deleted already."""
    vhost = channel.vhost
    name = _name(channel, method.queue)
    _check(channel, "configure", "queue", name)
    if name not in vhost.queues:
        channel.answer(method, commands.Queue.DeleteOk(0))
    else:
        queue = vhost.queue(name, channel.connection)
        for flag, is_set in (("if-unused", method.if_unused), ("if-empty", method.if_empty)):
            if is_set and queue.options.is_quorum:
                raise not_implemented(
                    f"cannot delete queue '{name}' in vhost '{vhost.name}'. queue.delete "
                    f"operations with {flag} flag set are not supported by quorum queues"
                )
        if method.if_unused and queue.consumers:
            raise precondition_failed(f"queue '{name}' in vhost '{vhost.name}' in use")
        if method.if_empty and queue.ready:
            raise precondition_failed(f"queue '{name}' in vhost '{vhost.name}' not empty")
        # Before its consumers are told, as RabbitMQ's own order is.
        channel.answer(method, commands.Queue.DeleteOk(len(queue.ready)))
        vhost.delete_queue(queue)


def readable_queue(channel: Channel, name: str) -> Queue:
    """Return the queue that a method reads from; an empty name is the last one declared.

    :raises ReplyError: 403, 404 or 405
    """
    name = _name(channel, name)
    _check(channel, "read", "queue", name)
    return channel.vhost.queue(name, channel.connection)


def _name(channel: Channel, name: str) -> str:
    if name:
        return name
    if not channel.last_queue:
        raise not_found("no previously declared queue")
    return channel.last_queue


def _queue_to_bind(
    channel: Channel, method: commands.Queue.Bind | commands.Queue.Unbind
) -> tuple[Destination, str]:
    """Return the queue, which need not exist, and the key; checked against permissions."""
    name = _name(channel, method.queue)
    # An empty key with an empty queue name is the queue's name (AMQP 0-9-1, 1.7.2.3).
    key = name if not method.queue and not method.routing_key else method.routing_key
    _not_default(method.exchange)
    _check(channel, "write", "queue", name)
    _check(channel, "read", "exchange", method.exchange)
    return Destination("queue", name), key


def _may_bind_exchanges(channel: Channel, source: str, destination: str) -> None:
    _not_default(source)
    _not_default(destination)
    _check(channel, "write", "exchange", destination)
    _check(channel, "read", "exchange", source)


def _declare_reply_queue(channel: Channel, method: commands.Queue.Declare) -> None:
    """Answer if a channel still waits for replies at this name (direct reply-to)."""
    name = method.queue
    if name != REPLY_TO and not channel.vhost.replies.is_known(name):
        raise not_found(f"no queue '{name}' in vhost '{channel.vhost.name}'")
    channel.answer(method, frames.QueueDeclareOk(name, 0, 1))


def _not_default(name: str) -> None:
    if name == DEFAULT:
        raise access_refused("operation not permitted on the default exchange")


def _check(channel: Channel, permission: str, kind: str, name: str) -> None:
    channel.connection.user.check(permission, kind, name, channel.vhost.name)


HANDLERS: dict[type, Any] = {
    commands.Exchange.Declare: declare_exchange,
    commands.Exchange.Delete: delete_exchange,
    commands.Exchange.Bind: bind_exchange,
    commands.Exchange.Unbind: unbind_exchange,
    commands.Queue.Declare: declare_queue,
    commands.Queue.Bind: bind_queue,
    commands.Queue.Unbind: unbind_queue,
    commands.Queue.Purge: purge_queue,
    commands.Queue.Delete: delete_queue,
}
