"""From a delivery to its outcome."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BeforeValidator
from tenacity import RetryCallState, stop_after_attempt, stop_after_delay, wait_fixed

from mqkit import Delivery, Queue, Reject, Retry, RetryLater, Service
from mqkit.codec import SLOW_BODY
from mqkit.consuming.dispatcher import Dispatcher
from mqkit.consuming.wiring import running
from mqkit.errors import HandlerAbortedError, InvalidMessageError
from mqkit.message import HeaderValue, Properties
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue, RetryAfter

POLICY = Retry(stop=stop_after_attempt(3), wait=wait_fixed(7))


class Session:
    """Made for one message."""


def dispatcher(service: Service, executor: ThreadPoolExecutor | None = None) -> Dispatcher:
    """For the only handler of the service."""
    (handler,) = service.handlers
    return running(
        service.name,
        handler,
        middleware=service.middleware,
        values={},
        providers=service.providers,
        executor=executor,
    ).dispatcher


async def outcome_of(function: Any, body: bytes = b"{}", **delivery: Any) -> Outcome:
    """What becomes of a message whose handler is `function`."""
    service = Service("s", retry=POLICY)
    service.handler(Queue("q"))(function)
    return await dispatcher(service).dispatch(Delivery(body=body, **delivery))


async def test_a_handler_that_returns_is_acked() -> None:
    """Its message is done, and what it returned is the result."""

    async def handle(body: dict[str, int]) -> int:
        return body["n"]

    assert await outcome_of(handle, b'{"n":1}') == Ack(1)


async def test_a_result_is_encoded_where_a_reply_is_asked_for() -> None:
    """So that settling has nothing left to fail at; else what is returned is nobody's business."""

    async def handle(body: dict[str, Any]) -> Any:
        return object() if body.get("odd") else Decimal("1.50")

    asks = Properties(reply_to="me")
    assert await outcome_of(handle, properties=asks) == Ack(
        Decimal("1.50"), (b'"1.50"', "application/json")
    )
    assert await outcome_of(handle) == Ack(Decimal("1.50"))
    assert isinstance(await outcome_of(handle, b'{"odd":1}'), Ack)


@pytest.mark.parametrize(("attempt", "wanted"), [(1, RetryAfter), (3, DeadLetter)])
async def test_a_reply_that_cannot_be_encoded_is_a_failure(
    attempt: int, wanted: type[Outcome]
) -> None:
    """The policy decides on it, as on what a handler raises."""

    async def handle(body: dict[str, Any]) -> object:
        return object()

    outcome = await outcome_of(handle, properties=Properties(reply_to="me"), attempt=attempt)
    assert isinstance(outcome, wanted)
    assert isinstance(outcome, RetryAfter | DeadLetter)
    assert isinstance(outcome.error, InvalidMessageError)


async def test_an_undecodable_body_never_reaches_the_handler() -> None:
    """It is dead-lettered as undecodable, and the handler is not run."""
    runs = []

    async def handle(body: dict[str, int]) -> None:
        runs.append(body)

    outcome = await outcome_of(handle, b'{"n":"x"}')
    assert isinstance(outcome, DeadLetter)
    assert outcome.reason is DeathReason.UNDECODABLE
    assert runs == []


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, GeneratorExit])
async def test_a_validator_that_raises_what_a_loop_raises_has_failed(
    error: type[BaseException],
) -> None:
    """A decode awaits nothing: a cancellation in it is no end of the run, nor is an interrupt."""

    def validate(_: Any) -> Any:
        raise error

    async def handle(body: Any) -> None:
        raise AssertionError("it is not run")

    handle.__annotations__["body"] = Annotated[int, BeforeValidator(validate)]
    outcome = await outcome_of(handle)
    assert isinstance(outcome, DeadLetter)
    assert outcome.reason is DeathReason.UNDECODABLE


