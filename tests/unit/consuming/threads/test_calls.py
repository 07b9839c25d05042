"""`def` handlers with a transaction, called as a service calls them: one effect, one outcome."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from tenacity import stop_after_attempt, wait_fixed

from mqkit import Delivery, Queue, Retry, Service
from mqkit.consuming.together.batching import Batcher
from mqkit.consuming.wiring import Running, running
from mqkit.errors import HandlerTimeoutError, InvalidMessageError
from mqkit.message import Properties
from mqkit.outcome import Ack, DeadLetter, DeathReason, Outcome, RetryAfter
from mqkit.store import Store, SyncTransaction, Transaction
from tests.unit.consuming.world import settled
from tests.unit.store.support import make_work, work_of

POLICY = Retry(stop=stop_after_attempt(3), wait=wait_fixed(7))

INSERT = text("INSERT INTO work VALUES (:id)")


class Ledger:
    """Made from the transaction."""

    def __init__(self, transaction: SyncTransaction) -> None:
        self.transaction = transaction


class Session:
    """Made for one message."""


class PostedError(Exception):
    """One that no other test raises."""


def message(id_: str, reply_to: str | None = None) -> Delivery:
    """A message with that id."""
    return Delivery(
        body=b'"x"', properties=Properties(message_id=id_, reply_to=reply_to), queue="q"
    )


@asynccontextmanager
async def made(
    tmp_path: Path, register: Callable[[Service], object]
) -> AsyncIterator[tuple[Store, Running]]:
    """The only handler of a service with a store, and what runs it."""
    store = Store(f"sqlite:///{tmp_path / 'test.sqlite'}", relay=False)
    service = Service("s", retry=POLICY, store=store)
    register(service)
    (handler,) = service.handlers
    async with store:
        await make_work(store)
        with ThreadPoolExecutor(4) as executor:
            yield (
                store,
                running("s", handler, providers=service.providers, executor=executor, store=store),
            )


async def dispatched(run: Running, delivery: Delivery) -> Outcome:
    """What becomes of it."""
    async with asyncio.timeout(20):
        outcome = await run.dispatcher.dispatch(delivery)
        try:
            await run.invoker.wait_for_thread(delivery)
            return outcome
        finally:
            del outcome  # it has the error, whose traceback leads here: it would be a cycle


async def test_a_handler_gets_its_transaction_and_what_is_made_from_it(tmp_path: Path) -> None:
    """One transaction for all of its arguments; its work is done once, however often it comes."""

    def post(order: str, transaction: SyncTransaction, ledger: Ledger, delivery: Delivery) -> str:
        assert threading.current_thread() is not threading.main_thread()
        assert ledger.transaction is transaction
        transaction.execute(INSERT, {"id": delivery.message_id})
        return order

    def register(service: Service) -> None:
        service.provide(Ledger, Ledger)
        service.handler(Queue("q"))(post)

    async with made(tmp_path, register) as (store, run):
        for _ in range(2):
            outcome = await dispatched(run, message("m", reply_to="r"))
            assert isinstance(outcome, Ack)
            assert outcome.reply == (b'"x"', "application/json")
        assert await work_of(store) == ["m"]


async def test_each_run_in_a_thread_has_a_commit_of_its_own(tmp_path: Path) -> None:
    """No more messages are fetched for it than its handler says, as for one that shares commits."""

    def post(order: str, transaction: SyncTransaction) -> None: ...

    async with made(tmp_path, lambda s: s.handler(Queue("q"))(post)) as (_, run):
        assert not run.invoker.shares_commits


async def test_a_reply_that_cannot_be_sent_fails_before_the_commit(tmp_path: Path) -> None:
    """Its work would stay, and its message be tried again, otherwise."""

    def post(order: str, transaction: SyncTransaction) -> object:
        transaction.execute(INSERT, {"id": order})
        return object()

    async with made(tmp_path, lambda s: s.handler(Queue("q"))(post)) as (store, run):
        outcome = await dispatched(run, message("m", reply_to="r"))
        assert isinstance(outcome, RetryAfter)
        assert isinstance(outcome.error, InvalidMessageError)
        assert await work_of(store) == []


async def test_whatever_ends_a_handler_rolls_it_back(tmp_path: Path) -> None:
    """A StopIteration or a SystemExit as well, which Python's own machinery looks for."""
    raised: list[type[BaseException]] = [StopIteration, SystemExit, KeyboardInterrupt, LookupError]

    def post(order: str, transaction: SyncTransaction) -> None:
        transaction.execute(INSERT, {"id": order})
        raise raised.pop()

    async with made(tmp_path, lambda s: s.handler(Queue("q"))(post)) as (store, run):
        while raised:
            assert isinstance(await dispatched(run, message("m")), RetryAfter)
        assert await work_of(store) == []


