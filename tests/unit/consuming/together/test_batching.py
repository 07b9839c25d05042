"""What a handler of batches may ask for, and how its batches are run in a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from mqkit import Delivery, HandlerError, Publisher, Queue, Reject, Retry, Service
from mqkit.consuming.together.batching import Batcher
from mqkit.consuming.wiring import running
from mqkit.errors import (
    BatchResultError,
    HandlerResultError,
    HandlerTimeoutError,
    InvalidMessageError,
)
from mqkit.message import Properties
from mqkit.middleware import CallNext, HandlerCall
from mqkit.outcome import Ack, DeadLetter, DeathReason, Outcome
from mqkit.store import Transaction
from tests.unit.consuming.world import settled


class Order(BaseModel):
    """A body."""

    number: int


async def good(orders: list[Order], deliveries: list[Delivery], publisher: Publisher) -> None:
    pass


async def of_one(order: Order) -> None:
    pass


async def with_a_delivery(orders: list[Order], delivery: Delivery) -> None:
    pass


async def with_a_transaction(orders: list[Order], transaction: Transaction) -> None:
    pass


class RepositoryOfOne:
    """Made from one message."""

    def __init__(self, transaction: Transaction, delivery: Delivery) -> None: ...


async def with_a_repository_of_one(orders: list[Order], repository: RepositoryOfOne) -> None:
    pass


async def of_two(orders: list[Order], others: list[int]) -> None:
    pass


async def of_none(deliveries: list[Delivery]) -> None:
    pass


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (of_one, {}, r"list\[Order\]"),
        (with_a_delivery, {}, "takes list.Delivery."),
        (with_a_transaction, {}, "has no store"),
        (with_a_repository_of_one, {}, "repository.* is for one message"),
        (of_two, {}, "orders: .*others"),
        (of_none, {}, "not none"),
        (good, {"size": 0}, "size is a whole number"),
        (good, {"size": "3"}, "size is a whole number"),
        (good, {"within": 0}, "within is more than 0 s"),
        (good, {"prefetch": 3}, "no batch of 10"),
        (good, {"concurrency": 50}, "concurrency is 1 to"),
        (good, {"queue": Queue("q", partitions=2)}, "order_by"),
        (good, {"order_by": "number"}, "partitions=1"),
        (good, {"order_by": "nothing", "queue": Queue("q", partitions=2)}, "is no field of Order"),
        (good, {"order_by": 7, "queue": Queue("q", partitions=2)}, "function of the body"),
    ],
)
def test_a_batch_that_cannot_work_is_refused(
    function: Callable[..., Any], options: dict[str, Any], words: str
) -> None:
    """At registration, and the error names the handler and what is wrong."""
    service = Service("s", retry=Retry.never())
    service.provide(RepositoryOfOne, RepositoryOfOne)
    given: dict[str, Any] = {"queue": Queue("q"), "size": 10, "within": 1.0, "prefetch": 20}
    given |= options
    with pytest.raises(HandlerError, match=words):
        service.batch(**given)(function)


def test_a_batch_is_prefetched_twice_over() -> None:
    """While one is handled the next one comes, unless a prefetch is said."""
    service = Service("s", retry=Retry.never())
    service.batch(Queue("q"), size=100, within=1, concurrency=2)(good)
    assert service.handlers[0].prefetch == 400


class FakeTransaction:
    """Asked for by annotation, as a store's own."""

    __mqkit_transaction__ = True
    __mqkit_runtime_provided__ = True


class Repository:
    """Made from the transaction."""

    def __init__(self, transaction: FakeTransaction) -> None:
        self.transaction = transaction


class FakeStore:
    """Does what a store does for a batch, in memory, and notes what came of each run."""

    def __init__(self, **results: Any) -> None:
        self.results: dict[str, Any] = results
        self.ran: list[Any] = []

    async def run_once(self, *_: Any, at_once: int | None = None) -> Any:
        """Be a store's."""
        raise AssertionError

    def under_way(self, handler: str) -> int:
        """Be a store's."""
        return 0

    async def run_batch_once(
        self,
        handler: str,
        deliveries: Sequence[Delivery],
        run: Callable[[Any, Sequence[Delivery]], Awaitable[Sequence[Any]]],
    ) -> list[Any]:
        """Run it for those that have no result, and keep the results that are no exceptions."""
        left = [each for each in deliveries if each.message_id not in self.results]
        assert len({each.message_id for each in left}) == len(left)
        found = {}
        if left:
            try:
                returned = await run(FakeTransaction(), left)
            except BaseException as error:
                self.ran.append(error)
                raise
            self.ran.append(returned)
            found = {e.message_id or "": r for e, r in zip(left, returned, strict=True)}
            kept = {i: r for i, r in found.items() if not isinstance(r, BaseException)}
            self.results.update(kept)
        known = self.results | found
        return [known[each.message_id or ""] for each in deliveries]


