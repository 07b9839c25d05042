"""A service in a harness, on the embedded broker. What holds on every broker is in integration/."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import datetime
from typing import Any

import pika
import pytest
from pydantic import BaseModel
from tenacity import stop_after_attempt, stop_after_delay, wait_exponential, wait_fixed

from mqkit import (
    CallNext,
    ConfigurationError,
    Delivery,
    Exchange,
    HandlerCall,
    Publisher,
    Queue,
    Reject,
    Retry,
    Runtime,
    Service,
    UnroutableError,
    drivers,
)
from mqkit.consuming.subscription import Subscription
from mqkit.drivers.pika import convert as wire
from mqkit.outcome import Ack, DeathReason, Lost, RetryAfter
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers.broker import Broker
from mqkit.testing.harness.run import HarnessError, HarnessTimeoutError, harness
from mqkit.testing.proxy.proxy import TcpProxy
from tests.support import connected

HOUR = 3600.0


class Order(BaseModel):
    """What the service handles."""

    id: int
    fails: int = 0
    """How many attempts fail."""


orders = Exchange("orders", type="topic")


def shop(retry: Retry | None = None) -> Service:
    """A service that fails as often as an order says, then reports it, and counts its reports."""
    retry = retry or Retry(stop=stop_after_attempt(3), wait=wait_fixed(HOUR))
    service = Service("shop", retry=retry)

    @service.handler(Queue("shop.orders"), bind=[orders.key("order.#")])
    async def take(order: Order, delivery: Delivery, publisher: Publisher) -> None:
        if order.id < 0:
            raise Reject("no such order")
        if delivery.attempt <= order.fails:
            raise ValueError(f"attempt {delivery.attempt} of order {order.id}")
        await publisher.publish(orders, "report.new", {"done": order.id}, headers={"n": 1})

    @service.handler(Queue("shop.reports"), bind=[orders.key("report.*")])
    async def count(report: dict[str, int]) -> None:
        pass

    return service


async def test_a_message_that_is_handled() -> None:
    """Its outcome is an ack, and the record of its run has what the handler was given."""
    async with harness(shop()) as h:
        order = await h.publish(orders, "order.new", Order(id=7), headers={"from": "a test"})
        result = await h.outcome(order)
    assert (result.acked, result.dead_lettered, result.error) == (True, False, None)
    assert (result.message_id, result.queue) == (order, "shop.orders")
    assert [attempt.outcome for attempt in result.attempts] == [Ack()]
    (run,) = [run for run in h.handled if run.message_id == order]
    assert run.handler == f"{__name__}.shop.<locals>.take"
    assert (run.queue, run.exchange, run.routing_key) == ("shop.orders", "orders", "order.new")
    assert (run.attempt, run.body) == (1, {"id": 7, "fails": 0})
    assert run.properties.headers["from"] == "a test"
    assert h.retried == []
    assert h.dead_lettered == []


@pytest.mark.parametrize("driver", drivers.NAMES)
async def test_any_driver_will_do(driver: str) -> None:
    """A service runs in a harness on each of mqkit's drivers, by its name or itself."""
    for given in (driver, drivers.named(driver)):
        async with harness(shop(), driver=given) as h:
            order = await h.publish(orders, "order.new", Order(id=1, fails=1))
            await h.advance(HOUR)
            assert (await h.outcome(order)).delays == [HOUR]


async def test_a_service_with_a_connection_of_its_own_is_run_on_the_broker_of_the_test() -> None:
    """The application's connection is not asked for, and the service keeps it."""

    def connect() -> Any:
        raise AssertionError("the application's broker")

    service = Service("s", retry=Retry.never(), connection=connect)

    @service.handler(Queue("q"))
    async def handle(body: bytes) -> None:
        pass

    async with harness(service) as h:
        assert (await h.outcome(await h.publish("", "q", b""))).acked
    assert service.connection is connect


