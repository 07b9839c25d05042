"""The publisher of an application, from its URL to the exchanges that it declares."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from itertools import permutations
from pathlib import Path

import pytest

from mqkit import (
    AuthenticationError,
    BrokerUrl,
    ConnectError,
    ConnectionLostError,
    Exchange,
    ExchangeMismatchError,
    ExchangeNotFoundError,
    Outgoing,
    Publisher,
    Queue,
    ReplyLostError,
    Retry,
    Runtime,
    Service,
    UnroutableError,
    VirtualHostError,
    drivers,
)
from mqkit.store import Store, Transaction
from mqkit.testing.brokers.finder import Broker
from mqkit.testing.harness.run import harness
from mqkit.testing.proxy import TcpProxy
from tests.support import Client, connected, delete, eventually

pytestmark = [pytest.mark.usefixtures("driver"), pytest.mark.in_turn(embedded=True)]


@contextlib.asynccontextmanager
async def bound(client: Client, name: str, exchange: Exchange) -> AsyncIterator[str]:
    """A queue with all that is published to an exchange, which this declares for the block."""
    queue = f"{name}.q"
    await client.declare(queue)
    async with client.channel() as channel:
        await channel.declare_exchange(exchange.name, exchange.type)
        await channel.bind_queue(queue, exchange.name, "#")
        yield queue


async def test_the_block_connects_and_a_publish_is_confirmed(broker: Broker, name: str) -> None:
    """Of many tasks on one connection, which is gone when the block is left."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        async with Publisher(broker.url, app_id="web") as publisher:
            ids = await asyncio.gather(
                *(publisher.publish("", f"{name}.q", {"n": n}) for n in range(50))
            )
        found = await client.take_all(f"{name}.q")
    assert {each.properties.message_id for each in found} == set(ids)
    assert {each.properties.app_id for each in found} == {"web"}


async def test_a_wrong_password_shows_at_once(broker: Broker) -> None:
    """By `open`, or by the first publish where nobody opened it; a wrong virtual host alike."""
    wrong = broker.url.replace("guest:guest@", "guest:n0t-this@")
    nowhere = f"{broker.url.rpartition('/')[0]}/nowhere"
    for url, kind in ((wrong, AuthenticationError), (nowhere, VirtualHostError)):
        with pytest.raises(kind) as caught:
            async with Publisher(url):
                pass
        assert "n0t-this" not in str(caught.value)
        lazy = Publisher(url)
        with pytest.raises(kind):
            await lazy.publish("", "q", {})
        await lazy.close()


async def test_a_broker_that_is_away_comes_back(broker: Broker, name: str) -> None:
    """It is away at the start, comes, goes and comes: each publish in time, or a typed error."""
    with TcpProxy(broker.url) as proxy:
        proxy.refuse_connections()
        publisher = Publisher(proxy.url)
        with pytest.raises(ConnectError, match=r"was not reached within 0\.3 s: "):
            await publisher.open(timeout=0.3)
        with pytest.raises(ConnectionLostError, match="nothing was written"):
            await publisher.publish("", f"{name}.q", {}, timeout=0.2)
        async with connected(broker.url) as client:
            await client.declare(f"{name}.q")
        waiting = asyncio.create_task(publisher.publish("", f"{name}.q", {}))
        for _ in range(2):
            proxy.accept_connections()
            await waiting
            proxy.refuse_connections()
            proxy.cut()
            waiting = asyncio.create_task(publisher.publish("", f"{name}.q", {}))
        proxy.accept_connections()
        await waiting
        await publisher.close()


