"""Order by key, on real queues."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from typing import Any, ClassVar, Self

import pytest
from pydantic import BaseModel, model_validator
from tenacity import stop_after_attempt, wait_fixed

from mqkit import BrokerUrl, Delivery, Outgoing, Queue, Reject, Retry, Runtime, Service
from mqkit.broker.declare import declare
from mqkit.pause import Status
from mqkit.testing.brokers.broker import Broker
from tests.support import connected, eventually

pytestmark = pytest.mark.usefixtures("driver")


class Posting(BaseModel):
    """One of an account's postings, numbered in their order."""

    account: str
    number: int


class Counted(Posting):
    """One that notes whose it is whenever it is decoded."""

    decoded: ClassVar[list[str]] = []

    @model_validator(mode="after")
    def note(self) -> Self:
        """Note it."""
        self.decoded.append(self.account)
        return self


class Ledger:
    """What was handled, by account, and how much at the same time."""

    def __init__(self) -> None:
        self.handled: dict[str, list[int]] = defaultdict(list)
        self.now: Counter[str] = Counter()
        self.most_of_one = 0
        self.two = asyncio.Event()
        """Set once two ran at the same time."""

    @property
    def count(self) -> int:
        """Postings that are handled."""
        return sum(map(len, self.handled.values()))

    def first(self, account: str) -> list[int]:
        """An account's postings, each where it was handled first: an ack may be lost."""
        return list(dict.fromkeys(self.handled[account]))

    def begin(self, posting: Posting) -> None:
        """A run begins."""
        self.now[posting.account] += 1
        self.most_of_one = max(self.most_of_one, self.now[posting.account])
        if self.now.total() > 1:
            self.two.set()

    def end(self, posting: Posting, *, done: bool = True) -> None:
        """It ends."""
        self.now[posting.account] -= 1
        if done:
            self.handled[posting.account].append(posting.number)


class Gate:
    """Lets postings through up to a number; those after it wait, or end once they are lost."""

    def __init__(self, most: int) -> None:
        self.most = most
        """The number from which on they wait."""
        self.waits = asyncio.Event()
        """Set whenever one waits."""

    def service(self, name: str, queue: Queue, ledger: Ledger) -> Service:
        """Return one that notes in the ledger what it lets through."""
        made = Service(name, retry=Retry.never())

        @made.handler(queue, prefetch=20, concurrency=1, order_by="account")
        async def post(posting: Posting, delivery: Delivery) -> None:
            while posting.number >= self.most:
                self.waits.set()
                await asyncio.sleep(0.005)
                if delivery.lost:
                    return
            ledger.end(posting)

        return made


def postings(accounts: int, each: int) -> list[Posting]:
    """Of each account in turn."""
    return [Posting(account=f"a{a}", number=n) for n in range(each) for a in range(accounts)]


async def send(url: str, service: Service, queue: str, items: list[Any]) -> None:
    """Publish them in their order, one after the other of each account."""
    async with connected(url) as client:
        await declare(client.connection.channel, service.topology)
        messages = (Outgoing("", queue, each, message_id=f"m{n}") for n, each in enumerate(items))
        async for result in client.publisher.publish_many(messages):
            assert result.error is None


@pytest.mark.parametrize("partitions", [1, 3])
async def test_each_key_is_handled_in_order_and_retries_hold_only_their_key(
    broker: Broker, name: str, partitions: int
) -> None:
    """With failures in between: one run at a time of a key, in its order, and other keys go on."""
    ledger = Ledger()
    service = Service(name, retry=Retry(stop=stop_after_attempt(5), wait=wait_fixed(0.05)))
    queue = Queue(f"{name}.q", partitions=partitions)

    @service.handler(queue, prefetch=100, concurrency=20, order_by="account")
    async def post(posting: Posting, delivery: Delivery) -> None:
        ledger.begin(posting)
        fails = posting.number % 3 == 0 and delivery.attempt < 3
        try:
            async with asyncio.timeout(30):  # the first one waits for one of another key
                await ledger.two.wait()
            if fails:
                raise ValueError
        finally:
            ledger.end(posting, done=not fails)

    await send(broker.url, service, queue.name, postings(8, 9))
    async with Runtime(service, BrokerUrl.parse(broker.url)):
        await eventually(lambda: ledger.count == 72, 60)
    assert all(numbers == list(range(9)) for numbers in ledger.handled.values())
    assert ledger.most_of_one == 1
    async with connected(broker.url) as client:
        for each in (queue, *queue.partition_queues()):
            assert await client.messages(each.name) == 0
        assert await client.messages(queue.dead_queue) == 0


