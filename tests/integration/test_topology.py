"""What is declared, how a refusal is explained, and what is put back."""

from __future__ import annotations

import contextlib
from typing import Any, cast

import pytest
from tenacity import stop_after_attempt, wait_fixed

from mqkit import (
    BrokerUrl,
    Delivery,
    Exchange,
    ExchangeNotFoundError,
    Queue,
    Retry,
    Runtime,
    Service,
    TopologyError,
    UnroutableError,
)
from mqkit.broker import upkeep
from mqkit.broker.declare import declare
from mqkit.drivers.base import DriverChannel
from mqkit.testing.brokers.finder import Broker
from mqkit.topology import Topology
from tests.support import connected, delete, eventually

pytestmark = pytest.mark.usefixtures("driver")


async def test_a_mismatch_is_explained_for_each_name(broker: Broker, name: str) -> None:
    """One error names every queue and exchange that differs: what is there, and what is here."""
    service = Service(name, retry=Retry.never())
    exchange = Exchange(f"{name}.x", type="topic")

    here = Queue(f"{name}.a", type="classic")
    there = Queue(f"{name}.a", type="classic", durable=False)

    @service.handler(here, bind=[exchange.key("k")])
    async def first(body: bytes) -> None: ...

    @service.handler(Queue(f"{name}.b", delivery_limit=7))
    async def second(body: bytes) -> None: ...

    async with connected(broker.url) as client, client.channel() as channel:
        await channel.declare_exchange(f"{name}.x", "fanout")
        await declare(client.connection.channel, Topology(queues=(there,)))
        queue = Queue(f"{name}.b", delivery_limit=5)
        await declare(client.connection.channel, Topology.of_queue(queue))
        with pytest.raises(TopologyError) as caught:
            await declare(client.connection.channel, service.topology)
    text = str(caught.value)
    assert f"exchange {name}.x: type is fanout on the broker, topic here" in text
    assert f"queue {name}.a: durable is false on the broker, true here" in text
    assert f"queue {name}.b: x-delivery-limit is 5 on the broker, 7 here" in text


@pytest.mark.parametrize("part", ["queue", "exchange"])
async def test_what_is_deleted_before_it_is_bound_is_declared_again(
    broker: Broker, name: str, part: str
) -> None:
    """A service that starts as somebody deletes its queue or exchange has both, and is bound."""
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"), bind=[Exchange(f"{name}.x").key("k")])
    async def handle(body: bytes) -> None: ...

    async with connected(broker.url) as client:
        deleted = list[str]()

        async def channel_that_loses() -> DriverChannel:
            opened = await client.connection.channel()
            bind = opened.bind_queue

            async def bind_after(*args: Any) -> None:
                if not deleted:
                    deleted.append(part)
                    async with client.channel() as other:
                        if part == "queue":
                            await other.delete_queue(f"{name}.q")
                        else:
                            await other.delete_exchange(f"{name}.x")
                await bind(*args)

            cast("Any", opened).bind_queue = bind_after
            return opened

        await declare(channel_that_loses, service.topology)
        await client.publisher.publish(f"{name}.x", "k", b"1")
        assert deleted
        assert await client.messages(f"{name}.q") == 1