@pytest.mark.parametrize(
    ("error", "attempt", "wanted"),
    [
        (ValueError(), 1, RetryAfter),
        (ValueError(), 3, DeadLetter),
        (Reject("no"), 1, DeadLetter),
        (RetryLater(1), 1, RetryAfter),
        (SystemExit(3), 1, RetryAfter),
        (asyncio.CancelledError(), 1, RetryAfter),
    ],
)
async def test_what_a_handler_raises_is_judged_by_its_policy(
    error: BaseException, attempt: int, wanted: type[Outcome]
) -> None:
    """Any exception is an outcome, sys.exit and a cancellation of its own included."""

    async def handle(body: bytes) -> None:
        raise error

    outcome = await outcome_of(handle, attempt=attempt)
    assert isinstance(outcome, wanted)
    if isinstance(error, SystemExit | asyncio.CancelledError):
        assert isinstance(outcome, RetryAfter)
        assert isinstance(outcome.error, HandlerAbortedError)
        assert outcome.error.__cause__ is error


@pytest.mark.parametrize("given_back", [True, False])
async def test_a_cancelled_run_is_no_failure_where_its_message_was_given_back(
    given_back: bool,
) -> None:
    """The service gives back first, and then cancels; any other cancel is the handler's failure."""
    began = asyncio.Event()

    async def handle(body: bytes, delivery: Delivery) -> None:
        delivery.settled = given_back
        began.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(outcome_of(handle))
    await began.wait()
    task.cancel()
    outcome = await task
    if given_back:
        assert outcome == Requeue()
    else:
        assert isinstance(outcome, RetryAfter)
        assert isinstance(outcome.error, HandlerAbortedError)
    assert not task.cancelling()


async def test_a_large_body_is_decoded_beside_the_loop() -> None:
    """While a validator in Python runs, the loop goes on."""
    go_on = threading.Event()

    def wait(value: str) -> str:
        assert go_on.wait(10), "the loop waits for the validator"
        return value

    async def handle(body: Any) -> int:
        return len(body)

    handle.__annotations__["body"] = Annotated[str, AfterValidator(wait)]
    asyncio.get_running_loop().call_soon(go_on.set)
    assert await outcome_of(handle, b'"' + b"x" * SLOW_BODY + b'"') == Ack(SLOW_BODY)


async def test_a_lost_channel_overrides_the_outcome() -> None:
    """Where the channel closed during the run, nothing may be sent any more."""

    class Channel:
        is_open = True

        def ack(self, tag: int, multiple: bool = False) -> None: ...

        def nack(self, tag: int, *, requeue: bool, multiple: bool = False) -> None: ...

        def reject(self, tag: int, *, requeue: bool) -> None: ...

    channel = Channel()

    async def handle(delivery: Delivery) -> None:
        assert not delivery.lost
        channel.is_open = False
        assert delivery.lost

    assert await outcome_of(handle, channel=channel) == Lost()


async def test_the_first_failure_is_carried_by_the_message() -> None:
    """stop_after_delay counts the seconds that earlier attempts wrote, whatever the clock says."""
    service = Service("s", retry=Retry(stop=stop_after_delay(60), wait=wait_fixed(1)))

    @service.handler(Queue("q"))
    async def handle(body: bytes) -> None:
        raise ValueError

    (handler,) = service.handlers
    run = running(
        "s",
        handler,
        middleware=(),
        values={},
        providers={},
        executor=None,
    ).dispatcher
    for seconds, wanted in ((58, RetryAfter), (61, DeadLetter), (-3600, RetryAfter)):
        for year in (1970, 2026, 2100):
            headers: dict[str, HeaderValue] = {
                "mqkit-first-failure": f"{year}-01-01T00:00:00+00:00",
                "mqkit-elapsed": seconds * 1000,
            }
            outcome = await run.dispatch(Delivery(properties=Properties(headers=headers)))
            assert isinstance(outcome, wanted)
            if isinstance(outcome, RetryAfter):
                assert outcome.elapsed == max(seconds, 0) + 1


