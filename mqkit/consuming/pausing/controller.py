"""Carries out the pauses of one handler: stops its intake, probes what is down, resumes.

The circuit breaker decides; time, probes and logs are here.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Protocol

from mqkit.clock import Clock
from mqkit.consuming.headers import elapsed_seconds
from mqkit.consuming.pausing.circuit_breaker import CircuitBreaker, RunVerdict, Trip
from mqkit.errors import ProbeTimeoutError, StoreUnavailableError
from mqkit.logging.error_reports import REPORTS, TYPES, ErrorReports
from mqkit.logging.outages import OutageLog
from mqkit.message import Delivery
from mqkit.outcome import Ack, Outcome
from mqkit.pause import ConsumerState, Pause, Probe, Status
from mqkit.registration.handler import Handler
from mqkit.registration.service import Service
from mqkit.registration.transactions import needs_transaction
from mqkit.system.machine import Thread, daemon_thread

logger = logging.getLogger(__name__)

JITTER = 0.1
"""The share by which a wait for the next probe is shorter or longer, so that clients spread out."""

PROBE_TIMEOUT = 10.0
"""Seconds after which a probe that has not returned says that its dependency is down."""

ASK_AGAIN = 1.0
"""Seconds for which a probe that said 'up' is believed, when a run fails as if it were down."""

TRIAL_PREFETCH = 1

Began = tuple[int, bool]
"""What is known when a run begins: how many pauses have ended, and whether it is a trial."""


def pauses_of(handler: Handler, service: Service) -> tuple[Pause, ...]:
    """Return all pauses of a handler: its own, and one for the store whose transaction it takes.

    One of its own that is for `StoreUnavailableError` stands in the place of the latter.
    """
    own = () if handler.pause is None else (handler.pause,)
    store = service.store
    if store is None or not needs_transaction(handler.plan, service.providers):
        return own
    if any(issubclass(StoreUnavailableError, pause.kinds) for pause in own):
        return own
    away = Pause(
        on=StoreUnavailableError, rate=0.5, over=10, minimum=3, every=1.0, probe=store.ping
    )
    return (*own, away)


class Intake(Protocol):
    """Lets messages in, or not: a consumer. Each method may be called at any time."""

    def pause(self) -> None:
        """Start no more runs, and ask the broker for no more messages."""
        ...

    async def requeue_waiting(self) -> None:
        """Wait until no more messages come, and give back those that were not started."""
        ...

    def resume(self, prefetch: int) -> None:
        """Start runs again, with so many messages ahead of their acks."""
        ...


class PauseController:
    """Pauses one handler while a dependency is down; `run` must run for a pause to end again."""

    def __init__(
        self,
        handler: Handler,
        pauses: tuple[Pause, ...],
        dispatch: Callable[[Delivery], Awaitable[Outcome]],
        clock: Clock,
        reports: ErrorReports = REPORTS,
        *,
        thread: Callable[[Callable[[], None], str], Thread] = daemon_thread,
    ) -> None:
        """Pause nothing yet.

        :param dispatch: runs the handler for a delivery
        :param clock: tells since when it is paused
        :param reports: says of errors what the service wants in its log
        :param thread: makes the thread of a `def` probe's call
        """
        self._queue = handler.queue.name
        self._prefetch = handler.prefetch
        self._circuit = CircuitBreaker(pauses)
        self._probers = {
            pause: _Prober(pause.probe, thread) for pause in pauses if pause.probe is not None
        }
        self._dispatch = dispatch
        self._intake: Intake
        self._clock = clock
        self._reports = reports
        self._outage = OutageLog(clock=clock, reports=reports)
        self._tripped = asyncio.Event()
        self._since: datetime | None = None
        self.pauses = 0
        """How often the handler was paused."""
        self._next_probe: datetime | None = None
        self._trial: asyncio.Future[bool] | None = None
        self._met: set[type[BaseException]] = set()
        self._asking: dict[Pause, asyncio.Task[BaseException | None]] = {}
        self._up_at: dict[Pause, float] = {}

    def attach(self, intake: Intake) -> None:
        """Pause this intake from now on; called once, before anything is dispatched."""
        self._intake = intake

    @property
    def state(self) -> ConsumerState | None:
        """Since when and why the handler is paused; None if it is not."""
        if self._since is None:
            return None
        because = "; ".join(trip.because for trip in self._circuit.tripped)
        return ConsumerState(Status.PAUSED, self._since, because, self._next_probe)

    async def dispatch(self, delivery: Delivery) -> Outcome:
        """Run the handler for a delivery; a failure of a dependency costs it no attempt."""
        began = self.begin()
        outcome = await self._dispatch(delivery)
        if isinstance(outcome, Ack):
            self.went_well(began)
            return outcome
        return await self.judge(delivery, outcome, began)

    def begin(self) -> Began:
        """Note that a run begins; what this returns is given to `went_well` or to `judge`."""
        return self._circuit.begin(), self._since is not None

    def went_well(self, began: Began) -> None:
        """Note that a run ended with an `Ack`."""
        resumed, is_trial = began
        self._circuit.went_well(resumed)
        if is_trial:
            self._end_trial(went_well=True)

    async def judge(self, delivery: Delivery, outcome: Outcome, began: Began) -> Outcome:
        """Return what becomes of a message after its run; a dependency's failure does not count."""
        resumed, is_trial = began
        asking = self._circuit.asking(outcome)
        verdict = self._circuit.end(
            outcome,
            began=resumed,
            elapsed=elapsed_seconds(delivery.headers),
            down=[pause for pause in asking if await self._is_down(pause)],
        )
        for trip in verdict.trips:
            self._pause(trip)
        if is_trial:
            self._judge_trial(verdict)
        return verdict.outcome

    async def _is_down(self, pause: Pause) -> bool:
        """Ask the probe whether a dependency is down; callers at the same time share its answer."""
        now = asyncio.get_running_loop().time
        if now() - self._up_at.get(pause, -math.inf) < ASK_AGAIN:
            return False
        asked = self._asking.get(pause)
        if asked is None:
            asked = asyncio.create_task(self._probers[pause].ask())
            self._asking[pause] = asked
            asked.add_done_callback(lambda _: self._asking.pop(pause, None))
        try:
            error = await asyncio.shield(asked)
        except asyncio.CancelledError:
            # Its message was given back, or is lost: what is judged here is carried out no more.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                task.uncancel()
            return False
        if error is None:
            self._up_at[pause] = now()
        return error is not None

    async def run(self) -> None:
        """End each pause once its dependency is back; runs until it is cancelled."""
        try:
            while True:
                await self._tripped.wait()
                await self._intake.requeue_waiting()
                while self._circuit.tripped:
                    await self._wait_for_one()
                self._resume()
        finally:
            for prober in self._probers.values():
                prober.cancel()

    def _pause(self, trip: Trip) -> None:
        every = trip.pause.interval
        how = "a message is tried" if trip.pause.probe is None else "it is probed"
        because = trip.described(self._reports)
        self._outage.down(self._queue, "paused", because, then=f"{how} every {every:g} s")
        if self._since is None:
            self._since = self._clock()
            self.pauses += 1
            self._met.clear()
        self._intake.pause()
        self._end_trial(went_well=False)
        self._tripped.set()

    def _resume(self) -> None:
        self._tripped.clear()
        self._since = None
        self._outage.up(self._queue, "consuming again")
        self._intake.resume(self._prefetch)

    async def _wait_for_one(self) -> None:
        """Check once, after the due wait, whether a dependency is back."""
        pauses = [trip.pause for trip in self._circuit.tripped]
        # A message is tried only when what can be probed is back: it would fail in any case.
        pause = next((each for each in pauses if each in self._probers), pauses[0])
        await self._sleep(pause.interval)
        if await (self._ask(pause) if pause in self._probers else self._try_a_message()):
            self._circuit.resume(pause)

    async def _sleep(self, seconds: float) -> None:
        wait = seconds * random.uniform(1 - JITTER, 1 + JITTER)
        self._next_probe = self._clock() + timedelta(seconds=wait)
        await asyncio.sleep(wait)
        self._next_probe = None

    async def _try_a_message(self) -> bool:
        """Let one message in, and tell whether its run went well; one without a run tells nothing.

        The broker sends the next one only when the last one is settled, which is after it was
        judged.
        """
        self._trial = asyncio.get_running_loop().create_future()
        self._intake.resume(TRIAL_PREFETCH)
        went_well = await self._trial
        if not went_well:
            await self._intake.requeue_waiting()
        return went_well

    def _judge_trial(self, verdict: RunVerdict) -> None:
        if verdict.failed is None or self._trial is None or self._trial.done():
            return
        if verdict.failed:
            self._intake.pause()
        self._end_trial(went_well=not verdict.failed)

    def _end_trial(self, *, went_well: bool) -> None:
        if self._trial is not None and not self._trial.done():
            self._trial.set_result(went_well)

    async def _ask(self, pause: Pause) -> bool:
        error = await self._probers[pause].ask()
        if error is None:
            return True
        why = self._reports.of(error)
        self._outage.down(self._queue, "paused", f"the probe: {why}", then="it is probed again")
        if not (isinstance(error, ProbeTimeoutError) or pause.named(error)):
            level = logging.DEBUG if type(error) in self._met else logging.ERROR
            self._met.add(type(error))
            self._reports.log(
                logger,
                level,
                "%s: still paused: the probe failed with an error that the pause is not for",
                self._queue,
                error=error,
            )
        return False