async def test_a_body_is_decoded_once_for_its_key_and_its_first_run(
    broker: Broker, name: str
) -> None:
    """The second run of one that failed has a body of its own, which the first has not changed."""
    Counted.decoded.clear()
    seen: list[tuple[str, int]] = []
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.02)))
    queue = Queue(f"{name}.q", partitions=1)

    @service.handler(queue, order_by="account")
    async def post(posting: Counted, delivery: Delivery) -> None:
        seen.append((posting.account, posting.number))
        posting.number = -1
        if posting.account == "a1" and delivery.attempt == 1:
            raise ValueError

    await send(broker.url, service, queue.name, postings(3, 1))
    async with Runtime(service, BrokerUrl.parse(broker.url)):
        await eventually(lambda: len(seen) == 4)
    assert sorted(seen) == [("a0", 0), ("a1", 0), ("a1", 0), ("a2", 0)]
    assert sorted(Counted.decoded) == ["a0", "a1", "a1", "a2"]


async def test_a_handler_does_not_see_what_order_by_did_to_a_body(
    broker: Broker, name: str
) -> None:
    """A function of the application's own is given another body than the handler."""
    seen: list[dict[str, Any]] = []
    service = Service(name, retry=Retry.never())
    queue = Queue(f"{name}.q", partitions=1)

    @service.handler(queue, order_by=lambda body: body.pop("account"))
    async def post(body: dict[str, Any]) -> None:
        seen.append(body)

    await send(broker.url, service, queue.name, postings(1, 2))
    async with Runtime(service, BrokerUrl.parse(broker.url)):
        await eventually(lambda: len(seen) == 2)
    assert seen == [{"account": "a0", "number": 0}, {"account": "a0", "number": 1}]


async def test_what_dies_lets_the_next_of_its_key_go_on(broker: Broker, name: str) -> None:
    """A rejected message and one out of attempts are in the queue's one dead letter queue."""
    ledger = Ledger()
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.02)))
    queue = Queue(f"{name}.q", partitions=2)

    @service.handler(queue, order_by=lambda posting: posting.account)
    async def post(posting: Posting) -> None:
        if posting.number == 1:
            raise Reject("no")
        if posting.number == 2:
            raise ValueError
        ledger.end(posting)

    await send(broker.url, service, queue.name, [*postings(3, 5), {"nonsense": 1}])
    async with Runtime(service, BrokerUrl.parse(broker.url)):
        await eventually(lambda: ledger.count == 9)
        async with connected(broker.url) as client:

            async def dead() -> bool:
                return await client.messages(queue.dead_queue) == 7

            await eventually(dead)
            found = await client.take_all(queue.dead_queue)
    assert ledger.handled == {f"a{n}": [0, 3, 4] for n in range(3)}
    reasons = Counter(each.properties.headers["mqkit-reason"] for each in found)
    assert reasons == {"rejected": 3, "attempts-exhausted": 3, "undecodable": 1}
    assert {each.properties.headers["mqkit-queue"] for each in found} == {queue.name}