async def test_a_missing_argument_is_explained(broker: Broker, name: str) -> None:
    """An argument that only one side has is 'not set' on the other."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        with pytest.raises(TopologyError, match=r"is not set on the broker"):
            await declare(client.connection.channel, Topology.of_queue(Queue(f"{name}.q")))


async def test_what_others_declare_is_not_made_here(broker: Broker, name: str) -> None:
    """With declare=False a missing queue is an error that names it, and a present one is taken."""
    queue = Queue(f"{name}.theirs", declare=False)
    async with connected(broker.url) as client:
        with pytest.raises(TopologyError, match=f"queue {name}.theirs: it does not exist"):
            await declare(client.connection.channel, Topology.of_queue(queue))
        await client.declare(f"{name}.theirs")
        await declare(client.connection.channel, Topology.of_queue(queue))


async def test_declaring_again_changes_nothing(broker: Broker, name: str) -> None:
    """The same topology can be declared twice, and the second time keeps what is queued."""
    topology = Topology.of_queue(Queue(f"{name}.q"), [Exchange(f"{name}.x").key("k")])
    async with connected(broker.url) as client:
        await declare(client.connection.channel, topology)
        await client.publisher.publish(f"{name}.x", "k", b"kept")
        await declare(client.connection.channel, topology)
        assert (await client.take(f"{name}.q")).body == b"kept"


async def test_a_consumer_survives_the_deletion_of_its_queue(broker: Broker, name: str) -> None:
    """Queue, bindings and consumer are back within 5 s of somebody deleting the queue."""
    seen: list[bytes] = []
    exchange = Exchange(f"{name}.x")
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"), bind=[exchange.key("k")])
    async def handle(body: bytes) -> None:
        seen.append(body)

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)) as runtime,
    ):
        await client.publisher.publish(exchange, "k", b"1")
        await eventually(lambda: seen == [b"1"])
        await delete(broker.url, queue=f"{name}.q")

        async def consumed() -> bool:
            try:
                return (await runtime.queue_state(f"{name}.q")).consumers == 1
            except TopologyError:
                return False

        await eventually(consumed)
        await client.publisher.publish(exchange, "k", b"2")
        await eventually(lambda: seen == [b"1", b"2"])


async def test_a_deleted_dead_letter_queue_is_put_back(broker: Broker, name: str) -> None:
    """A message that is to be dead-lettered stays unacked until its dead letter queue is back."""
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: bytes) -> None:
        raise ValueError("no")

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        await delete(broker.url, queue=f"{name}.q.dead")
        await client.publisher.publish("", f"{name}.q", b"precious")

        async def is_dead() -> bool:
            return any(m.body == b"precious" for m in await client.take_all(f"{name}.q.dead"))

        async def is_back() -> bool:
            try:
                return await client.messages(f"{name}.q.dead") >= 1
            except Exception:  # noqa: BLE001 - whatever says that it is not there yet
                return False

        await eventually(is_back, 20)
        assert await is_dead()


async def test_retries_survive_the_deletion_of_the_ladder(broker: Broker, name: str) -> None:
    """A retry whose delay queues were deleted meanwhile declares them again and is not lost."""
    attempts: list[int] = []
    service = Service(name, retry=Retry(stop=stop_after_attempt(3), wait=wait_fixed(0.1)))

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: bytes, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt < 3:
            raise ValueError("again")

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)),
    ):
        await client.publisher.publish("", f"{name}.q", b"1")
        await eventually(lambda: attempts == [1, 2, 3])
        await delete(broker.url, queue="mqkit.delay.v1.00")
        await client.publisher.publish("", f"{name}.q", b"2")
        await eventually(lambda: attempts == [1, 2, 3] * 2, 20)


async def test_dead_letters_that_are_there_get_a_handler_in_the_same_service(
    broker: Broker, name: str
) -> None:
    """It is retried, and what it gives up is in a dead letter queue of its own."""
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1)))
    seen: list[tuple[int, object]] = []
    queue = Queue(f"{name}.q")

    @service.handler(queue, retry=Retry.never())
    async def first(body: bytes) -> None:
        raise ValueError

    async with connected(broker.url) as client:
        await declare(client.connection.channel, service.topology)  # as it was before

        @service.handler(Queue(queue.dead_queue))
        async def second(body: bytes, delivery: Delivery) -> None:
            seen.append((delivery.attempt, delivery.headers["mqkit-queue"]))
            raise KeyError

        async with Runtime(service, BrokerUrl.parse(broker.url)):
            await client.publisher.publish("", queue.name, b"x", message_id="m")
            dead = await client.take(f"{queue.dead_queue}.dead")
        assert await client.messages(queue.dead_queue) == 0
    assert dead.properties.message_id == "m"
    assert dead.properties.headers["mqkit-queue"] == queue.dead_queue
    assert seen == [(1, queue.name), (2, queue.name)]


@pytest.mark.parametrize("partitions", [None, 2])
async def test_a_queue_whose_exchange_was_put_back_by_others_is_bound_again(
    broker: Broker, name: str, monkeypatch: pytest.MonkeyPatch, partitions: int | None
) -> None:
    """As is one whose exchange nobody put back; the delay ladder's binding comes back, too."""
    monkeypatch.setattr(upkeep, "EVERY", 0.2)
    exchange = Exchange(f"{name}.x")
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1)))
    seen: list[bytes] = []
    order: dict[str, Any] = {} if partitions is None else {"order_by": lambda body: body}

    @service.handler(Queue(f"{name}.q", partitions=partitions), bind=[exchange.key("k")], **order)
    async def handle(body: bytes) -> None:
        seen.append(body)

    async with connected(broker.url) as client, Runtime(service, BrokerUrl.parse(broker.url)):
        for number in range(2):
            await delete(broker.url, exchange=exchange.name)
            if number:
                async with client.channel() as channel:
                    await channel.declare_exchange(exchange.name, "topic")

            async def arrives(body: bytes = b"%d" % number) -> bool:
                with contextlib.suppress(UnroutableError, ExchangeNotFoundError):
                    await client.publisher.publish(exchange.name, "k", body)
                return body in seen

            await eventually(arrives)


async def test_what_cannot_be_bound_again_is_told_by_the_state(
    broker: Broker, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The exchange is somebody else's to declare; once it is back, all is well."""
    monkeypatch.setattr(upkeep, "EVERY", 0.2)
    exchange = Exchange(f"{name}.x", declare=False)
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"), bind=[exchange.key("k")])
    async def handle(body: bytes) -> None: ...

    async with connected(broker.url) as client:
        async with client.channel() as channel:
            await channel.declare_exchange(exchange.name, "topic")
        async with Runtime(service, BrokerUrl.parse(broker.url)) as runtime:
            await delete(broker.url, exchange=exchange.name)
            await eventually(lambda: exchange.name in runtime.states[f"{name}.q"].because)
            async with client.channel() as channel:
                await channel.declare_exchange(exchange.name, "topic")
            await eventually(lambda: not runtime.states[f"{name}.q"].because)
    assert caplog.text.count("it may get no messages") == 1
