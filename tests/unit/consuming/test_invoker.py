"""Whatever is raised around a handler comes out as a failure that its policy can judge."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tenacity import RetryCallState, retry_if_exception_type, stop_after_attempt, wait_fixed

from mqkit import Delivery, Queue, Reject, Retry, RetryLater, Service
from mqkit.consuming.wiring import running
from mqkit.errors import HandlerAbortedError, HandlerResultError
from mqkit.message import Properties
from mqkit.middleware import CallNext, HandlerCall
from mqkit.outcome import Ack, DeadLetter, DeathReason, Outcome, RetryAfter

POLICY = Retry(stop=stop_after_attempt(3), wait=wait_fixed(7))


class Gone(BaseException):
    """What some libraries derive from BaseException, so that nobody catches it."""


class Ended(StopIteration):
    """One of an application's own."""


class Posted(Exception):  # noqa: N818
    """One that no other test raises."""


class Session:
    """Made for one message."""


async def outcome_of(
    service: Service, body: bytes = b"{}", properties: Properties | None = None
) -> Outcome:
    """What becomes of a message for the only handler of the service."""
    (handler,) = service.handlers
    with ThreadPoolExecutor(1) as executor:
        dispatcher = running(
            service.name,
            handler,
            middleware=service.middleware,
            values={},
            providers=service.providers,
            executor=executor,
        ).dispatcher
        delivery = Delivery(body=body, properties=properties or Properties())
        async with asyncio.timeout(10):
            return await dispatcher.dispatch(delivery)


async def fine(body: dict[str, int]) -> None:
    """Handle it."""


async def with_session(body: dict[str, int], session: Session) -> None:
    """Handle it with what a provider made."""


def raising(error: Callable[[], BaseException], kind: str, policy: Retry = POLICY) -> Service:
    """A service where this is raised by the handler, or by something around it."""
    service = Service("s", retry=policy)

    def fail(*_: Any) -> Any:
        raise error()

    if kind in ("opening", "closing", "closing later"):
        service.provide(Session, _provider(kind, fail))
        service.handler(Queue("q"))(with_session)
    elif kind in ("before", "after"):

        async def around(call: HandlerCall, call_next: CallNext) -> Any:
            if kind == "after":
                await call_next(call)
            fail()

        service.handler(Queue("q"), middleware=[around])(fine)
    else:
        service.handler(Queue("q"))(_handler(kind, fail))
    return service


def _provider(kind: str, fail: Callable[[], Any]) -> Callable[[], Any]:
    def opening() -> Session:
        fail()
        return Session()

    def closing() -> Iterator[Session]:
        yield Session()
        fail()

    async def closing_later() -> AsyncIterator[Session]:
        yield Session()
        fail()

    kinds: dict[str, Callable[[], Any]]
    kinds = {"opening": opening, "closing": closing, "closing later": closing_later}
    return kinds[kind]


