"""Writes the AsyncAPI 3 document of one or several services.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mqkit.asyncapi.facts import Body, Facts, Receives, Sends, facts
from mqkit.asyncapi.payloads import ARGUMENTS, BINDING, Messages, component_id
from mqkit.codec import JSON
from mqkit.errors import ConfigurationError
from mqkit.registration.service import Service
from mqkit.settings import BrokerUrl
from mqkit.topology import Exchange, Queue

VERSION = "3.0.0"

Document = dict[str, Any]


def describe(
    services: Sequence[Service],
    *,
    title: str | None = None,
    version: str = "0.0.0",
    url: BrokerUrl | None = None,
) -> Document:
    """Return the AsyncAPI document of services, as a dict that JSON can have.

    A handler is an operation that receives from the channel of its queue; each binding of the queue
    is a channel of its own, for who publishes there. What a service says it publishes is an
    operation that sends.

    :param title: of the document; by default the names of the services
    :param version: of what is described; the services have none of their own
    :param url: the broker, whose host and virtual host are told and nothing else of it
    :raises ConfigurationError: there is no service
    """
    if not services:
        raise ConfigurationError("an AsyncAPI document is of one service or more")
    known = facts(services)
    messages = Messages(_all_bodies(known))
    channels = _Channels(messages)
    operations: Document = {}
    for receives in known.receives:
        name = component_id(f"{receives.service}.receive.{receives.queue.name}", operations)
        operations[name] = _receive(receives, channels)
    for sends in known.sends:
        key = sends.exchange.name if sends.key is None else f"{sends.exchange.name}.{sends.key}"
        name = component_id(f"{sends.service}.send.{key}", operations)
        operations[name] = _send(sends, channels)
    names = [service.name for service in services]
    found: Document = {
        "asyncapi": VERSION,
        "info": {"title": title or ", ".join(names), "version": version},
        "defaultContentType": JSON,
    }
    if url is not None:
        found["servers"] = dict(_servers(url))
    components: Document = {"messages": messages.messages}
    if messages.schemas:
        components["schemas"] = messages.schemas
    return {**found, "channels": channels.found, "operations": operations, "components": components}


def _all_bodies(known: Facts) -> Iterator[Body]:
    for receives in known.receives:
        yield from receives.bodies
    for sends in known.sends:
        yield from sends.bodies
    for receives in known.receives:
        yield from receives.replies


def _servers(url: BrokerUrl) -> Iterator[tuple[str, Document]]:
    """Yield each host of a URL; its user and password are no part of a description."""
    for number, host in enumerate(url.hosts, start=1):
        yield (
            f"broker-{number}" if len(url.hosts) > 1 else "broker",
            {
                "host": str(host),
                "protocol": "amqps" if url.tls else "amqp",
                "protocolVersion": "0-9-1",
                "pathname": "/" if url.vhost == "/" else f"/{url.vhost}",
            },
        )


class _Channels:
    """The channels of a document, each once."""

    def __init__(self, messages: Messages) -> None:
        self.found: Document = {}
        self._ids: dict[tuple[str, str, str | None], str] = {}
        self._messages = messages

    def queue(self, queue: Queue, bodies: Sequence[Body]) -> str:
        """Return the id of a queue's channel, with these messages in it."""
        told = {
            "name": queue.name,
            "durable": queue.durable,
            "exclusive": queue.exclusive,
            "autoDelete": queue.auto_delete,
        }
        if queue.declare:
            told[ARGUMENTS] = _arguments(queue.declared_arguments())
        binding = {"is": "queue", "queue": told, "bindingVersion": BINDING}
        return self._channel(("queue", queue.name, None), queue.name, binding, bodies)

    def exchange(self, exchange: Exchange, key: str | None, bodies: Sequence[Body]) -> str:
        """Return the id of the channel of an exchange and a key, with these messages in it."""
        told = {
            "name": exchange.name,
            "type": exchange.type,
            "durable": exchange.durable,
            "autoDelete": exchange.auto_delete,
        }
        if exchange.arguments:
            told[ARGUMENTS] = _arguments(exchange.arguments)
        binding = {"is": "routingKey", "exchange": told, "bindingVersion": BINDING}
        return self._channel(("exchange", exchange.name, key), key, binding, bodies)

    def reply(self, queue: Queue, bodies: Sequence[Body]) -> str:
        """Return the id of the channel on which a handler's replies go to who asked."""
        channel = self._channel(("reply", queue.name, None), None, None, bodies)
        self.found[channel]["description"] = "The queue that the request names in its reply_to."
        return channel

    def _channel(
        self,
        identity: tuple[str, str, str | None],
        address: str | None,
        binding: Document | None,
        bodies: Sequence[Body],
    ) -> str:
        if identity not in self._ids:
            name = ".".join(filter(None, identity))
            self._ids[identity] = found = component_id(name, self.found)
            self.found[found] = {"address": address, "messages": {}}
            if binding is not None:
                self.found[found]["bindings"] = {"amqp": binding}
        channel = self._ids[identity]
        for body in bodies:
            message = self._messages.id_of(body)
            reference = {"$ref": f"#/components/messages/{message}"}
            self.found[channel]["messages"][message] = reference
        return channel

    def references(self, channel: str, bodies: Sequence[Body]) -> list[Document]:
        """Return references to messages of a channel."""
        ids = dict.fromkeys(self._messages.id_of(body) for body in bodies)
        return [{"$ref": f"#/channels/{channel}/messages/{each}"} for each in ids]


def _receive(receives: Receives, channels: _Channels) -> Document:
    channel = channels.queue(receives.queue, receives.bodies)
    bound = [
        channels.exchange(each.exchange, each.routing_key, receives.bodies)
        for each in receives.sources
    ]
    operation: Document = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{channel}"},
        "title": receives.handler.name,
        "tags": [{"name": receives.service}],
        "messages": channels.references(channel, receives.bodies),
        "bindings": {"amqp": {"ack": True, "bindingVersion": BINDING}},
    }
    if receives.about:
        operation["summary"] = receives.about.partition("\n")[0]
    if receives.replies:
        reply = channels.reply(receives.queue, receives.replies)
        operation["reply"] = {
            "address": {"location": "$message.header#/reply_to"},
            "channel": {"$ref": f"#/channels/{reply}"},
            "messages": channels.references(reply, receives.replies),
        }
    if bound:
        operation["x-bound-to"] = [{"$ref": f"#/channels/{each}"} for each in bound]
    if receives.publishes:
        operation["x-publishes"] = list(receives.publishes)
    return operation


def _send(sends: Sends, channels: _Channels) -> Document:
    channel = channels.exchange(sends.exchange, sends.key, sends.bodies)
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "title": " ".join(filter(None, (sends.exchange.name, sends.key))),
        "tags": [{"name": sends.service}],
        "messages": channels.references(channel, sends.bodies),
        "bindings": {
            "amqp": {
                "deliveryMode": 2,
                "mandatory": sends.exchange.mandatory,
                "bindingVersion": BINDING,
            }
        },
    }


def _arguments(given: Mapping[str, Any]) -> Document:
    """Return arguments as JSON has them: a table of AMQP also holds what JSON does not."""
    return {
        key: value if isinstance(value, bool | int | float | str | None) else str(value)
        for key, value in given.items()
    }