async def test_a_retry_after_an_hour_takes_no_hour() -> None:
    """After `advance` the second attempt is made, and the history has both."""
    began = time.monotonic()
    async with harness(shop()) as h:
        order = await h.publish(orders, "order.new", Order(id=1, fails=1))
        await h.advance(HOUR - 1)
        (retried,) = h.retried
        assert (retried.delay, retried.attempt, retried.message_id) == (HOUR, 1, order)
        assert str(retried.error) == "attempt 1 of order 1"
        assert h.handled == []
        await h.advance(1)
        result = await h.outcome(order)
    assert result.acked
    assert result.delays == [HOUR]
    first, second = result.attempts
    assert isinstance(first.outcome, RetryAfter)
    assert (first.number, second.number, second.outcome) == (1, 2, Ack())
    assert time.monotonic() - began < 5


async def test_retries_are_made_each_at_its_time() -> None:
    """One long advance makes them all, and the service's clock shows when each was due."""
    times: list[datetime] = []
    service = Service(
        "s", retry=Retry(stop=stop_after_delay(8 * HOUR), wait=wait_exponential(multiplier=HOUR))
    )

    @service.handler(Queue("q"))
    async def fail(body: bytes) -> None:
        times.append(h.now())
        raise ValueError("no")

    async with harness(service) as h:
        message = await h.publish("", "q", b"")
        await h.advance(24 * HOUR)
        result = await h.outcome(message)
    assert result.reason is DeathReason.ATTEMPTS_EXHAUSTED
    hours = [round((each - times[0]).total_seconds() / HOUR, 2) for each in times]
    # Waits of 1, 2, 4 and 8 hours; at 15 the policy's 8 hours are over, and at 7 they were not.
    assert hours == [0, 1, 3, 7, 15]
    assert [round(delay / HOUR) for delay in result.delays] == [1, 2, 4, 8]


async def test_a_message_that_is_dead_lettered() -> None:
    """Its outcome has the reason and the error; the dead letter queue has the message, to stay."""
    async with harness(shop()) as h:
        message = await h.publish("", "shop.orders", {"id": -1})
        result = await h.outcome(message)
        letters = await h.dead_letters("shop.orders")
        again = await h.dead_letters(Queue("shop.orders"))
        assert await h.dead_letters("shop.reports") == []
    assert (result.acked, result.dead_lettered, result.reason) == (False, True, "rejected")
    assert isinstance(result.error, Reject)
    (record,) = h.dead_lettered
    assert (record.reason, record.error, record.body) == ("rejected", result.error, {"id": -1})
    (letter,) = letters
    assert [each.message_id for each in again] == [message]
    assert (letter.message_id, letter.body, letter.attempts) == (message, {"id": -1}, 1)
    assert (letter.reason, letter.error_message) == (DeathReason.REJECTED, "no such order")
    assert letter.error_type == "mqkit.outcome.Reject"
    assert letter.headers["mqkit-handler"] == record.handler


async def test_a_body_that_does_not_validate() -> None:
    """It is dead-lettered with the error, unrun, and its record has the body as it came."""
    async with harness(shop()) as h:
        result = await h.outcome(await h.publish("", "shop.orders", b"no json"))
    assert result.reason is DeathReason.UNDECODABLE
    assert [record.body for record in h.dead_lettered] == [b"no json"]


async def test_what_the_service_publishes() -> None:
    """It is listed decoded, with its properties; copies and what the test published are not."""
    async with harness(shop()) as h:
        await h.publish(orders, "order.new", Order(id=1, fails=1))
        await h.publish(orders, "order.new", Order(id=-1))
        await h.advance(HOUR)
        await h.idle()
    (published,) = h.published
    assert (published.exchange, published.routing_key) == ("orders", "report.new")
    assert published.body == {"done": 1}
    assert published.headers["n"] == 1
    assert published.properties.app_id == "shop"
    assert published.message_id == published.properties.message_id


