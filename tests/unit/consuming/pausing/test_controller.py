"""The pauses of one handler carried out: on an intake of nothing but notes, with probes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from mqkit import Delivery, Pause, Queue, Retry, Service
from mqkit.consuming.pausing import controller as pausing_module
from mqkit.consuming.pausing.controller import PauseController, pauses_of
from mqkit.errors import StoreError, StoreUnavailableError
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, RetryAfter
from mqkit.pause import Status
from tests.support import eventually

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class GatewayDownError(Exception):
    """What a dependency raises."""


DOWN = RetryAfter(0, GatewayDownError("card 4000-1234"))


class Intake:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.resumed = asyncio.Event()

    def pause(self) -> None:
        """Note it."""
        self.told.append("pause")
        self.resumed.clear()

    async def requeue_waiting(self) -> None:
        """Note it."""
        self.told.append("requeue waiting")

    def resume(self, prefetch: int) -> None:
        """Note how many."""
        self.told.append(f"resume {prefetch}")
        self.resumed.set()


class Case:
    """The pauses of a handler whose runs end as a test says."""

    def __init__(self, *pauses: Pause) -> None:
        service = Service("s", retry=Retry.never())

        async def handle(body: bytes) -> None: ...

        service.handler(Queue("q"), prefetch=50)(handle)
        self.outcome: Outcome = DOWN
        self._next: asyncio.Future[Outcome] | None = None
        self.intake = Intake()
        self.pausing = PauseController(
            service.handlers[0], pauses, self._dispatch, clock=lambda: NOW
        )
        self.pausing.attach(self.intake)

    async def _dispatch(self, delivery: Delivery) -> Outcome:
        if self._next is None:
            return self.outcome
        end, self._next = self._next, None
        return await end

    async def run(self, *outcomes: Outcome) -> list[Outcome]:
        """What becomes of deliveries whose runs end so."""
        found = []
        for self.outcome in outcomes:
            found.append(await self.pausing.dispatch(Delivery()))
        return found

    async def begin(self) -> asyncio.Future[Outcome]:
        """Begin a run that ends as is said later; what becomes of its message is `held`."""
        end: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._next = end
        self.held = asyncio.create_task(self.pausing.dispatch(Delivery()))
        await eventually(lambda: self._next is None)
        return end

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While pauses are ended."""
        task = asyncio.create_task(self.pausing.run())
        yield
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()

    async def resumes(self) -> None:
        """Wait until it is not paused any more."""
        await eventually(lambda: self.pausing.state is None)


def pause(probe: Callable[[], Any] | None = None, **options: Any) -> Pause:
    """One that begins with the first failure."""
    return Pause(
        **{
            "on": GatewayDownError,
            "over": 1,
            "minimum": 1,
            "every": 0.01,
            "probe": probe,
            **options,
        }
    )


