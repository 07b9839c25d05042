"""The services of a schedule: their handlers do what each message says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from sqlalchemy import text
from tenacity import stop_after_attempt, wait_fixed

from mqkit import Delivery, Exchange, Pause, Queue, Reject, Retry, RetryLater, Service
from mqkit.store import Store, SyncTransaction, Transaction
from tests.simulation.history import History, Run
from tests.simulation.simulated.broker import EVENTS
from tests.simulation.workload import saga
from tests.simulation.workload.messages import (
    AbortedOnPurpose,
    DependencyDownError,
    FailedOnPurposeError,
    Work,
)
from tests.simulation.workload.plan import ATTEMPTS, PARTITIONS, TIMEOUT, TWINS, WAIT, Plan

TWINS_EXCHANGE = Exchange("twins", type="fanout")

POLICY = Retry(stop=stop_after_attempt(ATTEMPTS), wait=wait_fixed(WAIT))


def service(plan: Plan, history: History, store: Store | None, number: int = 0) -> Service:
    """Make a service with the handlers of a plan."""
    made = Service(f"service-{number}", retry=POLICY, store=store)
    for feature in plan.features:
        HANDLERS[feature](made, plan, history)
    return made


def _plain(made: Service, plan: Plan, history: History) -> None:
    @made.handler(Queue("plain"), concurrency=plan.concurrency, timeout=TIMEOUT)
    async def plain(work: Work, delivery: Delivery) -> None:
        run = history.begin(work.name, delivery)
        await act(work, delivery.attempt, run, history)
        history.end(run, "done")


def _ordered(made: Service, plan: Plan, history: History) -> None:
    queue = Queue("ordered", partitions=PARTITIONS)

    @made.handler(queue, concurrency=plan.concurrency, timeout=TIMEOUT, order_by="key")
    async def ordered(work: Work, delivery: Delivery) -> None:
        run = history.begin(work.name, delivery, key=work.key)
        await act(work, delivery.attempt, run, history)
        history.end(run, "done")


def _request(made: Service, plan: Plan, history: History) -> None:
    @made.handler(Queue("request"), concurrency=plan.concurrency, timeout=TIMEOUT)
    async def request(work: Work, delivery: Delivery) -> str:
        run = history.begin(work.name, delivery)
        await act(work, delivery.attempt, run, history)
        history.end(run, "done")
        return reply_to(work.name)


INSERT = text("INSERT INTO effect (name, key, event) VALUES (:name, :key, :event)")


def _stored(made: Service, plan: Plan, history: History) -> None:
    queue = Queue("stored")

    @made.handler(queue, concurrency=plan.concurrency, timeout=TIMEOUT, share_commits=plan.shares)
    async def stored(work: Work, delivery: Delivery, transaction: Transaction) -> None:
        run = history.begin(work.name, delivery)
        with _ending(run, history):
            event = await transaction.publish("", EVENTS, work, key=str(work.key))
            row = {"name": work.name, "key": work.key, "event": event}
            await transaction.execute(INSERT, row)
            await act(work, delivery.attempt, run, history)


def _stored_thread(made: Service, plan: Plan, history: History) -> None:
    @made.handler(Queue("storedthread"), concurrency=plan.concurrency)
    def stored_thread(work: Work, delivery: Delivery, transaction: SyncTransaction) -> None:
        run = history.begin(work.name, delivery)
        with _ending(run, history):
            event = transaction.publish("", EVENTS, work, key=str(work.key))
            row = {"name": work.name, "key": work.key, "event": event}
            transaction.execute(INSERT, row)
            if (error := _result(work, run, history)) is not None:
                raise error


@contextlib.contextmanager
def _ending(run: Run, history: History) -> Iterator[None]:
    """Note how the block ends, whatever ends it."""
    try:
        yield
    except BaseException as error:
        if run.ended is None:
            history.end(run, type(error).__name__)
        raise
    if run.ended is None:
        history.end(run, "done")


def _stored_batch(made: Service, plan: Plan, history: History) -> None:
    @made.batch(Queue("storedbatch"), size=3, within=0.4)
    async def batch(
        works: list[Work], deliveries: list[Delivery], transaction: Transaction
    ) -> list[Exception | None]:
        results: list[Exception | None] = []
        for work, delivery in zip(works, deliveries, strict=True):
            run = history.begin(work.name, delivery)
            result = _result(work, run, history)
            results.append(result)
            if result is None:
                with _ending(run, history):
                    event = await transaction.publish("", EVENTS, work, key=str(work.key))
                    row = {"name": work.name, "key": work.key, "event": event}
                    await transaction.execute(INSERT, row)
        return results


def _twins(made: Service, plan: Plan, history: History) -> None:
    """Register the one of this service: within one service mqkit refuses two of one name."""
    name = TWINS[int(made.name[-1]) % len(TWINS)]

    @made.handler(Queue(name), bind=[TWINS_EXCHANGE.key()], share_commits=plan.shares)
    async def twin(work: Work, delivery: Delivery, transaction: Transaction) -> None:
        own = f"{work.name} of {name}"
        run = history.begin(own, delivery)
        with _ending(run, history):
            event = await transaction.publish("", EVENTS, work, key=str(work.key))
            await transaction.execute(INSERT, {"name": own, "key": work.key, "event": event})
            await act(work, delivery.attempt, run, history)


def _thread(made: Service, plan: Plan, history: History) -> None:
    @made.handler(Queue("thread"), concurrency=plan.concurrency)
    def thread(work: Work, delivery: Delivery) -> None:
        run = history.begin(work.name, delivery)
        if (error := _result(work, run, history)) is not None:
            raise error


def _paused(made: Service, plan: Plan, history: History) -> None:
    async def probe() -> None:
        if history.is_down:
            raise DependencyDownError

    pause = Pause(on=DependencyDownError, minimum=2, over=4, every=1.0, probe=probe)

    @made.handler(Queue("paused"), concurrency=plan.concurrency, timeout=TIMEOUT, pause=pause)
    async def paused(work: Work, delivery: Delivery) -> None:
        run = history.begin(work.name, delivery)
        if history.is_down:
            history.end(run, DependencyDownError.__name__)
            raise DependencyDownError
        await act(work, delivery.attempt, run, history)
        history.end(run, "done")


def _saga(made: Service, plan: Plan, history: History) -> None:
    saga.register(made, history)


def reply_to(name: str) -> str:
    """Return the reply that a request gets."""
    return f"reply to {name}"


def _batch(made: Service, plan: Plan, history: History) -> None:
    @made.batch(Queue("batch"), size=3, within=0.4, concurrency=min(plan.concurrency, 2))
    async def batch(works: list[Work], deliveries: list[Delivery]) -> list[Exception | None]:
        runs = [
            history.begin(work.name, delivery)
            for work, delivery in zip(works, deliveries, strict=True)
        ]
        try:
            await asyncio.sleep(max(work.duration for work in works))
        except BaseException as error:
            for run in runs:
                history.end(run, type(error).__name__)
            raise
        return [_result(work, run, history) for work, run in zip(works, runs, strict=True)]


def _result(work: Work, run: Run, history: History) -> Exception | None:
    """Do what a message of a batch says; what would be all others' failure fails it alone."""
    try:
        if work.script in ("slow", "abort"):
            _play_at_once("fail 1", run.attempt)
        else:
            _play_at_once(work.script, run.attempt)
    except Exception as error:  # noqa: BLE001 - it is the message's result
        history.end(run, type(error).__name__)
        return error
    history.end(run, "done")
    return None


HANDLERS = {
    "plain": _plain,
    "ordered": _ordered,
    "request": _request,
    "batch": _batch,
    "thread": _thread,
    "paused": _paused,
    "twins": _twins,
    "saga": _saga,
    "stored": _stored,
    "storedbatch": _stored_batch,
    "storedthread": _stored_thread,
}


async def act(work: Work, attempt: int, run: Run, history: History) -> None:
    """Do what a message says, up to its end; what it raises is in the history."""
    try:
        if work.duration:
            await asyncio.sleep(work.duration)
        await _play(work.script, attempt)
    except BaseException as error:
        history.end(run, type(error).__name__)
        raise


async def _play(script: str, attempt: int) -> None:
    _play_at_once(script, attempt)
    if attempt > 1:
        return
    if script == "slow":
        await asyncio.sleep(TIMEOUT * 2)
    if script == "abort":
        raise AbortedOnPurpose


def _play_at_once(script: str, attempt: int) -> None:
    what, _, count = script.partition(" ")
    if what == "dead" or (what == "fail" and attempt <= int(count)):
        raise FailedOnPurposeError
    if what == "reject":
        raise Reject("on purpose")
    if what == "later" and attempt == 1:
        raise RetryLater(0.7)
