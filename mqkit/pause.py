"""States when a handler pauses because something that it depends on is down.

Values only: `mqkit.consuming.pausing` judges runs by them, and carries pauses out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.errors import ConfigurationError, OptionError
from mqkit.outcome import (
    MAX_DELAY,
    Reject,
    RetryLater,
)

MAX_RUNS = 1_000_000
"""Runs that a pause can judge by; it remembers how each one ended."""

Probe = Callable[[], Any]
"""A function without arguments, `async def` or `def` (run in a thread); it returns if the
dependency is back, and raises if it is not."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pause:
    """States when a dependency counts as down, so that a handler pauses, and what shows it is back.

    The handler is paused once a run ends with one of `on` and, of its last `over` runs (at least
    `minimum` of them), a share of `rate` or more ended so. Its queue is then not consumed, what
    runs may end, and such failures cost a message none of its attempts, whatever its retry policy
    says. Before that they count like any other, so that a message which always raises it by
    itself, among healthy ones, comes to its end.

    With a `probe`, no message is dead-lettered for such a failure before that was asked, once a
    second at most: if it says that the dependency is down, the handler is paused at once, and the
    message waits with the others. Without one, the policy judges the first `minimum` - 1 failures
    of an outage, which under `Retry.never()` are dead-lettered.

    An error counts as one of `on` if it is an instance, was raised `from` one, or is a group that
    holds one. `Reject` never counts: it is the handler's word on the message.

    While it is paused, `probe` is called every `every` seconds (give or take a tenth). Without one
    a single message is tried; the handler is paused on if that ends with one of `on` too.

    :raises ConfigurationError: a value cannot work
    """

    on: type[Exception] | tuple[type[Exception], ...]
    rate: float = 0.5
    over: int = 20
    minimum: int = 5
    every: Seconds = 5.0
    probe: Probe | None = None

    def __post_init__(self) -> None:
        kinds = self.kinds
        if not kinds or not all(isinstance(k, type) and issubclass(k, Exception) for k in kinds):
            raise ConfigurationError(f"Pause(on=...) takes types of exceptions, not {self.on!r}")
        if any(issubclass(kind, Reject | RetryLater) for kind in kinds):
            raise ConfigurationError(
                "Pause(on=...): Reject and RetryLater say what becomes of one message, and nothing "
                "of a dependency"
            )
        rate = checked.as_number(self.rate)
        if rate is None or not 0 < rate <= 1:
            raise OptionError(
                f"Pause(rate=...) takes a share, over 0 and up to 1, not {checked.shown(self.rate)}"
            )
        if not checked.is_whole(self.over, 1, MAX_RUNS) or not checked.is_whole(
            self.minimum, 1, self.over
        ):
            raise OptionError(
                f"Pause(minimum={checked.shown(self.minimum)}, over={checked.shown(self.over)}): "
                f"both are numbers of runs, up to {MAX_RUNS}, and the minimum is 1 to all of them"
            )
        # As long as a message can be held that comes back then.
        every = checked.seconds(self.every, "Pause(every=...)", over=0, most=MAX_DELAY)
        object.__setattr__(self, "every", every)
        if self.probe is not None and not checked.takes(self.probe, 0):
            raise OptionError(
                "Pause(probe=...) takes a function without arguments, "
                f"not {checked.shown(self.probe)}"
            )

    @property
    def interval(self) -> float:
        """`every`, always as a number of seconds."""
        every = self.every
        assert not isinstance(every, timedelta)
        return every

    @property
    def kinds(self) -> tuple[type[Exception], ...]:
        """`on`, always as a tuple."""
        return self.on if isinstance(self.on, tuple) else (self.on,)

    def named(self, error: BaseException | None) -> BaseException | None:
        """Return which one of `on` an error is, was raised from, or holds; None if none."""
        left = [error] if error is not None and not isinstance(error, Reject) else []
        seen: set[int] = set()
        while left:
            each = left.pop()
            if id(each) in seen:
                continue
            seen.add(id(each))
            if isinstance(each, self.kinds) and not isinstance(each, Reject | RetryLater):
                return each
            if isinstance(each, BaseExceptionGroup):
                left.extend(each.exceptions)
            if each.__cause__ is not None:
                left.append(each.__cause__)
        return None


class Status(StrEnum):
    """What a handler's consumer does."""

    CONSUMING = "consuming"
    PAUSED = "paused"
    """A dependency is down; see `ConsumerState.because`."""
    DETACHED = "detached"
    """Without a channel to the broker; it attaches as soon as it can."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """What a handler's consumer does now; what follows `status` is of a pause only.

    But for `because` while it consumes: it may get nothing then, as its queue could not be bound.

    `next_probe` is None while a probe is under way, or a message is tried or waited for.
    """

    status: Status
    since: datetime | None = None
    because: str = ""
    """The exception's type, where it was raised and how often; never its text."""
    next_probe: datetime | None = None
