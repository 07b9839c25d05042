"""The seam between the hot path and a store, with a store of nothing but notes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tenacity import stop_after_attempt, wait_none

from mqkit import Delivery, Queue, Retry, Service
from mqkit.consuming.dispatcher import Dispatcher
from mqkit.consuming.wiring import running
from mqkit.errors import (
    HandlerError,
    HandlerTimeoutError,
    InvalidMessageError,
    MessageIdError,
    MessageIdReusedError,
    StatementError,
    StoreError,
    StoreUnavailableError,
)
from mqkit.message import Properties
from mqkit.outcome import Ack, DeadLetter, DeathReason, RetryAfter


class FakeTransaction:
    """Asked for by annotation, as a store's own."""

    __mqkit_transaction__ = True
    __mqkit_runtime_provided__ = True


class FakeThreadTransaction:
    """Asked for by annotation, as the one for threads."""

    __mqkit_transaction__ = True
    __mqkit_runtime_provided__ = True
    __mqkit_synchronous__ = True


class Repository:
    """Made from the transaction."""

    def __init__(self, transaction: FakeTransaction) -> None:
        self.transaction = transaction


class Notes:
    """Does what a store does, in memory; `away` makes it unavailable."""

    def __init__(self) -> None:
        self.results: dict[str | None, Any] = {}
        self.away = False
        self.error: StoreError | None = None

    def under_way(self, handler: str) -> int:
        """Be a store's."""
        return 0

    async def run_once(
        self,
        handler: str,
        delivery: Delivery,
        run: Callable[[Any], Awaitable[Any]],
        *,
        at_once: int | None = None,
    ) -> Any:
        """Run it, or give what it gave before."""
        if self.away:
            raise StoreUnavailableError("away")
        if self.error is not None:
            raise self.error
        if delivery.message_id not in self.results:
            self.results[delivery.message_id] = await run(FakeTransaction())
        return self.results[delivery.message_id]


def dispatcher(service: Service) -> Dispatcher:
    """For the only handler of the service."""
    (handler,) = service.handlers
    return running(
        "s",
        handler,
        middleware=(),
        values={},
        providers=service.providers,
        executor=None,
        store=service.store,
    ).dispatcher


def message(message_id: str | None) -> Delivery:
    """A delivery with that id."""
    return Delivery(properties=Properties(message_id=message_id))


async def test_a_handler_with_a_transaction_runs_once_for_a_message() -> None:
    """The second delivery is acked with the first one's result, and runs nothing."""
    runs: list[Repository] = []
    service = Service("s", retry=Retry.never(), store=Notes())  # type: ignore[arg-type]
    service.provide(Repository, Repository)

    @service.handler(Queue("q"))
    async def handle(repository: Repository, transaction: FakeTransaction) -> int:
        assert repository.transaction is transaction
        runs.append(repository)
        return len(runs)

    run = dispatcher(service)
    assert [await run.dispatch(message("a")) for _ in range(2)] == [Ack(1), Ack(1)]
    assert await run.dispatch(message("b")) == Ack(2)


async def test_a_message_without_id_is_dead_lettered_by_a_handler_with_a_transaction() -> None:
    """It could not be known again, so it is not run at all."""
    service = Service("s", retry=Retry.never(), store=Notes())  # type: ignore[arg-type]

    @service.handler(Queue("q"))
    async def handle(transaction: FakeTransaction) -> None:
        raise AssertionError

    outcome = await dispatcher(service).dispatch(message(None))
    assert isinstance(outcome, DeadLetter)
    assert outcome.reason is DeathReason.UNIDENTIFIED


async def test_an_unavailable_store_costs_a_message_none_of_its_attempts() -> None:
    """Even a policy of no retries at all does not dead-letter it."""
    store = Notes()
    store.away = True
    service = Service("s", retry=Retry.never(), store=store)  # type: ignore[arg-type]

    @service.handler(Queue("q"))
    async def handle(transaction: FakeTransaction) -> None:
        raise AssertionError

    outcome = await dispatcher(service).dispatch(message("a"))
    assert isinstance(outcome, RetryAfter)
    assert not outcome.counted


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MessageIdReusedError("another body"), DeathReason.ID_REUSED),
        (MessageIdError("NUL"), DeathReason.UNIDENTIFIED),
        (StatementError("slow"), DeathReason.ATTEMPTS_EXHAUSTED),
        (StoreUnavailableError("away", wait=42.0), 42.0),
    ],
)
async def test_what_a_store_says_of_a_message_is_its_outcome(
    error: StoreError, reason: DeathReason | float
) -> None:
    """An id that is no good is no matter of the policy; a failure that counts is."""
    store = Notes()
    store.error = error
    policy = Retry(stop=stop_after_attempt(1), wait=wait_none())
    service = Service("s", retry=policy, store=store)  # type: ignore[arg-type]

    @service.handler(Queue("q"))
    async def handle(transaction: FakeTransaction) -> None:
        raise AssertionError

    outcome = await dispatcher(service).dispatch(message("a"))
    if isinstance(outcome, RetryAfter):
        assert (outcome.delay, outcome.counted) == (reason, False)
    else:
        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is reason