async def test_partitions_move_to_others_in_order_when_a_service_stops(
    rabbitmq: Broker, name: str
) -> None:
    """Two take turns: whoever stops finishes what runs, and the other goes on after it."""
    ledger = Ledger()
    queue = Queue(f"{name}.q", partitions=4)

    def service() -> Service:
        made = Service(name, retry=Retry.never())

        @made.handler(queue, prefetch=20, order_by="account")
        async def post(posting: Posting) -> None:
            ledger.begin(posting)
            await asyncio.sleep(0.002)
            ledger.end(posting)

        return made

    url = BrokerUrl.parse(rabbitmq.url)
    await send(rabbitmq.url, service(), queue.name, postings(20, 60))
    async with Runtime(service(), url):
        for step in range(1, 5):
            async with Runtime(service(), url):
                await eventually(lambda: ledger.count >= step * 200, 60)  # noqa: B023
        await eventually(lambda: ledger.count >= 1200, 60)
    assert ledger.most_of_one == 1
    in_order = list(range(60))
    assert {key: each for key, each in ledger.handled.items() if each != in_order} == {}


@pytest.mark.parametrize("partitions", [1, 3])
async def test_the_prefetch_can_be_lowered_while_services_come_and_go(
    rabbitmq: Broker, name: str, partitions: int
) -> None:
    """A quorum queue puts what comes back behind what came back before: it may be no part of it."""
    ledger = Ledger()
    queue = Queue(f"{name}.q", partitions=partitions)
    held = asyncio.Event()

    def runtime(prefetch: int, *, is_stuck: bool = False) -> Runtime:
        made = Service(name, retry=Retry.never())

        @made.handler(queue, prefetch=prefetch, concurrency=1, order_by="account")
        async def post(posting: Posting) -> None:
            if is_stuck:
                held.set()
                await asyncio.Event().wait()
            await asyncio.sleep(0.002)
            ledger.end(posting)

        return Runtime(made, BrokerUrl.parse(rabbitmq.url), grace=0.2 if is_stuck else 30)

    async with runtime(50, is_stuck=True) as first:
        await send(rabbitmq.url, first.service, queue.name, postings(6, 60))
        await held.wait()
        async with connected(rabbitmq.url) as client:

            async def all_hold_what_they_may() -> bool:
                names = {queue.name, *(queue.partition(n) for n in range(partitions))}
                ready = [await client.messages(each) for each in names]
                return sum(ready) == 360 - 50 * partitions

            await eventually(all_hold_what_they_may)
    for step in range(1, 4):
        async with runtime(4):
            await eventually(lambda: ledger.count >= step)  # noqa: B023
    async with runtime(20):
        await eventually(lambda: ledger.count >= 360, 60)
    in_order = list(range(60))
    assert {key: each for key, each in ledger.handled.items() if each != in_order} == {}


async def test_connections_that_are_lost_time_and_again_do_not_change_the_order(
    rabbitmq: Broker, name: str
) -> None:
    """Up to three quarters of the delivery limit, all that came back is held, and goes back."""
    ledger = Ledger()
    queue = Queue(f"{name}.q", partitions=1)
    gate = Gate(0)
    service = gate.service(name, queue, ledger)

    await send(rabbitmq.url, service, queue.name, postings(1, 60))
    async with Runtime(service, BrokerUrl.parse(rabbitmq.url)):
        for step in range(1, 15):
            gate.most = step
            await eventually(lambda: len(ledger.first("a0")) >= step)  # noqa: B023
            gate.waits.clear()
            await gate.waits.wait()
            await asyncio.to_thread(rabbitmq.close_connections)
        gate.most = 60
        await eventually(lambda: len(ledger.first("a0")) == 60)
    assert ledger.first("a0") == list(range(60))


