"""A queue is left alone while what its handler depends on is down, and nothing of it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tenacity import stop_after_attempt, wait_fixed

from mqkit import BrokerUrl, Delivery, Pause, Queue, Retry, Runtime, Service
from mqkit.broker.declare import declare
from mqkit.errors import StoreUnavailableError
from mqkit.outcome import Outcome
from mqkit.pause import Status
from mqkit.testing.brokers.finder import Broker
from tests.support import Client, Telling, connected, eventually

pytestmark = [pytest.mark.usefixtures("driver"), pytest.mark.in_turn(embedded=True)]


class GatewayDownError(Exception):
    """What the dependency raises."""


class Gateway:
    """A dependency that is up or down."""

    def __init__(self) -> None:
        self.up = True
        self.asked = 0

    def pay(self) -> None:
        """Raise if it is down."""
        if not self.up:
            raise GatewayDownError("no route to the gateway")

    async def ping(self) -> None:
        """A probe."""
        self.asked += 1
        self.pay()


def pause(probe: Callable[[], Awaitable[None]] | None = None, **options: Any) -> Pause:
    """One that is quick."""
    return Pause(**{"on": GatewayDownError, "minimum": 2, "every": 0.1, "probe": probe, **options})


async def publish(client: Client, queue: str, count: int) -> None:
    """So many messages, with the ids from 0 on."""
    for n in range(count):
        await client.publisher.publish("", queue, b"x", message_id=str(n))


async def settled(client: Client, runtime: Runtime, queue: str, ready: int) -> None:
    """Wait until the service is paused, consumes nothing, and so many messages are in its queue."""

    async def is_so() -> bool:
        return await client.messages(queue) == ready and await client.consumers(queue) == 0

    await eventually(lambda: runtime.states[queue].status is Status.PAUSED, what="the pause")
    await eventually(is_so, what=f"{ready} messages in {queue} and no consumer")


@pytest.mark.parametrize("kind", ["probe", "trial", "trial, single active consumer"])
async def test_an_outage_pushes_nothing_into_the_dead_letters(
    broker: Broker, name: str, kind: str
) -> None:
    """While it lasts at most a trial runs; after it every message is handled at its attempt."""
    gateway, handled, runs = Gateway(), list[tuple[str | None, int]](), 0
    gateway.up = False
    arguments = {"x-single-active-consumer": True} if "single" in kind else {}
    queue = Queue(f"{name}.q", arguments=arguments)
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1)))

    @service.handler(
        queue,
        prefetch=10,
        concurrency=1,
        pause=pause(gateway.ping if kind == "probe" else None),
    )
    async def handle(body: bytes, delivery: Delivery) -> None:
        nonlocal runs
        runs += 1
        gateway.pay()
        handled.append((delivery.message_id, delivery.attempt))

    async with connected(broker.url) as client:
        await declare(client.connection.channel, service.topology)
        await publish(client, queue.name, 30)
        async with Runtime(service, BrokerUrl.parse(broker.url)) as runtime:
            await eventually(lambda: runtime.states[queue.name].status is Status.PAUSED)
            if kind == "probe":
                await settled(client, runtime, queue.name, 30)
                await eventually(lambda: gateway.asked >= 5)
                assert runs == 2
            else:
                await eventually(lambda: runs >= 6)
            gateway.up = True
            await eventually(lambda: len(handled) == 30)
            assert runtime.states[queue.name].status is Status.CONSUMING
        assert await client.messages(f"{queue.name}.dead") == 0
        assert await client.messages(queue.name) == 0
    assert sorted(int(str(message)) for message, _ in handled) == list(range(30))
    # One attempt was used up before the pause began: by the first failure.
    assert sum(attempt - 1 for _, attempt in handled) == 1


async def test_an_outage_from_the_start_loses_nothing_of_a_handler_that_never_retries(
    broker: Broker, name: str
) -> None:
    """Its probe is asked before the first message is dead-lettered, though `minimum` is far off."""
    gateway, handled = Gateway(), list[str | None]()
    gateway.up = False
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"), pause=pause(gateway.ping, minimum=5))
    async def handle(body: bytes, delivery: Delivery) -> None:
        gateway.pay()
        handled.append(delivery.message_id)

    async with connected(broker.url) as client:
        await declare(client.connection.channel, service.topology)
        await publish(client, f"{name}.q", 4)
        async with Runtime(service, BrokerUrl.parse(broker.url)) as runtime:
            await eventually(lambda: runtime.states[f"{name}.q"].status is Status.PAUSED)
            gateway.up = True
            await eventually(lambda: len(handled) == 4)
        assert await client.messages(f"{name}.q.dead") == 0


async def test_a_message_that_always_fails_alone_reaches_its_limit(
    broker: Broker, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Among healthy ones it pauses nobody, and is dead-lettered after its attempts."""
    service = Service(name, retry=Retry(stop=stop_after_attempt(3), wait=wait_fixed(0.5)))

    @service.handler(Queue(f"{name}.q"), pause=pause(minimum=5))
    async def handle(body: bytes, delivery: Delivery) -> None:
        if delivery.message_id == "0":
            raise GatewayDownError

    async with connected(broker.url) as client:
        await declare(client.connection.channel, service.topology)
        await publish(client, f"{name}.q", 20)
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            dead = await client.take(f"{name}.q.dead")
        assert await client.messages(f"{name}.q") == 0
    assert dead.properties.message_id == "0"
    assert dead.properties.headers["mqkit-attempts"] == 3
    assert "paused" not in caplog.text


