"""One saga as a state machine: what may be done in which status. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from mqkit.sagas.errors import SagaStateError
from mqkit.sagas.values import SagaStatus


@dataclass(slots=True)
class Step:
    """A step that is done, and may have to be undone."""

    name: str
    token: str


@dataclass(slots=True)
class Progress:
    """What is kept of a saga beside its state."""

    timeouts: dict[str, str] = field(default_factory=dict)
    """The timeouts that are to come: name to the token of the message that is held for it."""
    done: list[Step] = field(default_factory=list)
    """The steps that are done, in order."""
    undoing: str | None = None
    """The token of the step that is being undone; its message is under way."""
    reason: str | None = None
    """Why it compensates."""

    def to_json(self) -> str:
        """Write it for its row."""
        return _PROGRESS.dump_json(self).decode()


_PROGRESS = TypeAdapter(Progress)


def progress_of(text: str) -> Progress:
    """Read what `Progress.to_json` wrote."""
    return _PROGRESS.validate_json(text)


@dataclass(frozen=True, slots=True)
class Timeout:
    """A timeout that was set: when it is due, in seconds from now or as a moment."""

    name: str
    token: str
    after: float | None
    at: datetime | None


class Instance:
    """One saga while a message of its is handled."""

    def __init__(
        self,
        what: str,
        saga_id: str,
        *,
        draw: Callable[[], str],
    ) -> None:
        """Make one that is not begun.

        :param what: what errors call it
        :param draw: draws a token that no other message has
        """
        self.what = f"{what} {saga_id!r}"
        self.id = saga_id
        self.status = SagaStatus.NEW
        self.progress = Progress()
        self.set_now: dict[str, Timeout] = {}
        """Timeouts whose messages are to be published with this change."""
        self._state: Any = None
        self._draw = draw

    def load(self, status: SagaStatus, state: Any, progress: Progress) -> None:
        """Take over what is kept of it."""
        self.status, self._state, self.progress = status, state, progress

    @property
    def state(self) -> Any:
        """Its state.

        :raises SagaStateError: it is not begun
        """
        if self.status is SagaStatus.NEW:
            raise SagaStateError(f"{self.what} has no state yet: call self.begin(state) first")
        return self._state

    def replace(self, state: Any) -> None:
        """Give it another state."""
        self._check_going_on("change its state")
        self._state = state

    def begin(self, state: Any) -> None:
        """Start it with this state.

        :raises SagaStateError: it was started before
        """
        if self.status is not SagaStatus.NEW:
            raise SagaStateError(
                f"{self.what} is {self.status} already; begin starts a new one: ask self.is_new, "
                "or assign self.state"
            )
        self.status, self._state = SagaStatus.RUNNING, state

    def set_timeout(self, name: str, after: float | None, at: datetime | None) -> None:
        """Set a timeout, in the place of one of this name that was set before."""
        self._check_going_on("set a timeout")
        timeout = Timeout(name, self._draw(), after, at)
        self.progress.timeouts[name] = timeout.token
        self.set_now[name] = timeout

    def cancel_timeout(self, name: str) -> None:
        """Let a timeout do nothing when it comes."""
        self.progress.timeouts.pop(name, None)
        self.set_now.pop(name, None)

    def take_timeout(self, name: str, token: str) -> bool:
        """Tell whether a timeout that came is still waited for; it is not after this."""
        if self.progress.timeouts.get(name) != token:
            return False
        del self.progress.timeouts[name]
        return True

    def note_done(self, step: str) -> None:
        """Note a step that is to be undone where the saga gives up."""
        self._check_going_on("note a step as done")
        self.progress.done.append(Step(step, self._draw()))

    def give_up(self, reason: str) -> bool:
        """Begin to undo the steps that are done; tell whether there is none."""
        if self.status is SagaStatus.COMPENSATING:
            return False
        self._check_going_on("compensate")
        self.status = SagaStatus.COMPENSATING
        self.progress.reason = reason
        self._forget_timeouts()
        return self.undo_next() is None

    def undo_next(self) -> Step | None:
        """Choose the step to undo next: the one that was done last."""
        done = self.progress.done
        self.progress.undoing = done[-1].token if done else None
        return done[-1] if done else None

    def take_step(self, name: str, token: str) -> bool:
        """Tell whether a step is the one that is being undone; it is not done any more after."""
        progress = self.progress
        if self.status is not SagaStatus.COMPENSATING or progress.undoing != token:
            return False
        progress.done = [each for each in progress.done if (each.name, each.token) != (name, token)]
        return True

    def complete(self) -> None:
        """End it.

        :raises SagaStateError: steps are still to be undone
        """
        self._check_going_on("complete")
        if self.status is SagaStatus.COMPENSATING and self.progress.done:
            left = ", ".join(each.name for each in self.progress.done)
            raise SagaStateError(
                f"{self.what} compensates, and {left} is not undone yet: it completes by itself "
                "after that"
            )
        self.status = SagaStatus.COMPLETED
        self.progress.undoing = None
        self._forget_timeouts()

    def _forget_timeouts(self) -> None:
        self.progress.timeouts.clear()
        self.set_now.clear()

    def _check_going_on(self, what: str) -> None:
        if self.status is SagaStatus.NEW:
            raise SagaStateError(f"{self.what} cannot {what}: call self.begin(state) first")
        if self.status is SagaStatus.COMPLETED:
            raise SagaStateError(f"{self.what} cannot {what}: it is completed")