def _handler(kind: str, fail: Callable[[], Any]) -> Callable[..., Any]:
    async def on_loop(body: dict[str, int]) -> None:
        fail()

    def in_thread(body: dict[str, int]) -> None:
        fail()

    async def in_group(body: dict[str, int]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(on_loop(body))

    return {"async": on_loop, "def": in_thread, "group": in_group}[kind]


PLACES = ("async", "def", "before", "after", "opening", "closing", "closing later")
ABORTING = (Gone, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", [*ABORTING, lambda: BaseExceptionGroup("g", [Gone()])])
async def test_what_is_no_exception_is_an_aborted_handler(
    place: str, kind: Callable[[], BaseException]
) -> None:
    """Wherever it is raised, the policy judges it as a failure, with the original as its cause."""
    outcome = await outcome_of(raising(kind, place))
    assert isinstance(outcome, RetryAfter)
    assert isinstance(outcome.error, HandlerAbortedError)
    assert isinstance(outcome.error.__cause__, type(kind()))


async def test_a_task_group_that_was_aborted_is_too() -> None:
    """Its error is a group that is no Exception."""
    outcome = await outcome_of(raising(Gone, "group"))
    assert isinstance(outcome, RetryAfter)
    assert isinstance(outcome.error, HandlerAbortedError)


@pytest.mark.parametrize("place", ["async", "def", "before", "after", "opening"])
@pytest.mark.parametrize("kind", [StopIteration, Ended, StopAsyncIteration])
async def test_the_end_of_an_iterator_is_a_failure_like_others(
    place: str, kind: type[Exception]
) -> None:
    """Neither taken for a result, nor left with a future that refuses it."""
    outcome = await outcome_of(raising(kind, place))
    assert isinstance(outcome, RetryAfter)
    assert isinstance(outcome.error, RuntimeError | StopAsyncIteration)


@pytest.mark.parametrize("place", ["async", "def", "group", "after"])
def test_an_instruction_within_a_group_counts(place: str) -> None:
    """One Reject is enough; of several RetryLater the longest wait is taken."""

    def rejected() -> BaseException:
        deeper = ExceptionGroup("inner", [RetryLater(5), Reject("no such account")])
        return ExceptionGroup("outer", [ValueError(), deeper])

    def later() -> BaseException:
        return BaseExceptionGroup("g", [Gone(), RetryLater(5), RetryLater(60), RetryLater(6)])

    outcome = asyncio.run(outcome_of(raising(rejected, place)))
    assert isinstance(outcome, DeadLetter)
    assert outcome.reason is DeathReason.REJECTED
    assert str(outcome.error) == "no such account"
    outcome = asyncio.run(outcome_of(raising(later, place)))
    assert isinstance(outcome, RetryAfter)
    assert outcome.delay == 60


@pytest.mark.parametrize("kind", [ValueError, *ABORTING])
async def test_a_policy_that_raises_dead_letters(kind: type[BaseException]) -> None:
    """Whichever of its strategies does, and whatever it raises, the handler's own error too."""

    def fail(_: RetryCallState) -> Any:
        raise kind

    def again(state: RetryCallState) -> Any:
        return state.outcome and state.outcome.result()

    stop, wait = stop_after_attempt(3), wait_fixed(1)
    for policy in (
        Retry(stop=fail, wait=wait),
        Retry(stop=stop, wait=fail),
        Retry(stop=stop, wait=wait, retry=fail),
        Retry(stop=stop, wait=wait, retry=again),
    ):
        outcome = await outcome_of(raising(ValueError, "async", policy))
        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is DeathReason.POLICY_FAILED


@pytest.mark.parametrize("place", ["async", "def", "middleware", "batch of one"])
@pytest.mark.parametrize("what", ["coroutine", "future", "generator", "async generator"])
async def test_a_result_that_has_yet_to_run_is_a_failure(place: str, what: str) -> None:
    """What nobody awaits or iterates over was not done, and must not be acked."""
    ran: list[str] = []

    async def body() -> None:
        ran.append("coroutine")

    def generator() -> Iterator[None]:
        ran.append("generator")
        yield

    async def asynchronous() -> AsyncIterator[None]:
        ran.append("async generator")
        yield

    async def on_loop(body_: dict[str, int]) -> Any:
        return made()

    def in_thread(body_: dict[str, int]) -> Any:
        return made()

    async def nothing(body_: dict[str, int]) -> None:
        pass

    async def forgetful(call: HandlerCall, call_next: CallNext) -> Any:
        return made()

    loop = asyncio.get_running_loop()
    kinds: dict[str, Callable[[], Any]] = {
        "coroutine": body,
        "future": loop.create_future,
        "generator": generator,
        "async generator": asynchronous,
    }
    made = kinds[what]
    service = Service("s", retry=POLICY)
    if place == "middleware":
        service.handler(Queue("q"), middleware=[forgetful])(nothing)
    else:
        service.handler(Queue("q"))(in_thread if place == "def" else on_loop)
    outcome = await outcome_of(service)
    assert isinstance(outcome, RetryAfter)
    assert isinstance(outcome.error, HandlerResultError)
    assert not ran


@pytest.mark.parametrize(
    "returned",
    [Reject("no"), Reject, RetryLater(1), RetryLater, LookupError(), LookupError, SystemExit()],
)
@pytest.mark.parametrize("place", ["async def", "def", "middleware"])
async def test_an_exception_that_is_returned_is_a_failure(place: str, returned: Any) -> None:
    """A message that its handler meant to reject is not acked for it."""

    async def on_loop(body: dict[str, int]) -> Any:
        return returned

    def in_thread(body: dict[str, int]) -> Any:
        return returned

    async def nothing(body: dict[str, int]) -> None:
        """Handle nothing."""

    async def returning(call: HandlerCall, call_next: CallNext) -> Any:
        await call_next(call)
        return returned

    service = Service("s", retry=POLICY)
    if place == "middleware":
        service.handler(Queue("q"), middleware=[returning])(nothing)
    else:
        service.handler(Queue("q"))(in_thread if place == "def" else on_loop)
    outcome = await outcome_of(service)
    assert isinstance(outcome, RetryAfter)
    assert isinstance(outcome.error, HandlerResultError)
    assert "which nobody raised" in str(outcome.error)


async def test_a_provider_that_swallows_the_failure_does_not_undo_it() -> None:
    """A rollback that raises no more would else have the message acked with nothing done."""

    def session() -> Iterator[Session]:
        with contextlib.suppress(ValueError):
            yield Session()

    service = Service("s", retry=POLICY)
    service.provide(Session, session)

    @service.handler(Queue("q"))
    async def handle(body: dict[str, int], session: Session) -> None:
        raise ValueError("not posted")

    outcome = await outcome_of(service)
    assert isinstance(outcome, RetryAfter)
    assert str(outcome.error) == "not posted"
    assert isinstance(await outcome_of(_with_good_session()), Ack)


def _with_good_session() -> Service:
    service = Service("s", retry=POLICY)
    service.provide(Session, Session)

    @service.handler(Queue("q"))
    async def handle(body: dict[str, int], session: Session) -> None:
        pass

    return service


@pytest.mark.parametrize("place", ["async", "def"])
async def test_a_failure_leaves_no_cycle_behind(place: str) -> None:
    """What a failed message held is gone with it, and does not wait for the garbage collector."""
    service = raising(Posted, place)
    await outcome_of(service)
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await outcome_of(service)
        found = [each for each in gc.get_objects() if isinstance(each, Posted)]
    finally:
        gc.enable()
    assert len(found) <= 1  # the last one, which the loop may hold for a turn


async def test_a_policy_may_be_for_aborted_handlers_alone() -> None:
    """Their error has a name of its own to be told apart by."""
    policy = Retry(
        stop=stop_after_attempt(3),
        wait=wait_fixed(1),
        retry=retry_if_exception_type(HandlerAbortedError),
    )
    assert isinstance(await outcome_of(raising(SystemExit, "async", policy)), RetryAfter)
    assert isinstance(await outcome_of(raising(ValueError, "async", policy)), DeadLetter)


def cyclic() -> BaseException:
    """An error whose chain of contexts has no end."""
    first, second = ValueError("first"), KeyError("second")
    first.__context__, second.__context__ = second, second
    return first


async def _failing_to_close() -> AsyncIterator[Session]:
    yield Session()
    raise cyclic()


def _failing_to_close_plainly() -> Iterator[Session]:
    yield Session()
    raise cyclic()


@pytest.mark.timeout(10)
@pytest.mark.parametrize("provider", [_failing_to_close, _failing_to_close_plainly])
async def test_an_error_whose_contexts_are_a_cycle_ends_a_run(provider: Any) -> None:
    """A provider that raises one as it closes has failed, and the event loop goes on."""
    service = Service("s", retry=POLICY)
    service.provide(Session, provider)
    service.handler(Queue("q"))(with_session)
    outcome = await outcome_of(service)
    assert isinstance(outcome, RetryAfter)
    assert isinstance(outcome.error, ValueError)