async def test_what_was_not_started_goes_back_and_what_runs_ends(broker: Broker, name: str) -> None:
    """Prefetched messages are in the queue again at once; a run that goes on is acked."""
    gateway, release, acked = Gateway(), asyncio.Event(), list[str | None]()
    gateway.up = False
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(60)))

    def observe(delivery: Delivery, outcome: Outcome) -> None:
        if type(outcome).__name__ == "Ack":
            acked.append(delivery.message_id)

    @service.handler(
        Queue(f"{name}.q"), prefetch=20, concurrency=2, pause=pause(gateway.ping, minimum=1)
    )
    async def handle(body: bytes, delivery: Delivery) -> None:
        if delivery.message_id == "0":
            await release.wait()
            return
        gateway.pay()

    async with connected(broker.url) as client:
        await declare(client.connection.channel, service.topology)
        await publish(client, f"{name}.q", 12)
        runtime = Runtime(service, BrokerUrl.parse(broker.url), observer=Telling(settled=observe))
        async with runtime:

            async def all_but_two_are_ready() -> bool:
                # One runs, one waits for its retry. (A quorum queue goes on counting a consumer
                # that was cancelled while it holds messages.)
                return await client.messages(f"{name}.q") == 10

            await eventually(lambda: runtime.states[f"{name}.q"].status is Status.PAUSED)
            await eventually(all_but_two_are_ready)
            release.set()
            await eventually(lambda: acked == ["0"])
            gateway.up = True
            await eventually(lambda: len(acked) == 11)


async def test_a_dependency_that_comes_and_goes_uses_up_no_deliveries(
    broker: Broker, name: str
) -> None:
    """Over many more pauses than the delivery limit nothing prefetched is dead-lettered."""
    gateway, handled, pauses = Gateway(), set[str | None](), 0
    gateway.up = False
    queue = Queue(f"{name}.q", delivery_limit=4)
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1)))

    async def says_it_is_up() -> None:
        nonlocal pauses
        pauses += 1

    @service.handler(
        queue, prefetch=30, concurrency=1, pause=pause(says_it_is_up, minimum=1, every=0.05)
    )
    async def handle(body: bytes, delivery: Delivery) -> None:
        gateway.pay()
        handled.add(delivery.message_id)

    async with connected(broker.url) as client:
        await declare(client.connection.channel, service.topology)
        await publish(client, queue.name, 20)
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            await eventually(lambda: pauses >= 15, 30)
            gateway.up = True
            await eventually(lambda: len(handled) == 20)
        assert await client.take_all(queue.dead_queue) == []