async def test_a_policy_that_fails_dead_letters() -> None:
    """An exception out of a strategy loses nothing: the message is dead, and says so."""

    def broken(state: RetryCallState) -> float:
        raise ZeroDivisionError

    service = Service("s", retry=Retry(stop=stop_after_attempt(3), wait=broken))

    @service.handler(Queue("q"))
    async def handle(body: bytes) -> None:
        raise ValueError

    outcome = await dispatcher(service).dispatch(Delivery())
    assert isinstance(outcome, DeadLetter)
    assert outcome.reason is DeathReason.POLICY_FAILED
    assert isinstance(outcome.error, ZeroDivisionError)


async def test_a_def_handler_sees_the_callers_context() -> None:
    """It runs in a thread with a copy of the context variables."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []
    service = Service("s", retry=POLICY)

    @service.handler(Queue("q"))
    def handle(body: bytes) -> None:
        seen.append(variable.get())

    variable.set("set outside")
    with ThreadPoolExecutor(1) as pool:
        assert await dispatcher(service, pool).dispatch(Delivery()) == Ack()
    assert seen == ["set outside"]


async def test_a_message_scoped_value_is_shared_closed_and_may_fail() -> None:
    """One value for a message; it sees the handler's exception; its own at the end is a failure."""
    events: list[str] = []

    async def session() -> AsyncIterator[Session]:
        events.append("open")
        try:
            yield Session()
        except KeyError:
            events.append("rollback")
            raise
        events.append("commit")
        raise OSError("the commit failed")

    def label(session: Session) -> Iterator[str]:
        yield f"{id(session)}"
        events.append("label closed")

    service = Service("s", retry=POLICY)
    service.provide(Session, session)
    service.provide(str, label)

    @service.handler(Queue("q"))
    async def handle(body: bytes, session: Session, label: str, delivery: Delivery) -> None:
        assert label == f"{id(session)}"
        if delivery.attempt == 2:
            raise KeyError

    run = dispatcher(service)
    first = await run.dispatch(Delivery(attempt=1))
    assert isinstance(first, RetryAfter)
    assert isinstance(first.error, OSError)
    assert events == ["open", "label closed", "commit"]
    events.clear()
    second = await run.dispatch(Delivery(attempt=2))
    assert isinstance(second, RetryAfter)
    assert isinstance(second.error, KeyError)
    assert "rollback" in events


@pytest.mark.parametrize("raised", [ValueError("no"), RetryLater(5), Reject("never")])
async def test_a_failed_run_is_no_work_for_the_garbage_collector(raised: Exception) -> None:
    """What a failed message held is free as soon as its outcome is, without a cycle to be found."""

    async def handle(body: dict[str, int]) -> None:
        raise type(raised)(*raised.args) if raised.args else RetryLater(5)

    service = Service("s", retry=POLICY)
    service.handler(Queue("q"))(handle)
    dispatching = dispatcher(service)
    await dispatching.dispatch(Delivery(body=b"{}"))
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await dispatching.dispatch(Delivery(body=b"{}"))
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("fails", [False, True])
async def test_a_delivery_says_when_it_ran_where_somebody_asks(*, fails: bool) -> None:
    """Whether its handler returned or raised; a body that is none has no run"""

    async def handle(body: dict[str, int]) -> None:
        await asyncio.sleep(0.01)
        if fails:
            raise ValueError

    service = Service("s", retry=POLICY)
    service.handler(Queue("q"))(handle)
    (of,) = service.handlers
    timed = running("s", of, times_runs=True).dispatcher
    delivery, undecodable, unasked = Delivery(b"{}"), Delivery(b"x"), Delivery(b"{}")
    await timed.dispatch(delivery)
    await timed.dispatch(undecodable)
    await dispatcher(service).dispatch(unasked)
    assert delivery.ran is not None
    began, ended = delivery.ran
    assert ended is not None
    assert 0.01 <= ended - began < 1
    assert (undecodable.ran, unasked.ran) == (None, None)