class Dependency:
    """Down until it is said to be up; its probes count."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error or GatewayDownError("down")
        self.up = False
        self.asked = 0

    def ask(self) -> None:
        """Raise if it is down."""
        self.asked += 1
        if not self.up:
            raise self.error

    async def ask_soon(self) -> None:
        """As `ask`."""
        await asyncio.sleep(0)
        self.ask()

    def ask_later(self) -> Awaitable[None]:
        """A plain function that gives something to await."""
        return self.ask_soon()


@pytest.mark.parametrize("how", ["ask", "ask_soon", "ask_later"])
async def test_it_is_probed_until_it_is_back(how: str) -> None:
    """A probe may be a plain function or an async one; then the full prefetch is let in again."""
    dependency = Dependency()
    case = Case(pause(getattr(dependency, how)))
    async with case.running():
        await case.run(DOWN)
        await eventually(lambda: dependency.asked >= 3)
        assert case.intake.told == ["pause", "requeue waiting"]
        dependency.up = True
        await case.resumes()
    assert case.intake.told == ["pause", "requeue waiting", "resume 50"]


async def test_the_state_says_since_when_why_and_what_is_next() -> None:
    """Without the words of the error, which may quote a message."""
    case = Case(pause(Dependency().ask, every=60))
    async with case.running():
        await case.run(DOWN)
        await eventually(lambda: bool((state := case.pausing.state) and state.next_probe))
        state = case.pausing.state
    assert state is not None
    assert (state.status, state.since) == (Status.PAUSED, NOW)
    assert state.next_probe is not None
    assert 54 <= (state.next_probe - NOW).total_seconds() <= 66
    assert state.because.startswith("1 of the last 1 runs ended with")
    assert "GatewayDownError" in state.because
    assert "4000" not in state.because


async def test_pausing_and_resuming_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A warning with the reason, and how long it took."""
    caplog.set_level(logging.INFO, "mqkit.outages")
    dependency = Dependency()
    dependency.up = True
    case = Case(pause(dependency.ask_soon))
    async with case.running():
        await case.run(DOWN)
        await case.resumes()
    (first, last) = caplog.records
    assert first.levelno == logging.WARNING
    words = first.getMessage().split(": ", 2)
    assert words[1].startswith("paused since ")
    assert words[2].startswith("1 of the last 1 runs ended with")
    assert last.levelno == logging.INFO
    assert "q: consuming again, after 0.0 s (since" in last.getMessage()


async def test_a_probe_that_fails_is_logged_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """The pause itself is a warning, and what goes on for less than a minute is at DEBUG."""
    caplog.set_level(logging.DEBUG, "mqkit.outages")
    dependency = Dependency()
    case = Case(pause(dependency.ask_soon))
    async with case.running():
        await case.run(DOWN)
        await eventually(lambda: dependency.asked >= 4)
    levels = [
        record.levelno for record in caplog.records if "q: paused since" in record.getMessage()
    ]
    assert levels[:3] == [logging.WARNING, logging.DEBUG, logging.DEBUG]


async def test_a_probe_that_fails_otherwise_is_still_down_and_told_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A mistake in a probe neither ends the pause nor goes unseen."""
    dependency = Dependency(ZeroDivisionError("mistake"))
    case = Case(pause(dependency.ask_soon))
    async with case.running():
        await case.run(DOWN)
        await eventually(lambda: dependency.asked >= 3)
        assert case.pausing.state is not None
        dependency.up = True
        await case.resumes()
    (record,) = (each for each in caplog.records if each.levelno == logging.ERROR)
    assert record.exc_text is not None
    assert record.exc_text.endswith("ZeroDivisionError: mistake")


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_probe_that_hangs_is_down_and_not_called_a_second_time_beside_itself(
    is_async: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After its time it counts as failed; in a thread, the next call waits for its end."""
    monkeypatch.setattr(pausing_module, "PROBE_TIMEOUT", 0.02)
    caplog.set_level(logging.DEBUG, "mqkit.outages")
    release, calls, at_once = threading.Event(), 0, 0

    async def hang() -> None:
        nonlocal calls
        calls += 1
        if not release.is_set():
            await asyncio.Event().wait()

    def hang_in_a_thread() -> None:
        nonlocal calls, at_once
        calls, at_once = calls + 1, at_once + 1
        assert at_once == 1
        release.wait(10)
        at_once -= 1

    case = Case(pause(hang if is_async else hang_in_a_thread))
    async with case.running():
        await case.run(DOWN)
        await eventually(lambda: caplog.text.count("the probe: ProbeTimeoutError") >= 4)
        assert case.pausing.state is not None
        assert (calls > 1) == is_async
        release.set()
        await case.resumes()