async def test_stopping_while_paused_is_quick_and_leaves_all_in_the_queue(
    broker: Broker, name: str
) -> None:
    """Neither the wait for the next probe nor a trial that waits for a message holds it up."""
    gateway = Gateway()
    gateway.up = False
    waits, tries = Queue(f"{name}.waits"), Queue(f"{name}.tries")
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(60)))

    async def handle(body: bytes) -> None:
        gateway.pay()

    service.handler(waits, pause=pause(gateway.ping, every=60), concurrency=1)(handle)
    service.handler(tries, pause=pause(), concurrency=1)(handle)
    clock = asyncio.get_running_loop().time
    async with connected(broker.url) as client:
        await declare(client.connection.channel, service.topology)
        await publish(client, waits.name, 6)
        await publish(client, tries.name, 2)
        async with Runtime(service, BrokerUrl.parse(broker.url)) as runtime:
            await settled(client, runtime, waits.name, 4)
            await eventually(lambda: runtime.states[tries.name].status is Status.PAUSED)

            async def waits_for_a_message() -> bool:
                return await client.consumers(tries.name) == 1

            await eventually(waits_for_a_message)
            began = clock()
        assert clock() - began < 3
        assert runtime.abandoned == 0
        assert {state.status for state in runtime.states.values()} == {Status.STOPPED}
        assert await client.messages(waits.name) == 4


async def test_a_service_that_drains_while_paused_does_not_resume(
    broker: Broker, name: str
) -> None:
    """While a run of it has yet to end, the dependency may come back, and nothing is taken."""
    gateway, release, runs = Gateway(), asyncio.Event(), list[str | None]()
    gateway.up = False
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(60)))

    @service.handler(Queue(f"{name}.q"), concurrency=2, pause=pause(gateway.ping, minimum=1))
    async def handle(body: bytes, delivery: Delivery) -> None:
        runs.append(delivery.message_id)
        if delivery.message_id == "0":
            await release.wait()
        gateway.pay()

    async with connected(broker.url) as client:
        await declare(client.connection.channel, service.topology)
        await publish(client, f"{name}.q", 6)
        stop = asyncio.Event()
        runtime = Runtime(service, BrokerUrl.parse(broker.url))
        task = asyncio.create_task(runtime.run(stop))
        await eventually(lambda: runtime.states[f"{name}.q"].status is Status.PAUSED)
        stop.set()
        await eventually(lambda: runtime.states[f"{name}.q"].status is Status.STOPPED)
        asked, gateway.up = gateway.asked, True
        await asyncio.sleep(0.5)  # of several probes
        release.set()
        await task
        assert gateway.asked == asked
        assert sorted(map(str, runs)) == ["0", "1"]
        assert await client.messages(f"{name}.q") == 4


async def test_a_channel_that_closes_while_paused_comes_back_paused(
    broker: Broker, name: str
) -> None:
    """Nothing is consumed after the connection was lost, until the dependency is back."""
    gateway, handled, runs = Gateway(), list[str | None](), 0
    gateway.up = False
    queue = Queue(f"{name}.q")
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1)))

    @service.handler(queue, pause=pause(gateway.ping), concurrency=1)
    async def handle(body: bytes, delivery: Delivery) -> None:
        nonlocal runs
        runs += 1
        gateway.pay()
        handled.append(delivery.message_id)

    async with connected(broker.url) as client:
        await declare(client.connection.channel, service.topology)
        await publish(client, queue.name, 6)
        async with Runtime(service, BrokerUrl.parse(broker.url)) as runtime:
            await settled(client, runtime, queue.name, 6)
            (consumer,) = runtime._consumers
            first = consumer._subscription._channel
            await asyncio.to_thread(broker.close_connections)
            await eventually(lambda: consumer._subscription._channel not in (first, None))
            asked = gateway.asked
            await eventually(lambda: gateway.asked >= asked + 3)
            await settled(client, runtime, queue.name, 6)
            assert runs == 2
            gateway.up = True
            await eventually(lambda: len(handled) == 6)