class _Prober:
    """Calls one probe, never twice at the same time."""

    def __init__(self, probe: Probe, thread: Callable[[Callable[[], None], str], Thread]) -> None:
        self._probe = probe
        self._make_thread = thread
        self._task: asyncio.Task[None] | None = None
        self._thread: Thread | None = None

    async def ask(self) -> BaseException | None:
        """Call the probe, for `PROBE_TIMEOUT` seconds at most; return what it raised, or None."""
        if self._is_running():
            return ProbeTimeoutError("the last probe has not returned yet, and is not called again")
        self._task = asyncio.create_task(self._call())
        self._task.add_done_callback(_log_late_failure)
        done, _ = await asyncio.wait([self._task], timeout=PROBE_TIMEOUT)
        if not done:
            self._task.cancel()
            return ProbeTimeoutError(f"the probe did not return within {PROBE_TIMEOUT:g} s")
        if self._task.cancelled():
            return asyncio.CancelledError("the probe ended as cancelled")
        return self._task.exception()

    def cancel(self) -> None:
        """Cancel a probe that is under way."""
        if self._task is not None:
            self._task.cancel()

    def _is_running(self) -> bool:
        return (self._task is not None and not self._task.done()) or (
            self._thread is not None and self._thread.is_alive()
        )

    async def _call(self) -> None:
        call = getattr(self._probe, "__call__", None)  # noqa: B004 - the method is inspected
        if inspect.iscoroutinefunction(self._probe) or inspect.iscoroutinefunction(call):
            result = self._probe()
        else:
            result = await self._in_thread()
        if inspect.isawaitable(result):
            await result

    async def _in_thread(self) -> Any:
        """Call the probe in a thread that keeps no process from ending, unlike an executor's."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def tell(result: Any, error: BaseException | None) -> None:
            if future.done():
                logger.debug("a probe ended after its time: %s", error and TYPES.of(error))
            elif error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def run() -> None:
            result, error = None, None
            try:
                result = self._probe()
            except BaseException as problem:  # noqa: BLE001 - told where it is waited for
                error = problem
            try:
                loop.call_soon_threadsafe(tell, result, error)
            except RuntimeError:
                logger.debug("a probe ended after its event loop was closed")

        self._thread = self._make_thread(run, "mqkit probe")
        self._thread.start()
        return await future


def _log_late_failure(task: asyncio.Task[None]) -> None:
    """Log the exception of a probe that nobody waits for any more; `ask` returns the others."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.debug("a probe ended with %s", TYPES.of(error))