@pytest.mark.parametrize("is_async", [True, False])
async def test_it_ends_at_once_while_a_probe_hangs(is_async: bool) -> None:
    """A stop waits for no probe, and its thread keeps no process from ending."""
    release, began = threading.Event(), threading.Event()

    async def hang() -> None:
        began.set()
        await asyncio.Event().wait()

    def hang_in_a_thread() -> None:
        began.set()
        release.wait(10)

    case = Case(pause(hang if is_async else hang_in_a_thread))
    clock = asyncio.get_running_loop().time
    async with case.running():
        await case.run(DOWN)
        await eventually(began.is_set)
        stopped = clock()
    assert clock() - stopped < 1
    if not is_async:
        (thread,) = (each for each in threading.enumerate() if each.name == "mqkit probe")
        assert thread.daemon
        release.set()
        await asyncio.to_thread(thread.join)


async def test_without_a_probe_one_message_is_tried_at_a_time() -> None:
    """One that fails pauses on, what was not run is followed by the next, one that ends resumes."""
    case = Case(pause())
    async with case.running():
        await case.run(DOWN)
        await case.intake.resumed.wait()
        assert case.intake.told == ["pause", "requeue waiting", "resume 1"]
        (outcome,) = await case.run(DOWN)
        assert isinstance(outcome, RetryAfter)
        assert not outcome.counted
        assert case.intake.told[3:] == ["pause"]
        await case.intake.resumed.wait()
        assert case.intake.told[3:] == ["pause", "requeue waiting", "resume 1"]
        await case.run(Lost(), DeadLetter(DeathReason.UNDECODABLE, ValueError()))
        assert case.pausing._trial is not None
        assert not case.pausing._trial.done()
        await case.run(RetryAfter(1, ValueError("the message's own")))
        await case.resumes()
    assert case.intake.told[6:] == ["resume 50"]


async def test_a_run_from_before_the_pause_is_no_trial() -> None:
    """What began before ends while a message is waited for, and says nothing of now."""
    case = Case(pause())
    async with case.running():
        old = await case.begin()
        await case.run(DOWN)
        await case.intake.resumed.wait()
        old.set_result(Ack())
        assert await case.held == Ack()
        assert case.pausing.state is not None
        assert case.intake.told[-1] == "resume 1"
        await case.run(Ack())
        await case.resumes()


async def test_what_can_be_probed_is_waited_for_before_a_message_is_tried() -> None:
    """Of two pauses both must end; a trial that the second one cuts off hangs nobody."""
    store = Dependency(StoreUnavailableError("away"))
    away = RetryAfter(1, StoreUnavailableError("away"), counted=False)
    case = Case(pause(), pause(store.ask_soon, on=StoreUnavailableError))
    async with case.running():
        old = await case.begin()
        await case.run(DOWN)
        await case.intake.resumed.wait()
        old.set_result(away)
        await eventually(lambda: store.asked >= 3)
        assert "resume" not in case.intake.told[-1]
        state = case.pausing.state
        assert state is not None
        assert "GatewayDown" in state.because
        assert "StoreUnavailable" in state.because
        store.up = True
        await case.intake.resumed.wait()
        assert case.intake.told[-1] == "resume 1"
        await case.run(Ack())
        await case.resumes()
    assert case.intake.told[-1] == "resume 50"


class Transaction:
    """A store's, asked for by annotation."""

    __mqkit_transaction__ = True
    __mqkit_runtime_provided__ = True


class Store:
    """What of a store a pause needs, and a service."""

    async def ping(self) -> None: ...

    async def run_once(self, *_: Any, at_once: int | None = None) -> None: ...

    def under_way(self, handler: str) -> int:
        """Be a store's."""
        return 0


