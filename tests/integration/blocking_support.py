"""What the tests of the blocking publisher share: a queue and what is in it, an alarm, threads."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pika

from mqkit.drivers.pika import convert as wire
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers.broker import Broker


@contextlib.contextmanager
def channel_of(url: str) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    broker_url = BrokerUrl.parse(url)
    parameters = wire.parameters(broker_url, broker_url.hosts[0], "test")
    with pika.BlockingConnection(parameters) as connection:
        yield connection.channel()


@dataclass
class QueueOnBroker:
    """A quorum queue, and what is in it."""

    url: str
    name: str

    def take_all(self) -> list[tuple[str, bytes]]:
        """The message id and body of each message in it; it is empty afterwards."""
        taken: list[tuple[str, bytes]] = []
        with channel_of(self.url) as channel:
            # Those that are there, by a consumer: thousands of basic.get would take many seconds.
            count = channel.queue_declare(self.name, passive=True).method.message_count
            if count:
                # The prefetch keeps away what comes meanwhile, which would go with the consumer.
                channel.basic_qos(prefetch_count=count)
                for _, properties, body in channel.consume(self.name):
                    taken.append((properties.message_id, body))
                    if len(taken) == count:
                        break
                channel.basic_ack(multiple=True)  # all of them
                channel.cancel()
            # And what the count did not have yet.
            while True:
                method, properties, body = channel.basic_get(self.name, auto_ack=True)
                if method is None:
                    return taken
                taken.append((properties.message_id, body))

    def ids(self) -> Counter[str]:
        return Counter(message_id for message_id, _ in self.take_all())


@contextlib.contextmanager
def quorum_queue(url: str, name: str) -> Iterator[QueueOnBroker]:
    """A queue that is deleted afterwards."""
    with channel_of(url) as channel:
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
    yield QueueOnBroker(url, name)
    with channel_of(url) as channel:
        channel.queue_delete(name)


@contextlib.contextmanager
def alarm(broker: Broker) -> Iterator[None]:
    broker.block()
    try:
        yield
    finally:
        broker.unblock()


def in_threads(count: int, work: Callable[[int], object]) -> list[Future[object]]:
    with ThreadPoolExecutor(count) as pool:
        return [pool.submit(work, number) for number in range(count)]


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def connections_named(broker: Broker, name: str) -> list[str]:
    if broker.kind == "embedded":
        listed = broker.ctl("list_connections", "pid", "client_properties").splitlines()
        return [line.split()[0] for line in listed if f'"{name}"' in line]
    # A run of rabbitmqctl takes ten times the processor time of this.
    found = broker.evaluate(
        "[pid_to_list(Pid) || Pid <- rabbit_networking:connections(),"
        " {client_properties, All} <- case catch rabbit_networking:connection_info("
        "Pid, [client_properties]) of [_] = Told -> Told; _ -> [] end,"
        f' lists:any(fun({{_, _, Value}}) -> Value =:= <<"{name}">> end, All)].'
    )
    return re.findall(r"<[\d.]+>", found)