async def test_a_trial_that_is_lost_with_its_channel_is_made_again(
    broker: Broker, name: str
) -> None:
    """The next message after it says whether the dependency is back."""
    gateway, began, handled = Gateway(), asyncio.Event(), list[str | None]()
    gateway.up = False
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1)))

    @service.handler(Queue(f"{name}.q"), pause=pause(minimum=1), cancel_when_lost=True)
    async def handle(body: bytes, delivery: Delivery) -> None:
        gateway.pay()
        if not began.is_set():
            began.set()
            await asyncio.Event().wait()
        handled.append(delivery.message_id)

    async with (
        connected(broker.url) as client,
        Runtime(service, BrokerUrl.parse(broker.url)) as runtime,
    ):
        await client.publisher.publish("", f"{name}.q", b"x", message_id="0")
        await eventually(lambda: runtime.states[f"{name}.q"].status is Status.PAUSED)
        gateway.up = True
        await asyncio.wait_for(began.wait(), 15)
        await asyncio.to_thread(broker.close_connections)
        await eventually(lambda: handled == ["0"])
        await eventually(lambda: runtime.states[f"{name}.q"].status is Status.CONSUMING)


class Transaction:
    """A store's, asked for by annotation."""

    __mqkit_transaction__ = True
    __mqkit_runtime_provided__ = True


class Store:
    """Does what a running service asks of a store, on nothing but a dependency."""

    def __init__(self, database: Gateway) -> None:
        self._database = database

    def check(self, handlers: object) -> None: ...

    async def open(self) -> None: ...

    def start(self, send: object) -> None: ...

    async def stop(self) -> None: ...

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Raise as the protocol says."""
        self._database.asked += 1
        self._pay()

    async def run_once(
        self,
        handler: str,
        delivery: Delivery,
        run: Callable[[Any], Awaitable[Any]],
        *,
        at_once: int | None = None,
    ) -> Any:
        """Run it if the database is up."""
        self._pay()
        return await run(Transaction())

    def under_way(self, handler: str) -> int:
        """Be a store's."""
        return 0

    def received(self, handler: str, delivery: Delivery) -> None: ...

    def started(self, handler: str, delivery: Delivery) -> None: ...

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None: ...

    def confirmed(self, message: object) -> None: ...

    def _pay(self) -> None:
        try:
            self._database.pay()
        except GatewayDownError as error:
            raise StoreUnavailableError("the database is away") from error


async def test_a_handler_with_a_transaction_pauses_while_its_store_is_away(
    broker: Broker, name: str
) -> None:
    """Without a word in its registration: the store is pinged, and then all is handled."""
    database, handled = Gateway(), set[str | None]()
    database.up = False
    store: Any = Store(database)
    service = Service(name, retry=Retry.never(), store=store)
    queue = Queue(f"{name}.q")

    @service.handler(queue, concurrency=1)
    async def handle(body: bytes, delivery: Delivery, transaction: Transaction) -> None:
        assert delivery.attempt == 1
        handled.add(delivery.message_id)

    async with connected(broker.url) as client:
        await declare(client.connection.channel, service.topology)
        await publish(client, queue.name, 10)
        async with Runtime(service, BrokerUrl.parse(broker.url)) as runtime:
            # Three runs were needed to see it; their messages wait for some seconds.
            await eventually(lambda: runtime.states[queue.name].status is Status.PAUSED)
            assert "StoreUnavailableError" in runtime.states[queue.name].because
            await eventually(lambda: database.asked >= 2)
            assert handled == set()
            database.up = True
            await eventually(lambda: len(handled) == 10)
        assert await client.messages(queue.dead_queue) == 0


async def test_the_states_of_a_service_over_its_life(broker: Broker, name: str) -> None:
    """Detached before it has a channel, consuming, and stopped in the end."""
    service = Service(name, retry=Retry.never())
    queue = f"{name}.q"

    @service.handler(Queue(queue))
    async def handle(body: bytes) -> None: ...

    runtime = Runtime(service, BrokerUrl.parse(broker.url))

    def is_now(status: Status) -> bool:
        return {name: state.status for name, state in runtime.states.items()} == {queue: status}

    assert is_now(Status.DETACHED)
    async with runtime:
        await eventually(lambda: is_now(Status.CONSUMING))
        await asyncio.to_thread(broker.close_connections)
        await eventually(lambda: is_now(Status.DETACHED) or runtime._consuming.generation > 1)
        await eventually(lambda: is_now(Status.CONSUMING))
    assert is_now(Status.STOPPED)