async def test_messages_that_came_back_often_are_handled_in_order_with_those_that_did_not(
    rabbitmq: Broker, name: str
) -> None:
    """They are taken one by one, and so are those behind them that came back less often."""
    ledger = Ledger()
    queue = Queue(f"{name}.q", partitions=1, delivery_limit=8)
    gate = Gate(10)
    service = gate.service(name, queue, ledger)

    await send(rabbitmq.url, service, queue.name, postings(1, 60))
    async with Runtime(service, BrokerUrl.parse(rabbitmq.url)), connected(rabbitmq.url) as client:

        async def all_that_it_may_hold_has_come() -> bool:
            return await client.messages(queue.name) == 60 - gate.most - 20

        for step in (10, 10, 10, 20):
            gate.most = step
            gate.waits.clear()
            await gate.waits.wait()
            await eventually(all_that_it_may_hold_has_come)
            await asyncio.to_thread(rabbitmq.close_connections)
        gate.most = 60
        await eventually(lambda: len(ledger.first("a0")) == 60)
    assert ledger.first("a0") == list(range(60))


async def test_who_stops_while_another_process_comes_leaves_each_partition_consumed(
    rabbitmq: Broker, name: str
) -> None:
    """RabbitMQ 4.3.6 keeps who leaves with messages as it makes room for a higher priority."""
    queue = Queue(f"{name}.q", partitions=8)
    begun, second, third = set[str](), set[str](), set[str]()
    can_end = asyncio.Event()

    def runtime(handled: set[str]) -> Runtime:
        made = Service(name, retry=Retry.never())

        @made.handler(queue, prefetch=20, concurrency=1, order_by="account")
        async def post(posting: Posting) -> None:
            handled.add(posting.account)
            if handled is begun:
                await can_end.wait()

        return Runtime(made, BrokerUrl.parse(rabbitmq.url))

    async def consumes(runtime: Runtime) -> None:
        await eventually(
            lambda: all(each.status is Status.CONSUMING for each in runtime.states.values())
        )

    async with AsyncExitStack() as others:
        async with runtime(begun) as first:
            await send(rabbitmq.url, first.service, queue.name, postings(80, 1))
            await eventually(lambda: len(begun) == 8)
            await consumes(await others.enter_async_context(runtime(second)))
            asyncio.get_running_loop().call_later(0.1, can_end.set)
        await eventually(lambda: len(begun | second) == 80)
    async with runtime(third) as last:
        await consumes(last)
        await send(rabbitmq.url, first.service, queue.name, postings(80, 1))
        await eventually(lambda: len(third) == 80)


@pytest.mark.parametrize("partitions", [None, 1, 3])
async def test_a_service_that_stops_leaves_no_task_behind(
    broker: Broker, name: str, partitions: int | None
) -> None:
    """Once it has stopped, none of its tasks waits on, not even those that had nothing to run."""
    ledger = Ledger()
    service = Service(name, retry=Retry.never())
    queue = Queue(f"{name}.q", partitions=partitions)

    @service.handler(queue, prefetch=20, order_by="account" if partitions else None)
    async def post(posting: Posting) -> None:
        ledger.begin(posting)
        await asyncio.sleep(0)
        ledger.end(posting)

    await send(broker.url, service, queue.name, postings(10, 5))
    before = asyncio.all_tasks()
    async with Runtime(service, BrokerUrl.parse(broker.url)):
        await eventually(lambda: ledger.count == 50)
    await eventually(lambda: not asyncio.all_tasks() - before)


async def test_a_stop_gives_back_what_waits_for_its_retry_in_order(
    broker: Broker, name: str
) -> None:
    """A message that is held when the service stops is the first of its key afterwards."""
    seen: list[int] = []
    queue = Queue(f"{name}.q", partitions=1)
    works = asyncio.Event()

    def service() -> Service:
        made = Service(name, retry=Retry(stop=stop_after_attempt(9), wait=wait_fixed(60)))

        @made.handler(queue, order_by="account")
        async def post(posting: Posting) -> None:
            if not works.is_set():
                seen.append(-1)
                raise ValueError
            seen.append(posting.number)

        return made

    url = BrokerUrl.parse(broker.url)
    await send(broker.url, service(), queue.name, postings(1, 5))
    async with Runtime(service(), url):
        await eventually(lambda: seen == [-1])
    works.set()
    async with Runtime(service(), url):
        await eventually(lambda: len(seen) == 6)
    assert seen == [-1, 0, 1, 2, 3, 4]
