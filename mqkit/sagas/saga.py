"""The class that users derive their sagas from."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar, Unpack, cast

from pydantic import BaseModel

from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.errors import HandlerError
from mqkit.outcome import MAX_DELAY
from mqkit.registration.options import checked_retry
from mqkit.registration.sagas import SagaHandler
from mqkit.retry import Retry
from mqkit.sagas.declaration import (
    MAX_NAME,
    MAX_VERSION,
    OPTIONS,
    Declaration,
    SagaOptions,
    declaration_of,
)
from mqkit.sagas.declared import checked_publishes
from mqkit.sagas.diagram import diagram, diagram_svg
from mqkit.sagas.errors import SagaStateError
from mqkit.sagas.handlers import saga_handlers
from mqkit.sagas.running import PublishOptions, Run, end_compensation
from mqkit.sagas.values import DEFAULT_KEEP, SagaStatus
from mqkit.topology import Exchange

S = TypeVar("S", bound=BaseModel)

MAX_KEEP = 3650 * 86_400.0


class Saga(Generic[S]):
    """A process over several messages, whose state is kept between them.

    A class of its own says which messages start and continue it, by decorators over its methods;
    `service.saga(...)` registers it. Its state, the note that the message is handled, and what it
    publishes are committed together, and one saga is changed by one message at a time.

        class Payment(Saga[PaymentState], name="payment", keep=7 * DAY): ...

    `name` is its name in the store and in the names of its queues, and stays what it is; `version`
    is that of its state: an older one is made one of this version by the class method `migrate`.
    `keep` is how many seconds a saga is kept after it is completed (7 days), `retry` the policy of
    its methods that state none. `publishes` names what `compensated` publishes, for the diagram.

    An object is made for each message; what is to be kept is in its state.
    """

    _run: Run
    __mqkit_saga_options__: ClassVar[SagaOptions]

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        version: int = 1,
        keep: Seconds = DEFAULT_KEEP,
        retry: Retry | None = None,
        publishes: Iterable[type | str] = (),
        **options: Any,
    ) -> None:
        """Check what a saga is declared with; a class without a name is a base of others.

        :raises HandlerError: an option is not what it takes
        """
        super().__init_subclass__(**options)
        if name is None:
            return
        what = f"saga {cls.__qualname__}"
        checked.name(name, f"{what}: name", error=HandlerError)
        if len(name) > MAX_NAME:
            raise HandlerError(f"{what}: its name has over {MAX_NAME} characters")
        checked.count(version, f"{what}: version", most=MAX_VERSION, error=HandlerError)
        kept = checked.seconds(keep, f"{what}: keep", most=MAX_KEEP, error=HandlerError)
        policy = checked_retry(retry, what)
        said = checked_publishes(publishes, what)
        setattr(cls, OPTIONS, SagaOptions(name, version, kept, policy, said))

    @classmethod
    def declaration(cls) -> Declaration:
        """Return all that the class declares, checked.

        :raises HandlerError: it cannot work; the message says why
        """
        return declaration_of(cls, _state_type(cls), reserved=vars(Saga).keys())

    @classmethod
    def diagram(cls) -> str:
        """Draw its messages, timeouts and compensations as a flowchart, in Mermaid.

        :raises HandlerError: it cannot work
        """
        return diagram(cls.declaration())

    @classmethod
    def diagram_svg(cls) -> str:
        """Draw what `diagram` does as SVG, which stands by itself.

        :raises HandlerError: it cannot work
        """
        return diagram_svg(cls.declaration())

    @classmethod
    def __mqkit_saga__(cls, transaction_type: type[Any]) -> tuple[str, list[SagaHandler]]:
        """Return its name and its handlers, for `Service.saga`."""
        declaration = cls.declaration()
        handlers = list(saga_handlers(declaration, cls._bound, transaction_type))
        return declaration.options.name, handlers

    @classmethod
    def _bound(cls, run: Run) -> Saga[Any]:
        saga = cls()
        saga._run = run
        return saga

    @property
    def id(self) -> str:
        """Its id, by which messages find it."""
        return self._run.instance.id

    @property
    def status(self) -> SagaStatus:
        """Where it stands."""
        return self._run.instance.status

    @property
    def is_new(self) -> bool:
        """Whether there is none yet: this message may `begin` it."""
        return self.status is SagaStatus.NEW

    @property
    def reason(self) -> str | None:
        """Why it compensates, or did."""
        return self._run.instance.progress.reason

    @property
    def state(self) -> S:
        """Its state, which may be changed in place, or assigned.

        :raises SagaStateError: it is not begun
        """
        return cast(S, self._run.instance.state)

    @state.setter
    def state(self, state: S) -> None:
        self._run.instance.replace(state)

    def begin(self, state: S) -> None:
        """Start it, with its first state.

        :raises SagaStateError: it was started before
        """
        self._run.instance.begin(state)

    async def publish(
        self,
        exchange: Exchange | str,
        routing_key: str,
        body: object,
        **options: Unpack[PublishOptions],
    ) -> str:
        """Publish a message if, and only if, this change of the saga is committed; return its id.

        The options are those of `Transaction.publish`, which it goes through, and so are the
        errors. Where it went is in the saga's history.
        """
        return await self._run.publish(exchange, routing_key, body, **options)

    async def timeout(
        self, name: str, *, after: Seconds | None = None, at: datetime | None = None
    ) -> None:
        """Have the method with `@on_timeout(name)` called after so many seconds, or at a moment.

        One of this name that was set before is replaced. The method is not called where the saga
        is completed or compensates by then, or has cancelled it.

        :raises SagaStateError: there is no such method, or no such time
        """
        run = self._run
        if (after is None) == (at is None):
            raise SagaStateError(
                f"{run.instance.what}: timeout {checked.shown(name)} takes after=seconds, or "
                "at=datetime"
            )
        seconds = None if after is None else checked.as_seconds(after)
        if at is None and (seconds is None or not 0 <= seconds <= MAX_DELAY):
            raise SagaStateError(
                f"{run.instance.what}: timeout {checked.shown(name)} comes after 0 to "
                f"{MAX_DELAY:.0f} seconds, not {checked.shown(after)}"
            )
        if at is not None and (not isinstance(at, datetime) or at.tzinfo is None):
            raise SagaStateError(
                f"{run.instance.what}: timeout {checked.shown(name)} comes at a datetime with a "
                f"time zone, not {checked.shown(at)}"
            )
        run.set_timeout(name, seconds, at)

    def cancel_timeout(self, name: str) -> None:
        """Let a timeout do nothing when it comes; nothing happens where it is not set.

        :raises SagaStateError: there is no `@on_timeout` of this name
        """
        self._run.cancel_timeout(name)

    def done(self, step: str) -> None:
        """Note a step as done, so that `compensate` undoes it.

        Note it before the effect is asked for: the answer may never come.

        :raises SagaStateError: there is no `@compensates` of this name
        """
        self._run.note_done(step)

    async def compensate(self, reason: str) -> None:
        """Give up: undo the steps that are done, the last one first, and complete the saga then.

        Each is undone by a message of its own, which is retried by itself. Timeouts are cancelled.
        After the last one, or at once where there is none, `compensated` is called. A saga that
        compensates already goes on with the first reason.

        :raises SagaStateError: the saga is not begun, or is completed
        """
        if not isinstance(reason, str) or not checked.is_utf8(reason):
            raise SagaStateError(
                f"{self._run.instance.what}: compensate takes a reason as text that can be "
                f"written as UTF-8, not {checked.shown(reason)}"
            )
        if self._run.instance.give_up(reason):
            await end_compensation(self, self._run.instance)

    async def compensated(self) -> None:
        """Called when all steps are undone, right before the saga is completed; for overriding."""

    def complete(self) -> None:
        """End the saga; its timeouts are cancelled, and it is kept for the stated time.

        :raises SagaStateError: it is not begun, is completed, or has steps that are to be undone
        """
        self._run.instance.complete()


def _state_type(saga: type[Any]) -> Any:
    """Return what stands in the brackets of `Saga[...]`, of the class or a base of it."""
    for each in saga.__mro__:
        for base in vars(each).get("__orig_bases__", ()):
            origin = typing.get_origin(base)
            if isinstance(origin, type) and issubclass(origin, Saga):
                (found,) = typing.get_args(base)
                if not isinstance(found, TypeVar):
                    return found
    return None