async def test_what_the_machinery_publishes_is_not_listed() -> None:
    """A reply and a copy for a partition are none of the service's, and a request of its own is."""
    service = Service("s", retry=Retry.never())
    steps = Exchange("steps", type="topic")

    @service.handler(Queue("q", partitions=2), order_by="id")
    async def ask(order: Order, publisher: Publisher) -> int:
        return await publisher.request(steps.key("double"), order, int)

    @service.handler(Queue("d"), bind=[steps.key("#")])
    async def double(order: Order) -> int:
        return 2 * order.id

    async with harness(service) as h:
        assert await h.request(Queue("q"), Order(id=4), int) == 8
        await h.idle()
    assert [(each.exchange, each.routing_key) for each in h.published] == [("steps", "double")]


async def test_a_message_that_its_handler_holds_over_its_retries() -> None:
    """Its outcome is that of the last attempt, which is the one that is settled."""
    service = Service("s", retry=Retry(stop=stop_after_attempt(3), wait=wait_fixed(0.01)))

    @service.handler(Queue("q", partitions=1), order_by="id")
    async def take(order: Order, delivery: Delivery) -> None:
        if delivery.attempt <= order.fails:
            raise ValueError("not yet")

    async with harness(service) as h:
        result = await h.outcome(await h.publish("", "q", Order(id=1, fails=2)))
        await h.idle()
    assert [(each.number, each.outcome) for each in result.attempts] == [(3, Ack())]


async def test_idle_waits_for_what_the_service_publishes_to_itself() -> None:
    """It ends when the last message of a chain has ended, each of which is known by its id."""
    service = Service("s", retry=Retry.never())

    @service.handler(Queue("q"))
    async def pass_on(left: int, publisher: Publisher) -> None:
        await asyncio.sleep(0.01)
        if left:
            await publisher.publish("", "q", left - 1)

    async with harness(service) as h:
        await asyncio.gather(*(h.publish("", "q", 5) for _ in range(10)))
        await h.idle()
        assert len(h.handled) == 60
        assert len(h.published) == 50
        last = h.published[-1].message_id
        assert last is not None
        assert (await h.outcome(last)).acked


async def test_a_message_for_several_queues_has_several_outcomes() -> None:
    """The queue must be said then, by its name or as it is declared."""
    service = Service("s", retry=Retry.never())
    news = Exchange("news", type="fanout")

    @service.handler(Queue("q1"), bind=[news.key()])
    async def take(body: bytes) -> None:
        pass

    @service.handler(Queue("q2"), bind=[news.key()])
    async def refuse(body: bytes) -> None:
        await asked.wait()
        raise Reject("no")

    asked = asyncio.Event()

    async with harness(service) as h:
        message = await h.publish(news, "", b"")
        with pytest.raises(HarnessError, match="went to q1 and q2: say queue="):
            await h.outcome(message)
        asked.set()
        assert (await h.outcome(message, queue="q1")).acked
        assert (await h.outcome(message, queue=Queue("q2"))).dead_lettered


async def test_the_end_of_a_message_that_no_handler_gets() -> None:
    """Asking for it is an error at once, which says where the service would have got it."""
    async with harness(shop()) as h:
        dead = await h.publish("", "shop.orders.dead", b"straight into it")
        with pytest.raises(HarnessError, match=r"no queue of service 'shop' \(shop.orders, "):
            await h.outcome(dead)
        with pytest.raises(UnroutableError):
            await h.publish(orders, "nowhere", b"")
        await h.idle()


async def test_a_message_of_another_client(mqkit_embedded: Broker) -> None:
    """Its end is waited for by its id, from before it is known."""
    async with harness(shop(), mqkit_embedded) as h:
        url = BrokerUrl.parse(h.url)
        waiting = asyncio.create_task(h.outcome("theirs"))
        await asyncio.sleep(0)
        with pika.BlockingConnection(wire.parameters(url, url.hosts[0], "other")) as connection:
            properties = pika.BasicProperties(message_id="theirs")
            connection.channel().basic_publish("", "shop.reports", b"{}", properties)
        assert (await waiting).queue == "shop.reports"