async def test_an_exchange_is_declared_before_its_first_message(broker: Broker, name: str) -> None:
    """With nobody there: no error where the exchange says so, unroutable where it does not."""
    events = Exchange(f"{name}.events", mandatory=False)
    orders = Exchange(f"{name}.orders", type="fanout")
    async with Publisher(broker.url) as publisher, connected(broker.url) as client:
        await publisher.publish(events, "order.accepted", {})
        with pytest.raises(UnroutableError):
            await publisher.publish(orders, "order.accepted", {})
        with pytest.raises(ExchangeNotFoundError, match="declare it, as a publish to an Exchange"):
            await publisher.publish(f"{name}.other", "k", {})
        with pytest.raises(ExchangeNotFoundError):
            await publisher.publish(Exchange(f"{name}.other", declare=False), "k", {})
        async with bound(client, name, orders) as queue:
            await publisher.publish(orders, "order.accepted", b"it is heard")
            assert (await client.take(queue)).body == b"it is heard"
        for exchange in (events, orders):
            await delete(broker.url, exchange=exchange.name)


async def test_a_deleted_exchange_is_declared_again(broker: Broker, name: str) -> None:
    """Under many publishes at once, each of which is confirmed, and a request that comes later."""
    events = Exchange(f"{name}.events", mandatory=False)
    async with Publisher(broker.url) as publisher:
        await publisher.publish(events, "k", {})
        await delete(broker.url, exchange=events.name)
        await asyncio.gather(*(publisher.publish(events, "k", {}) for _ in range(50)))
        await delete(broker.url, exchange=events.name)
        results = publisher.publish_many(Outgoing(events, "k", {}) for _ in range(50))
        assert [result.error async for result in results] == [None] * 50
        await delete(broker.url, exchange=events.name)
        with pytest.raises(UnroutableError):
            await publisher.request(events.key("k"), {}, dict)
    await delete(broker.url, exchange=events.name)


async def test_an_exchange_that_is_declared_otherwise_is_refused(broker: Broker, name: str) -> None:
    """The error says in what it differs; another publish to its name, and all others, go on."""
    exchange = Exchange(f"{name}.x", type="fanout")
    async with (
        Publisher(broker.url) as publisher,
        connected(broker.url) as client,
        bound(client, name, exchange) as queue,
    ):
        with pytest.raises(ExchangeMismatchError) as caught:
            await publisher.publish(Exchange(exchange.name), "k", {})
        assert "type is fanout on the broker, topic here; declare it alike" in str(caught.value)
        await publisher.publish(exchange.name, "k", {})
        await publisher.publish(exchange, "k", {})
        assert len(await client.take_all(queue)) == 2
    await delete(broker.url, exchange=exchange.name)


async def test_a_user_who_may_not_configure_publishes_to_what_is_there(
    broker: Broker, name: str
) -> None:
    """Where the exchange is missing, the error says that it is for want of a permission."""
    events = Exchange(f"{name}.events", mandatory=False)
    await asyncio.to_thread(broker.ctl, "add_user", name, "pw-of-test")
    try:
        await asyncio.to_thread(broker.ctl, "set_permissions", name, "^$", ".*", ".*")
        async with (
            Publisher(broker.url.replace("guest:guest", f"{name}:pw-of-test")) as publisher,
            connected(broker.url) as client,
        ):
            with pytest.raises(ExchangeNotFoundError, match="this user may not declare it"):
                await publisher.publish(events, "k", {})
            async with bound(client, name, events):
                await publisher.publish(events, "k", {})
    finally:
        await asyncio.to_thread(broker.ctl, "delete_user", name)
    await delete(broker.url, exchange=events.name)


async def test_requests_of_an_application(broker: Broker, name: str) -> None:
    """Are answered; one whose connection is lost says so, and the next one is answered."""
    service = Service(name, retry=Retry.never())
    queue, asked, go = Queue(f"{name}.q"), asyncio.Event(), asyncio.Event()

    @service.handler(queue)
    async def answer(question: dict[str, bool]) -> dict[str, bool]:
        if question["waits"]:
            asked.set()
            await go.wait()
        return question

    with TcpProxy(broker.url) as proxy:
        async with Runtime(service, BrokerUrl.parse(broker.url)), Publisher(proxy.url) as publisher:
            assert await publisher.request(queue, {"waits": False}, dict) == {"waits": False}
            asking = asyncio.create_task(publisher.request(queue, {"waits": True}, dict))
            await asked.wait()
            proxy.cut()
            with pytest.raises(ReplyLostError):
                await asking
            go.set()
            assert await publisher.request(queue, {"waits": False}, dict) == {"waits": False}