async def outcomes(service: Service, *messages: Delivery) -> list[Outcome]:
    """What becomes of messages that make a batch, in their order."""
    (handler,) = service.handlers
    made = running("s", handler, providers=service.providers, store=service.store)
    batcher = Batcher(handler, made.decoder, made.invoker, made.judge)
    async with asyncio.timeout(10):
        return await asyncio.gather(*(settled(batcher, each) for each in messages))


def message(message_id: str | None, number: int = 0, reply_to: str | None = None) -> Delivery:
    """A delivery of an order."""
    properties = Properties(message_id=message_id, reply_to=reply_to)
    return Delivery(body=Order(number=number).model_dump_json().encode(), properties=properties)


def with_store(store: FakeStore) -> Service:
    """A service that has it."""
    return Service("s", retry=Retry.never(), store=store)  # type: ignore[arg-type]


async def test_a_batch_gets_what_was_not_handled_and_its_middleware_all() -> None:
    """One transaction is for the run, and what providers make of it; each has its own result."""
    seen: list[Any] = []
    service = with_store(FakeStore(b="before"))
    service.provide(Repository, Repository)

    async def note(call: HandlerCall, call_next: CallNext) -> Any:
        seen.append([each.message_id for each in call.deliveries])
        seen.append(await call_next(call))
        return seen[-1]

    @service.batch(Queue("q"), size=3, within=60, middleware=[note])
    async def post(
        orders: list[Order],
        deliveries: list[Delivery],
        repository: Repository,
        transaction: FakeTransaction,
    ) -> list[int]:
        assert repository.transaction is transaction
        seen.append([each.message_id for each in deliveries])
        return [each.number for each in orders]

    given = [message("a", 1), message("b", 2), message("c", 3)]
    assert await outcomes(service, *given) == [Ack(1), Ack("before"), Ack(3)]
    assert seen == [["a", "b", "c"], ["a", "c"], [1, "before", 3]]


async def test_two_messages_of_one_id_are_run_one_after_the_other() -> None:
    """The second is found handled, and runs where the first one failed."""
    runs: list[list[int]] = []
    store = FakeStore()
    service = with_store(store)

    @service.batch(Queue("q"), size=5, within=60)
    async def post(orders: list[Order], transaction: FakeTransaction) -> list[Any]:
        runs.append([each.number for each in orders])
        return [LookupError() if each.number == 2 else each.number for each in orders]

    ids = ("a", "b", "a", "b", "a")
    given = [message(each, number) for number, each in enumerate(ids, start=1)]
    first, second, *others = await outcomes(service, *given)
    assert isinstance(second, DeadLetter)
    assert [first, *others] == [Ack(1), Ack(1), Ack(4), Ack(1)]
    assert runs == [[1, 2], [4]]


async def test_a_message_whose_time_ends_while_it_waits_for_its_batch_is_not_handled() -> None:
    """It is dead as one whose time was over when it came; the others of the batch are handled."""
    runs: list[list[int]] = []
    service = Service("s", retry=Retry.never())

    @service.batch(Queue("q"), size=9, within=0.1)
    async def post(orders: list[Order]) -> None:
        runs.append([each.number for each in orders])

    short, long, endless = (message(name, n) for n, name in enumerate("abc"))
    now = asyncio.get_running_loop().time()
    short.expires, long.expires = now + 0.05, now + 60
    dead, *others = await outcomes(service, short, long, endless)
    assert isinstance(dead, DeadLetter)
    assert dead.reason is DeathReason.EXPIRED
    assert others == [Ack(None), Ack(None)]
    assert runs == [[1, 2]]


class SlowStore(FakeStore):
    """Lets a batch wait for its transaction."""

    async def run_batch_once(self, handler: str, deliveries: Any, run: Any) -> list[Any]:
        """Wait first."""
        await asyncio.sleep(0.06)
        return await super().run_batch_once(handler, deliveries, run)


async def test_what_expires_while_its_batch_waits_for_a_transaction_is_not_run() -> None:
    """The others are; where nothing is left, the handler is not called."""
    store = SlowStore()
    service = with_store(store)
    runs: list[list[int]] = []

    @service.batch(Queue("q"), size=2, within=60)
    async def post(orders: list[Order], transaction: FakeTransaction) -> None:
        runs.append([each.number for each in orders])

    short, other = message("a", 1), message("b", 2)
    short.expires = asyncio.get_running_loop().time() + 0.05
    dead, done = await outcomes(service, short, other)
    assert isinstance(dead, DeadLetter)
    assert dead.reason is DeathReason.EXPIRED
    assert done == Ack(None)
    both = message("c"), message("d")
    for each in both:
        each.expires = asyncio.get_running_loop().time() + 0.05
    assert [type(each) for each in await outcomes(service, *both)] == [DeadLetter] * 2
    assert runs == [[2]]
    assert [*store.results] == ["b"]


async def test_a_message_without_id_leaves_its_batch_alone() -> None:
    """It could not be known again, so it is not run."""
    service = with_store(FakeStore())

    @service.batch(Queue("q"), size=2, within=60)
    async def post(orders: list[Order], transaction: FakeTransaction) -> None: ...

    without, *others = await outcomes(service, message(None), message("a"), message("b"))
    assert isinstance(without, DeadLetter)
    assert without.reason is DeathReason.UNIDENTIFIED
    assert others == [Ack(None), Ack(None)]