async def test_a_retry_that_is_due_too_late_is_not_waited_for() -> None:
    """The error comes at once, and says to advance the time."""
    async with harness(shop()) as h:
        order = await h.publish(orders, "order.new", Order(id=1, fails=1))
        began = time.monotonic()
        with pytest.raises(HarnessTimeoutError, match=r"due in 3,.*h\.advance"):
            await h.outcome(order)
        with pytest.raises(HarnessTimeoutError, match=r"not idle .*due in 3,.*h\.advance"):
            await h.idle()
        await h.settled()
        assert time.monotonic() - began < 3


async def test_what_does_not_come_in_time_is_told() -> None:
    """A handler that does not end, and a message that is not known, end in errors that say so."""
    service = Service("s", retry=Retry.never())

    @service.handler(Queue("q"))
    async def hang(body: bytes) -> None:
        await asyncio.Event().wait()

    async with harness(service, grace=0, within=0.1) as h:
        message = await h.publish("", "q", b"")
        for wait in (h.outcome(message), h.idle(), h.settled(), h.advance(1)):
            with pytest.raises(HarnessTimeoutError, match=f"{message} in q: published; attempt 1"):
                await wait
        with pytest.raises(HarnessTimeoutError, match=r"within 0\.2 s; nothing is known"):
            await h.outcome("unknown", within=0.2)