ORDERS = ("orders", "ledger", "audit")


def three_services(name: str, seen: list[str]) -> dict[str, Service]:
    """Each publishes what the next one handles, and the last one what nobody does."""
    exchanges = [Exchange(f"{name}.{each}", mandatory=False) for each in (*ORDERS, "nobody")]
    services = {}
    for number, each in enumerate(ORDERS):
        source, target = exchanges[number], exchanges[number + 1]
        service = Service(f"{name}.{each}", retry=Retry.never(), publishes=[target])

        def register(service: Service, each: str, source: Exchange, target: Exchange) -> None:
            @service.handler(Queue(f"{name}.{each}"), bind=[source.key("#")])
            async def handle(body: dict[str, int], publisher: Publisher) -> None:
                await publisher.publish(target, "done", body)
                seen.append(each)

        register(service, each, source, target)
        services[each] = service
    return services


@pytest.mark.parametrize("driver", [drivers.DEFAULT], indirect=True)
async def test_services_start_in_any_order(broker: Broker, name: str) -> None:
    """On a broker that has nothing: whoever has no listener yet dead-letters nothing."""
    url = BrokerUrl.parse(broker.url)
    for number, order in enumerate(permutations(ORDERS)):
        prefix, seen = f"{name}.{number}", list[str]()
        services = three_services(prefix, seen)
        async with (
            contextlib.AsyncExitStack() as stack,
            connected(broker.url) as client,
            Publisher(broker.url) as publisher,
        ):
            for each in order:
                await stack.enter_async_context(Runtime(services[each], url, grace=1))
                await publisher.publish("", f"{prefix}.{each}", {"n": 1})
                await eventually(functools.partial(seen.__contains__, each))
            seen.clear()
            await publisher.publish(Exchange(f"{prefix}.orders"), "accepted", {"n": 2})
            for each in ORDERS:
                await eventually(functools.partial(seen.__contains__, each))
            dead = [await client.messages(f"{prefix}.{each}.dead") for each in ORDERS]
            assert dead == [0, 0, 0]


async def test_a_service_publishes_to_what_it_states(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """Directly or by its outbox; what it does not is an error of the handler that says so."""
    events, other = Exchange(f"{name}.events", mandatory=False), Exchange(f"{name}.other")
    store = Store(f"sqlite:///{tmp_path / name}.sqlite")
    service = Service(name, retry=Retry.never(), publishes=[events], store=store)

    @service.handler(Queue(f"{name}.direct"))
    async def direct(body: bool, publisher: Publisher) -> None:
        await publisher.publish(events if body else other, "k", {})

    @service.handler(Queue(f"{name}.stored"))
    async def stored(body: bool, transaction: Transaction) -> None:
        await transaction.publish(events if body else other, "k", {})

    async with harness(service, broker.url) as h:
        for queue in ("direct", "stored"):
            good = await h.publish("", f"{name}.{queue}", True)
            assert (await h.outcome(good)).acked
            bad = await h.publish("", f"{name}.{queue}", False)
            error = (await h.outcome(bad)).error
            assert "is neither in its publishes= nor bound by a handler" in str(error)


async def test_a_relay_declares_what_the_row_brings(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """Of an application's transaction, whose exchange nobody has declared, or somebody deleted."""
    events = Exchange(f"{name}.events", type="fanout", mandatory=False)
    async with (
        Store(f"sqlite:///{tmp_path / name}.sqlite") as store,
        Publisher(broker.url) as publisher,
    ):
        store.start(publisher.send)
        for _ in range(2):
            async with store.transaction() as transaction:
                await transaction.publish(events, "k", {})

            async def nothing_waits() -> bool:
                return await store.pending() == 0

            await eventually(nothing_waits)
            await delete(broker.url, exchange=events.name)