async def test_a_failure_leaves_no_cycle_behind(tmp_path: Path) -> None:
    """What a failed message held is gone with it, and so is what one that succeeded held."""

    def post(order: str, transaction: SyncTransaction, delivery: Delivery) -> None:
        transaction.execute(INSERT, {"id": delivery.message_id})
        if delivery.message_id == "bad":
            raise PostedError

    async with made(tmp_path, lambda s: s.handler(Queue("q"))(post)) as (_, run):
        await dispatched(run, message("bad"))
        gc.collect()
        gc.disable()
        try:
            for number in range(20):
                await dispatched(run, message("bad"))
                await dispatched(run, message(f"good{number}"))
            left = [
                each for each in gc.get_objects() if type(each) in (PostedError, SyncTransaction)
            ]
        finally:
            gc.enable()
    assert len(left) <= 4  # the last ones, which the loop or the thread may hold for a turn


async def test_a_run_past_its_timeout_is_rolled_back_when_its_thread_ends(tmp_path: Path) -> None:
    """Its outcome is a failure, and nothing of it is ever committed."""
    goes_on, seen = threading.Event(), list[bool]()

    def post(order: str, transaction: SyncTransaction, delivery: Delivery) -> None:
        transaction.execute(INSERT, {"id": order})
        goes_on.wait(10)
        seen.append(delivery.overdue)

    async with made(tmp_path, lambda s: s.handler(Queue("q"), timeout=0.1)(post)) as (store, run):
        delivery = message("m")
        outcome = await run.dispatcher.dispatch(delivery)
        assert isinstance(outcome, RetryAfter)
        assert isinstance(outcome.error, HandlerTimeoutError)
        goes_on.set()
        await run.invoker.wait_for_thread(delivery)
        assert await work_of(store) == []
        assert seen == [True]


def slow(store: Store, what: str, seconds: float) -> threading.Event:
    """Make begins or commits in threads slow, and return what says that one has begun."""
    begun = threading.Event()

    def wait(_: Any) -> None:
        begun.set()
        threading.Event().wait(seconds)

    event.listen(store._open().database.in_threads()._engine, what, wait)
    return begun


async def test_what_the_database_does_around_a_handler_is_not_its_time(
    tmp_path: Path,
) -> None:
    """A wait for the database that is longer than the timeout is no failure of the handler."""

    def post(order: str, transaction: SyncTransaction) -> None:
        transaction.execute(INSERT, {"id": order})

    async with made(tmp_path, lambda s: s.handler(Queue("q"), timeout=0.3)(post)) as (store, run):
        for what in ("begin", "commit"):
            slow(store, what, 0.6)
        assert isinstance(await dispatched(run, message("m")), Ack)
        assert await work_of(store) == ["x"]


async def test_a_commit_that_has_begun_wins_over_a_cancel(
    tmp_path: Path,
) -> None:
    """The outcome says that the message is handled, as it is."""

    def post(order: str, transaction: SyncTransaction) -> None:
        transaction.execute(INSERT, {"id": order})

    async with made(tmp_path, lambda s: s.handler(Queue("q"))(post)) as (store, run):
        begun = slow(store, "commit", 0.5)
        task = asyncio.create_task(run.dispatcher.dispatch(message("m")))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        assert isinstance(await task, Ack)
        assert await work_of(store) == ["x"]


async def test_a_cancel_before_the_commit_rolls_it_back(tmp_path: Path) -> None:
    """The outcome says that the message is not handled, however the thread goes on."""
    began, goes_on = threading.Event(), threading.Event()

    def post(order: str, transaction: SyncTransaction) -> None:
        transaction.execute(INSERT, {"id": order})
        began.set()
        goes_on.wait(10)

    async with made(tmp_path, lambda s: s.handler(Queue("q"))(post)) as (store, run):
        delivery = message("m")
        task = asyncio.create_task(run.dispatcher.dispatch(delivery))
        await asyncio.to_thread(began.wait, 10)
        task.cancel()
        assert not isinstance(await task, Ack)
        goes_on.set()
        await run.invoker.wait_for_thread(delivery)
        assert await work_of(store) == []