async def test_a_message_published_twice() -> None:
    """Its outcome is that of the last one, once both have ended."""
    runs: list[int] = []
    release = asyncio.Event()
    service = Service("s", retry=Retry.never())

    @service.handler(Queue("q"), concurrency=1)
    async def once(body: bytes) -> None:
        runs.append(len(runs))
        if len(runs) > 1:
            await release.wait()
            raise Reject("a duplicate")

    async with harness(service) as h:
        await h.publish("", "q", b"", message_id="same")
        assert (await h.outcome("same")).acked
        await h.publish("", "q", b"", message_id="same")
        waiting = asyncio.create_task(h.outcome("same"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        release.set()
        assert (await waiting).dead_lettered


async def test_a_service_may_be_run_many_times(mqkit_embedded: Broker) -> None:
    """Side by side and one after the other, on one broker, no run sees anything of another's."""
    service = shop()
    handlers, before = service.handlers, mqkit_embedded.ctl("list_vhosts")

    async def run(number: int) -> list[Any]:
        async with harness(service, mqkit_embedded) as h:
            await h.outcome(await h.publish(orders, "order.new", Order(id=number)))
            await h.idle()
            return [each.body for each in h.published]

    for _ in range(2):
        found = await asyncio.gather(*(run(number) for number in range(5)))
        assert found == [[{"done": number}] for number in range(5)]
    assert service.handlers == handlers
    assert mqkit_embedded.ctl("list_vhosts") == before


async def test_services_on_one_virtual_host_reach_each_other(mqkit_embedded: Broker) -> None:
    """What one publishes the other handles; `url` says where."""
    other = Service("other", retry=Retry.never())

    @other.handler(Queue("other.reports"), bind=[orders.key("report.*")])
    async def read(report: dict[str, int]) -> None:
        pass

    url = mqkit_embedded.add_vhost("together")
    async with harness(shop(), mqkit_embedded, url=url) as h, harness(other, url) as o:
        await h.publish(orders, "order.new", Order(id=3))
        await h.idle()
        (published,) = h.published
        assert published.message_id is not None
        assert (await o.outcome(published.message_id)).acked
    assert [run.body for run in o.handled] == [{"done": 3}]
    mqkit_embedded.delete_vhost("together")


async def test_a_delivery_that_is_lost_comes_again(mqkit_embedded: Broker) -> None:
    """A cut connection is in the history, and the outcome is that of the next delivery."""
    cutting, noticed = asyncio.Event(), asyncio.Event()
    service = Service("s", retry=Retry.never())

    @service.handler(Queue("q"))
    async def handle(body: bytes, delivery: Delivery) -> None:
        while not (delivery.lost or noticed.is_set()):
            cutting.set()
            await asyncio.sleep(0.01)
        noticed.set()

    url = mqkit_embedded.add_vhost("cut")
    async with TcpProxy(url) as proxy:
        async with harness(service, mqkit_embedded, url=url, through=proxy.url) as h:
            message = await h.publish("", "q", b"")
            await cutting.wait()
            connections = proxy.cut()
            result = await h.outcome(message)
        assert connections == 2, "the harness's own connection does not go through the proxy"
    assert [attempt.outcome for attempt in result.attempts] == [Lost(), Ack()]
    assert result.acked
    mqkit_embedded.delete_vhost("cut")


async def test_time_passes_by_hand_on_an_embedded_broker_only(mqkit_embedded: Broker) -> None:
    """Elsewhere the error says where it can; and it never goes back."""
    async with harness(shop(), mqkit_embedded.url) as h:
        with pytest.raises(HarnessError, match="--mqkit-broker=embedded"):
            await h.advance(1)
    async with harness(shop()) as h:
        with pytest.raises(HarnessError, match="forward only"):
            await h.advance(-1)


async def test_a_service_that_breaks_down_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends a consumer is raised by what waits, or else at the end of the block."""

    async def attach(_: Subscription) -> None:
        raise RuntimeError("a fault of mqkit's own")

    monkeypatch.setattr(Subscription, "_attach_once", attach)
    with pytest.raises(RuntimeError, match="mqkit's own"):
        async with harness(shop()) as h:
            await h.outcome(await h.publish(orders, "order.new", Order(id=1)))
    with pytest.raises(RuntimeError, match="mqkit's own"):
        async with harness(shop()):
            await asyncio.sleep(0.05)


async def test_handlers_that_still_run_are_cancelled_at_the_end() -> None:
    """After the grace period of the harness, which is short."""
    cancelled = asyncio.Event()
    began = asyncio.Event()
    service = Service("s", retry=Retry.never())

    @service.handler(Queue("q"))
    async def hang(body: bytes) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with harness(service, grace=0.05) as h:
        await h.publish("", "q", b"")
        await began.wait()
        left = time.monotonic()
    assert cancelled.is_set()
    assert time.monotonic() - left < 1


async def test_middleware_of_the_test_goes_around_the_services() -> None:
    """It sees each run."""
    seen: list[str] = []

    async def note(call: HandlerCall, call_next: CallNext) -> Any:
        seen.append(call.handler)
        return await call_next(call)

    async with harness(shop(), middleware=[note]) as h:
        await h.publish(orders, "order.new", Order(id=1))
        await h.idle()
    assert [each.rpartition(".")[2] for each in seen] == ["take", "count"]


async def test_a_service_without_handlers_is_refused() -> None:
    """There is nothing to run, and nothing is left behind."""
    threads = threading.active_count()
    with pytest.raises(ConfigurationError, match="no handlers"):
        async with harness(Service("empty")):
            pass
    assert threading.active_count() == threads


@pytest.mark.parametrize("option", [{"on": 5}, {"middleware": 5}, {"middleware": [print]}])
async def test_an_option_that_cannot_be_is_named(option: dict[str, Any]) -> None:
    """It is a ConfigurationError before anything is connected, whatever it was given."""
    with pytest.raises(ConfigurationError, match=next(iter(option))):
        async with harness(shop(), **option):
            pass


async def test_a_harness_is_cheap(mqkit_embedded: Broker) -> None:
    """A test of a handler computes little more than a service and a client do that only start."""
    service = shop()

    async def one() -> None:
        async with harness(service, mqkit_embedded) as h:
            assert (await h.outcome(await h.publish(orders, "order.x", Order(id=1)))).acked

    async def bare() -> None:
        url = mqkit_embedded.url
        async with Runtime(service, BrokerUrl.parse(url)), connected(url):
            pass

    took = []
    for run in (one, bare):
        await run()
        began = time.process_time()
        for _ in range(20):
            await run()
        took.append(time.process_time() - began)
    assert took[0] < took[1] * 3  # measured: 1.5 to 1.8 times