async def test_a_run_past_its_timeout_is_a_failure_for_the_policy() -> None:
    """The handler is cancelled, the delivery says overdue, and the error says which timeout."""
    service = Service("s", retry=Retry.never())

    @service.handler(Queue("q"), timeout=0.01)
    async def handle(delivery: Delivery) -> None:
        await asyncio.Event().wait()

    delivery = message("a")
    outcome = await dispatcher(service).dispatch(delivery)
    assert isinstance(outcome, DeadLetter)
    assert isinstance(outcome.error, HandlerTimeoutError)
    assert delivery.overdue


async def test_a_timeout_error_of_the_handlers_own_stays_what_it_is() -> None:
    """Only the deadline of the registration is told as such."""
    service = Service("s", retry=Retry.never())

    @service.handler(Queue("q"), timeout=60)
    async def handle(delivery: Delivery) -> None:
        raise TimeoutError

    delivery = message("a")
    outcome = await dispatcher(service).dispatch(delivery)
    assert isinstance(outcome, DeadLetter)
    assert type(outcome.error) is TimeoutError
    assert not delivery.overdue


def test_a_transaction_needs_a_store() -> None:
    """Asking for one from a service without a store is an error at registration."""
    service = Service("s", retry=Retry.never())

    async def handle(transaction: FakeTransaction) -> None: ...

    with pytest.raises(HandlerError, match="has no store"):
        service.handler(Queue("q"))(handle)


@pytest.mark.parametrize("timeout", [0, -1, 1800, float("nan"), True, "5"])
def test_a_timeout_is_below_the_brokers_own(timeout: Any) -> None:
    """Nothing but seconds between 0 and the queue's consumer timeout is taken."""
    service = Service("s", retry=Retry.never())

    async def handle(body: bytes) -> None: ...

    with pytest.raises(HandlerError, match="less than the consumer timeout of queue 'q', 1800 s"):
        service.handler(Queue("q"), timeout=timeout)(handle)
    own = Queue("own", arguments={"x-consumer-timeout": 60_000})
    with pytest.raises(HandlerError, match="60 s"):
        service.handler(own, timeout=60)(handle)
    service.handler(own, timeout=59)(handle)


async def test_a_second_delivery_of_a_request_replies_as_the_first() -> None:
    """What the store kept is encoded as the reply again, and the handler is not run."""
    service = Service("s", retry=Retry.never(), store=Notes())  # type: ignore[arg-type]
    runs = []

    @service.handler(Queue("q"))
    async def handle(transaction: FakeTransaction) -> int:
        runs.append(transaction)
        return len(runs)

    asking = Delivery(properties=Properties(message_id="m", reply_to="me"))
    outcomes = [await dispatcher(service).dispatch(asking) for _ in range(2)]
    assert outcomes == [Ack(1, (b"1", "application/json"))] * 2
    assert len(runs) == 1


async def test_a_reply_that_cannot_be_encoded_is_not_committed() -> None:
    """It fails inside the transaction, so that the message has no effect and may run again."""
    notes = Notes()
    service = Service("s", retry=Retry.never(), store=notes)  # type: ignore[arg-type]

    @service.handler(Queue("q"))
    async def handle(transaction: FakeTransaction) -> object:
        return object()

    asking = Delivery(properties=Properties(message_id="m", reply_to="me"))
    outcome = await dispatcher(service).dispatch(asking)
    assert isinstance(outcome, DeadLetter)
    assert isinstance(outcome.error, InvalidMessageError)
    assert notes.results == {}
    assert isinstance(await dispatcher(service).dispatch(message("m")), Ack)


class Books:
    """Made from the transaction for threads."""

    def __init__(self, transaction: FakeThreadTransaction) -> None:
        self.transaction = transaction


async def awaits(transaction: FakeThreadTransaction) -> None: ...


async def awaits_books(books: Books) -> None: ...


def blocks(transaction: FakeTransaction) -> None: ...


def mixes(repository: Repository, transaction: FakeThreadTransaction) -> None: ...


@pytest.mark.parametrize(
    ("handle", "says"),
    [
        (awaits, "an `async def` handler takes a Transaction"),
        (awaits_books, "an `async def` handler takes a Transaction"),
        (blocks, "a `def` handler takes a SyncTransaction"),
        (mixes, "made from a Transaction"),
    ],
)
def test_each_kind_of_function_has_its_kind_of_transaction(
    handle: Callable[..., Any], says: str
) -> None:
    """The other one is refused at registration, and the message names the one to take."""
    service = Service("s", retry=Retry.never(), store=Notes())  # type: ignore[arg-type]
    service.provide(Books, Books)
    service.provide(Repository, Repository)
    with pytest.raises(HandlerError, match=says):
        service.handler(Queue("q"))(handle)


def test_a_def_handler_may_take_what_the_loop_made_from_a_transaction() -> None:
    """Where it takes no transaction itself, what has one may be made and used on the loop."""

    def handle(repository: Repository) -> None: ...

    service = Service("s", retry=Retry.never(), store=Notes())  # type: ignore[arg-type]
    service.provide(Repository, Repository)
    service.handler(Queue("q"))(handle)