@pytest.mark.parametrize(
    ("own", "kinds"),
    [
        (None, [(StoreUnavailableError,)]),
        (Pause(on=GatewayDownError), [(GatewayDownError,), (StoreUnavailableError,)]),
        (Pause(on=(OSError, StoreError)), [(OSError, StoreError)]),
    ],
)
def test_a_handler_with_a_transaction_pauses_for_its_store(
    own: Pause | None, kinds: list[tuple[type[Exception], ...]]
) -> None:
    """With the store's ping, beside a pause of its own, unless that one is for the store too."""
    store = Store()
    service = Service("s", retry=Retry.never(), store=store)  # type: ignore[arg-type]

    async def post(transaction: Transaction) -> None: ...

    async def look(body: bytes) -> None: ...

    service.handler(Queue("a"), pause=own)(post)
    service.handler(Queue("b"))(look)
    posting, looking = (pauses_of(handler, service) for handler in service.handlers)
    assert [each.kinds for each in posting] == kinds
    assert looking == ()
    if own is None or len(kinds) > 1:
        added = posting[-1]
        assert (added.probe, added.rate, added.over, added.minimum, added.every) == (
            store.ping,
            0.5,
            10,
            3,
            1.0,
        )


DEAD = DeadLetter(DeathReason.ATTEMPTS_EXHAUSTED, GatewayDownError("down"))


async def test_no_message_is_dead_lettered_before_the_probe_was_asked() -> None:
    """If the dependency is down, the pause begins with the first of them, which is not to blame."""
    dependency = Dependency()
    case = Case(pause(dependency.ask_soon, over=20, minimum=5))
    outcomes = await asyncio.gather(*(case.run(DEAD) for _ in range(4)))
    assert [(type(o), o.counted) for (o,) in outcomes if isinstance(o, RetryAfter)] == [
        (RetryAfter, False)
    ] * 4
    assert dependency.asked == 1
    assert case.pausing.state is not None
    assert case.pausing.state.because.startswith("1 of the last 1 runs ended with")


async def test_a_message_that_is_to_blame_is_dead_lettered_and_the_probe_is_spared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A probe that says 'up' is believed for a while, and asked again after it."""
    monkeypatch.setattr(pausing_module, "ASK_AGAIN", 0.05)
    dependency = Dependency()
    dependency.up = True
    case = Case(pause(dependency.ask, over=20, minimum=5))
    assert await case.run(DEAD, DEAD, DEAD) == [DEAD] * 3
    assert dependency.asked == 1
    dependency.up = False
    await asyncio.sleep(0.06)
    assert [type(o) for o in await case.run(DEAD)] == [RetryAfter]
    assert dependency.asked == 2


@pytest.mark.parametrize(
    "outcome",
    [
        RetryAfter(0, GatewayDownError("down")),
        DeadLetter(DeathReason.ATTEMPTS_EXHAUSTED, ValueError("its own")),
        DeadLetter(DeathReason.UNDECODABLE, GatewayDownError("down")),
        Ack(),
    ],
)
async def test_the_probe_is_asked_for_nothing_else(outcome: Outcome) -> None:
    """Neither before a retry, nor for another error, nor for what was not run."""
    dependency = Dependency()
    case = Case(pause(dependency.ask, over=20, minimum=5))
    assert await case.run(outcome) == [outcome]
    assert dependency.asked == 0


async def test_a_run_that_is_given_up_while_the_probe_is_asked_ends() -> None:
    """It holds up no stop: what is judged then is carried out no more."""
    hanging = asyncio.Event()

    async def hang() -> None:
        hanging.set()
        await asyncio.Event().wait()

    case = Case(pause(hang, over=20, minimum=5))
    run = asyncio.create_task(case.run(DEAD))
    await hanging.wait()
    run.cancel()
    assert await run == [DEAD]
    async with case.running():
        pass  # and the probe is ended with the rest


async def test_a_probe_that_is_asked_for_the_first_time_may_fail_otherwise() -> None:
    """It says 'down' by whatever it raises, as it does in a pause."""
    dependency = Dependency(OSError("no route"))
    case = Case(pause(dependency.ask, over=20, minimum=5))
    assert [type(o) for o in await case.run(DEAD)] == [RetryAfter]
    assert case.pausing.state is not None