async def test_a_failure_around_a_handler_after_its_commit_costs_no_second_effect(
    tmp_path: Path,
) -> None:
    """What is closed on the loop is closed after the commit; the message is then known."""
    fails = [True, False]

    def session() -> Iterator[Session]:
        yield Session()
        if fails.pop(0):
            raise LookupError

    def post(order: str, transaction: SyncTransaction, session: Session) -> None:
        transaction.execute(INSERT, {"id": order})
        transaction.publish("e", "k", b"")

    def register(service: Service) -> None:
        service.provide(Session, session)
        service.handler(Queue("q"))(post)

    async with made(tmp_path, register) as (store, run):
        assert isinstance(await dispatched(run, message("m")), RetryAfter)
        assert isinstance(await dispatched(run, message("m")), Ack)
        assert await work_of(store) == ["x"]
        assert await store.pending() == 1


async def test_a_batch_has_one_transaction_for_what_was_not_handled(tmp_path: Path) -> None:
    """Bodies and deliveries are those of the messages that are left; each has its own outcome."""
    given: list[list[str | None]] = []

    def post(
        orders: list[str], transaction: SyncTransaction, deliveries: list[Delivery]
    ) -> list[object]:
        assert len(orders) == len(deliveries)
        given.append([each.message_id for each in deliveries])
        rows = [{"id": f"{each.message_id}{len(given)}"} for each in deliveries]
        transaction.execute(INSERT, rows)
        return [LookupError() if each.message_id == "c" else "done" for each in deliveries]

    def register(service: Service) -> None:
        service.batch(Queue("q"), size=2, within=5)(post)

    async with made(tmp_path, register) as (store, run):
        batcher = Batcher(run.invoker._handler, run.decoder, run.invoker, run.judge)

        async def batch(*ids: str) -> list[type[Outcome]]:
            found = await asyncio.gather(*(settled(batcher, message(each)) for each in ids))
            return [type(each) for each in found]

        assert await batch("a", "b") == [Ack, Ack]
        assert await batch("b", "c") == [Ack, RetryAfter]
        assert given == [["a", "b"], ["c"]]
        assert await work_of(store) == ["a1", "b1", "c2"]


def post_in_thread(order: str, transaction: SyncTransaction, delivery: Delivery) -> None:
    """Do its work."""
    transaction.execute(INSERT, {"id": delivery.message_id})


async def post_on_loop(order: str, transaction: Transaction, delivery: Delivery) -> None:
    """The same on the event loop."""
    await transaction.execute(INSERT, {"id": delivery.message_id})


@pytest.mark.parametrize("post", [post_in_thread, post_on_loop])
async def test_what_expires_while_it_waits_for_a_transaction_is_not_run(
    tmp_path: Path, post: Callable[..., Any]
) -> None:
    """It is dead-lettered as any other that expires, and one that is in time is run."""
    async with made(tmp_path, lambda s: s.handler(Queue("q"))(post)) as (store, run):
        short, long = message("short"), message("long")
        now = asyncio.get_running_loop().time()
        short.expires, long.expires = now + 0.3, now + 60
        async with store.transaction():
            found = [asyncio.create_task(dispatched(run, each)) for each in (short, long)]
            await asyncio.sleep(0.35)
        dead, done = await asyncio.gather(*found)
        assert isinstance(dead, DeadLetter)
        assert dead.reason is DeathReason.EXPIRED
        assert done == Ack(None)
        assert await work_of(store) == ["long"]


async def test_what_expires_while_its_batch_waits_for_a_thread_is_not_run(tmp_path: Path) -> None:
    """The others of the batch are."""

    def post(orders: list[str], transaction: SyncTransaction, deliveries: list[Delivery]) -> None:
        for each in deliveries:
            transaction.execute(INSERT, {"id": each.message_id})

    def register(service: Service) -> None:
        service.batch(Queue("q"), size=2, within=5)(post)

    async with made(tmp_path, register) as (store, run):
        batcher = Batcher(run.invoker._handler, run.decoder, run.invoker, run.judge)
        short = message("short")
        short.expires = asyncio.get_running_loop().time() + 0.3
        async with store.transaction():
            found = [
                asyncio.create_task(settled(batcher, each)) for each in (short, message("other"))
            ]
            await asyncio.sleep(0.35)
        dead, done = await asyncio.gather(*found)
        assert isinstance(dead, DeadLetter)
        assert dead.reason is DeathReason.EXPIRED
        assert done == Ack(None)
        assert await work_of(store) == ["other"]
