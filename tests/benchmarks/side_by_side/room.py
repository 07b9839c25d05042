"""The broker's side of a benchmark: queues of its own, what is in them, and their end."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pika
from pika.adapters.blocking_connection import BlockingChannel

from mqkit.errors import MqkitError
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers.broker import Broker, BrokerControlError
from mqkit.testing.brokers.containers import AMQP_PORT, ContainerBroker
from tests.benchmarks.side_by_side.systems.base import BODY, PREFETCH

EVENTS = ".events"
"""Appended to a queue's name: the queue of what its handlers publish."""

SUFFIXES = ("", ".dead", ".DQ", ".XQ", EVENTS)
"""What is appended to a queue's name for queues that are declared besides."""

PERSISTENT = 2

REACHED_WITHIN = 1.0
"""Seconds for a container to answer at its own address."""


class WorkError(MqkitError):
    """A system did not do the work that all of them are to do."""


@contextlib.contextmanager
def own_vhost(broker: Broker) -> Iterator[str]:
    """The URL of a virtual host for this run alone; the broker's own where there is no way to it.

    Some systems leave queues and exchanges behind, which go with it.
    """
    name = f"bench-{secrets.token_hex(4)}"
    try:
        url = broker.add_vhost(name)
    except BrokerControlError:
        yield broker.url
        return
    try:
        yield direct(broker, url)
    finally:
        broker.delete_vhost(name)


def direct(broker: Broker, url: str) -> str:
    """The URL by which a container is reached without Docker's proxy, if this machine can.

    The proxy copies all that goes by a published port, by a processor that the systems measured
    want: on two, mqkit's plain handlers are a tenth slower by it, and what needs no broker is not.
    """
    if not isinstance(broker, ContainerBroker) or (host := broker.own_address) is None:
        return url
    try:
        socket.create_connection((host, AMQP_PORT), REACHED_WITHIN).close()
    except OSError:
        return url
    split = urlsplit(url)
    account = split.netloc.rpartition("@")[0]
    return split._replace(netloc=f"{account}@{host}:{AMQP_PORT}").geturl()


class Room:
    """Queues for single runs, on one virtual host of a broker."""

    def __init__(self, broker: Broker, url: str) -> None:
        self.url = url
        self._broker = broker

    @contextlib.contextmanager
    def queue(self, system: str, many: int = 1) -> Iterator[str]:
        """The name of a queue that nobody has declared; whatever was made for it goes.

        :param many: so many queues, whose names are this one with `.1`, `.2` and so on
        """
        name = f"bench-{system}-{secrets.token_hex(4)}"
        try:
            yield name
        finally:
            names = [name, *(f"{name}.{number}" for number in range(1, many))]
            with self._channel() as channel:
                for each in names:
                    for suffix in SUFFIXES:
                        channel.queue_delete(each + suffix)
                channel.exchange_delete(f"{name}.exchange")

    def events(self, queue: str) -> str:
        """Declare the exchange that a queue's handlers publish to, and a queue that gets it all.

        Returns the exchange's name.
        """
        exchange, events = f"{queue}.exchange", queue + EVENTS
        with self._channel() as channel:
            channel.exchange_declare(exchange, "topic", durable=True)
            arguments = {"x-queue-type": "quorum"}
            channel.queue_declare(events, durable=True, arguments=arguments)
            channel.queue_bind(events, exchange, "#")
        return exchange

    def check_events(self, queue: str, messages: int) -> None:
        """See that each message's handler has published once.

        :raises WorkError: it has not
        """
        with self._channel() as channel:
            count = channel.queue_declare(queue + EVENTS, passive=True).method.message_count
        if count != messages:
            raise WorkError(f"{queue}: {count} messages where {messages} were to be published")

    def check(self, queue: str, messages: int) -> int:
        """See that a queue is what it must be, and holds what was published; returns body bytes.

        :raises WorkError: it is no quorum queue, its messages are not persistent, have not all
            of the body, or are not as many
        """
        if (kind := self._kind(queue)) != "quorum":
            raise WorkError(f"{queue}: a {kind} queue where a quorum queue was asked for")
        with self._channel() as channel:
            count = channel.queue_declare(queue, passive=True).method.message_count
            if count != messages:
                raise WorkError(f"{queue}: {count} messages where {messages} were published")
            method, properties, body = channel.basic_get(queue)
            channel.basic_nack(method.delivery_tag, requeue=True)
            if properties.delivery_mode != PERSISTENT:
                raise WorkError(f"{queue}: its messages are not persistent")
            if len(body) < BODY:
                raise WorkError(f"{queue}: its messages have {len(body)} bytes")
            return len(body)

    def check_empty(self, queue: str) -> None:
        """See that what was handled was acked.

        The broker may still work on the acks before a connection's end, and give a few back.

        :raises WorkError: it was not
        """
        with self._channel() as channel:
            count = channel.queue_declare(queue, passive=True).method.message_count
        if count > PREFETCH:
            raise WorkError(f"{queue}: {count} handled messages are there again")

    def _kind(self, queue: str) -> str:
        """The queue's type; taken on trust where there is no rabbitmqctl to ask."""
        vhost = BrokerUrl.parse(self.url).vhost
        try:
            listed = self._broker.ctl("list_queues", "-p", vhost, "name", "type")
        except BrokerControlError:
            return "quorum"
        kinds = dict(line.split()[:2] for line in listed.splitlines())
        return kinds.get(queue, "missing")

    @contextlib.contextmanager
    def _channel(self) -> Iterator[BlockingChannel]:
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        try:
            yield connection.channel()
        finally:
            connection.close()
