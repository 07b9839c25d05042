"""Decides when a handler pauses: judges how its runs end, by each of its pauses. Pure.

A `CircuitBreaker` is told how each run ended, and says what becomes of the message and whether to
pause now. The controller carries it out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, replace

from mqkit.logging.error_reports import TYPES, ErrorReports
from mqkit.outcome import Ack, DeadLetter, DeathReason, Outcome, RetryAfter
from mqkit.pause import Pause


@dataclass(frozen=True, slots=True, eq=False)
class Trip:
    """Describes a pause that began: `failed` of the last `of` runs did, the last with `error`."""

    pause: Pause
    failed: int
    of: int
    error: BaseException

    @property
    def because(self) -> str:
        """Describe it for a person, without the error's text, which may quote a message."""
        return self.described(TYPES)

    def described(self, reports: ErrorReports) -> str:
        """Describe it for the log, with as much of the error as the service wants there."""
        return f"{self.failed} of the last {self.of} runs ended with {reports.of(self.error)}"


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """Says what becomes of a message whose run has ended, and what that tells of dependencies."""

    outcome: Outcome
    failed: bool | None
    """Whether a dependency failed the run; None if nothing was run, which tells nothing."""
    trips: tuple[Trip, ...] = ()
    """The pauses that begin with it."""


class CircuitBreaker:
    """Judges the runs of one handler by all of its pauses."""

    def __init__(self, pauses: tuple[Pause, ...]) -> None:
        self._windows = tuple(_Window(pause) for pause in pauses)
        self._resumed = 0

    @property
    def tripped(self) -> tuple[Trip, ...]:
        """The pauses in effect; the handler is to consume when there are none."""
        return tuple(window.trip for window in self._windows if window.trip is not None)

    def begin(self) -> int:
        """Note that a run begins; what this returns is given to `end`."""
        return self._resumed

    def went_well(self, began: int) -> None:
        """Note a run that ended with an `Ack`: what `end` comes to for that."""
        for window in self._windows:
            window.end(None, began, is_down=False)

    def asking(self, outcome: Outcome) -> tuple[Pause, ...]:
        """Return the pauses whose probe is to be asked before a message is dead-lettered."""
        if not isinstance(outcome, DeadLetter) or not _has_run(outcome):
            return ()
        error = _error_of(outcome)
        return tuple(
            window.pause
            for window in self._windows
            if window.pause.probe is not None and window.trip is None and window.pause.named(error)
        )

    def end(
        self,
        outcome: Outcome,
        *,
        began: int,
        elapsed: float = 0.0,
        down: Collection[Pause] = (),
    ) -> RunVerdict:
        """Judge a run that has ended.

        :param began: what `begin` returned
        :param down: the pauses whose probe says that their dependency is down
        :param elapsed: seconds since the first failure of the message, as it came with it
        """
        if not _has_run(outcome):
            return RunVerdict(outcome, None)
        error = _error_of(outcome)
        failed, blameless = False, None
        trips = []
        for window in self._windows:
            named = window.pause.named(error)
            failed = failed or named is not None
            trip, is_excused = window.end(named, began, is_down=window.pause in down)
            if trip is not None:
                trips.append(trip)
            if is_excused:
                blameless = window.pause
        if blameless is not None and error is not None:
            outcome = _uncounted(outcome, error, blameless, elapsed)
        return RunVerdict(outcome, failed, tuple(trips))

    def resume(self, pause: Pause) -> None:
        """End a pause, as its dependency is back; what came before is forgotten."""
        self._resumed += 1
        for window in self._windows:
            if window.pause is pause:
                window.resume(self._resumed)


class _Window:
    """Counts how the last runs ended, for one pause."""

    def __init__(self, pause: Pause) -> None:
        self.pause = pause
        self.trip: Trip | None = None
        self._failed: deque[bool] = deque(maxlen=pause.over)
        self._resumed = 0

    def end(
        self, named: BaseException | None, began: int, *, is_down: bool
    ) -> tuple[Trip | None, bool]:
        """Return the pause that this run begins, and whether its message is not to blame."""
        if self.trip is not None or began < self._resumed:
            # What began before the dependency came back tells nothing of how it is now.
            return None, named is not None
        self._failed.append(named is not None)
        if named is None:
            return None, False
        failed, of = sum(self._failed), len(self._failed)
        if not is_down and (of < self.pause.minimum or failed < self.pause.rate * of):
            return None, False
        self.trip = Trip(self.pause, failed, of, named)
        return self.trip, True

    def resume(self, resumed: int) -> None:
        self.trip = None
        self._failed.clear()
        self._resumed = resumed


_RAN = frozenset(
    {
        DeathReason.REJECTED,
        DeathReason.NOT_RETRYABLE,
        DeathReason.ATTEMPTS_EXHAUSTED,
        DeathReason.POLICY_FAILED,
    }
)
"""Of the reasons to dead-letter, those that come after a run of the handler."""


def _has_run(outcome: Outcome) -> bool:
    if isinstance(outcome, DeadLetter):
        return outcome.reason in _RAN
    return isinstance(outcome, Ack | RetryAfter)


def _error_of(outcome: Outcome) -> BaseException | None:
    if not isinstance(outcome, RetryAfter | DeadLetter):
        return None
    if isinstance(outcome, DeadLetter) and outcome.reason is DeathReason.POLICY_FAILED:
        return outcome.error.__context__  # the policy's own error came of the handler's
    return outcome.error


def _uncounted(outcome: Outcome, error: BaseException, pause: Pause, elapsed: float) -> RetryAfter:
    if not isinstance(outcome, RetryAfter):
        return RetryAfter(pause.interval, error, elapsed=elapsed, counted=False)
    return replace(outcome, elapsed=elapsed, counted=False)