async def test_a_reply_that_cannot_be_sent_fails_its_message_before_the_commit() -> None:
    """So does a result that has yet to run; the others' are kept."""
    store = FakeStore()
    service = with_store(store)

    async def unrun() -> None: ...

    @service.batch(Queue("q"), size=4, within=60)
    async def post(orders: list[Order], transaction: FakeTransaction) -> list[Any]:
        return [object(), object(), unrun(), 4]

    asked = [message("a"), message("b", reply_to="r"), message("c"), message("d", reply_to="r")]
    one, two, three, four = await outcomes(service, *asked)
    assert isinstance(one, Ack)
    assert isinstance(two, DeadLetter)
    assert isinstance(two.error, InvalidMessageError)
    assert isinstance(three, DeadLetter)
    assert isinstance(four, Ack)
    assert four.reply is not None
    assert sorted(store.results) == ["a", "d"]


@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("returned", [Reject, LookupError, KeyboardInterrupt])
async def test_a_class_of_exceptions_is_the_failure_of_its_message(
    returned: type[BaseException], *, in_transaction: bool
) -> None:
    """Its handler forgot to make one of it: the message is not acked for that."""
    store = FakeStore()
    service = with_store(store)

    async def post(orders: list[Order]) -> list[Any]:
        return [returned, None]

    async def post_within(orders: list[Order], transaction: FakeTransaction) -> list[Any]:
        return [returned, None]

    service.batch(Queue("q"), size=2, within=60)(post_within if in_transaction else post)
    one, two = await outcomes(service, message("a"), message("b"))
    assert isinstance(one, DeadLetter)
    assert isinstance(one.error, HandlerResultError)
    assert isinstance(two, Ack)
    assert list(store.results) == (["b"] if in_transaction else [])


@pytest.mark.parametrize(
    ("returned", "error"), [([1], BatchResultError), (ValueError("all"), ValueError)]
)
async def test_what_fails_a_batch_is_raised_in_its_transaction(
    returned: Any, error: type[Exception]
) -> None:
    """Another number of results, too: it is rolled back, and each message has failed."""
    store = FakeStore()
    service = with_store(store)

    @service.batch(Queue("q"), size=2, within=60)
    async def post(orders: list[Order], transaction: FakeTransaction) -> Any:
        if isinstance(returned, Exception):
            raise returned
        return returned

    found = await outcomes(service, message("a"), message("b"))
    assert [type(each.error) for each in found if isinstance(each, DeadLetter)] == [error] * 2
    assert isinstance(store.ran[0], error)
    assert store.results == {}


async def test_a_batch_that_takes_too_long_is_rolled_back() -> None:
    """Its timeout is within the transaction, and tells of those that it was run for."""
    store = FakeStore(a=1)
    service = with_store(store)

    @service.batch(Queue("q"), size=2, within=60, timeout=0.01)
    async def post(orders: list[Order], transaction: FakeTransaction) -> None:
        await asyncio.Event().wait()

    handled, slow = message("a"), message("b")
    await outcomes(service, handled, slow)
    assert isinstance(store.ran[0], HandlerTimeoutError)
    assert (handled.overdue, slow.overdue) == (False, True)


async def test_a_batch_says_when_it_ran_where_somebody_asks() -> None:
    """Its first message has the run's begin and end, and the others the begin alone"""
    service = Service("s", retry=Retry.never())

    @service.batch(Queue("q"), size=2, within=5)
    async def handle(orders: list[Order]) -> None: ...

    (handler,) = service.handlers
    made = running("s", handler)
    batcher = Batcher(handler, made.decoder, made.invoker, made.judge, times_runs=True)
    first, second = message("1"), message("2")
    async with asyncio.timeout(10):
        await asyncio.gather(settled(batcher, first), settled(batcher, second))
    assert first.ran is not None
    assert second.ran == (first.ran[0], None)
    assert first.ran[1] is not None


async def test_a_batch_whose_time_is_over_takes_what_comes_until_it_can_run() -> None:
    """While all runs are busy no small batches line up: the next run is for all that has come."""
    service = Service("s", retry=Retry.never())
    sizes: list[int] = []
    go_on = asyncio.Event()

    @service.batch(Queue("q"), size=10, within=0.001)
    async def handle(orders: list[Order]) -> None:
        sizes.append(len(orders))
        await go_on.wait()

    (handler,) = service.handlers
    made = running("s", handler)
    batcher = Batcher(handler, made.decoder, made.invoker, made.judge)
    under_way = [asyncio.create_task(settled(batcher, message("0")))]
    async with asyncio.timeout(10):
        while not sizes:
            await asyncio.sleep(0.001)
        for number in range(1, 4):
            under_way.append(asyncio.create_task(settled(batcher, message(f"{number}"))))
            await asyncio.sleep(0.01)  # longer than a batch waits
        go_on.set()
        await asyncio.gather(*under_way)
    assert sizes == [1, 3]
