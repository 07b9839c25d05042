"""Tests a saga without a broker and without a store, on a clock that the test moves.

test = SagaTest(Payment)
await test.receive(PlaceOrder(order_id="o-1", amount=Decimal("5")))
assert [each.routing_key for each in test.published] == ["risk.check"]
await test.advance(5.0)  # risk does not answer
assert test.completed()
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.codec import BodyDecoder, encode
from mqkit.errors import OptionError
from mqkit.message import Delivery, Properties
from mqkit.registration.sagas import SagaEntry, SagaHandler, SagaRow
from mqkit.sagas.declaration import SagaStep
from mqkit.sagas.memory import MemoryStore, MemoryTransaction, Published, entries
from mqkit.sagas.saga import Saga
from mqkit.sagas.values import SagaStatus

__all__ = ["Published", "SagaTest"]

S = TypeVar("S", bound=BaseModel)

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


class SagaTest(Generic[S]):
    """Runs a saga's methods, message by message; keeps what a store and a broker would keep.

    What a method raises comes out of `receive` or `advance`, and nothing of that run is kept. A
    message is encoded and decoded on its way, as are the states. A message that comes again under
    its `message_id` is not handled again, as the inbox has it.
    """

    def __init__(
        self,
        saga: type[Saga[S]],
        *,
        provide: Mapping[Any, Any] | None = None,
        now: datetime = START,
    ) -> None:
        """Make a test in which no saga is there.

        :param provide: what the methods' further arguments get, by their annotations
        :param now: where its clock begins
        :raises HandlerError: the saga cannot work
        """
        self._declaration = saga.declaration()
        _, handlers = saga.__mqkit_saga__(MemoryTransaction)
        self._steps = list(zip(self._declaration.steps, handlers, strict=True))
        self._provided = dict(provide or {})
        self._now = now
        self._store = MemoryStore(lambda: self._now)
        self._handled: dict[tuple[str, str], Any] = {}
        self._held: list[Published] = []
        self.published: list[Published] = []
        """What was published so far, without what the saga sends to itself."""

    @property
    def now(self) -> datetime:
        """The time by its clock."""
        return self._now

    async def receive(
        self, message: object, *, to: str | None = None, message_id: str | None = None
    ) -> Any:
        """Have a message handled, and all that the saga sends to itself at once; return its result.

        :param to: the name of the method, where the message's type does not say which
        :param message_id: by default one that no other message has
        :raises OptionError: there is no method for it, or several
        :raises Exception: what the method raised
        """
        step, handler = self._step_for(message, to)
        body, content_type = encode(message)
        properties = Properties(
            message_id=message_id or str(uuid.uuid4()),
            content_type=content_type,
            type=type(message).__name__,
        )
        result = await self._handle(step, handler, body, properties)
        await self._deliver_due()
        return result

    async def advance(self, seconds: Seconds) -> None:
        """Let time pass: what is due meanwhile comes when it is due, in its order.

        :raises Exception: what a method raised; its message comes again with the next `advance`
        """
        end = self._now + timedelta(seconds=checked.seconds(seconds, "SagaTest.advance"))
        await self._deliver_due(end)
        self._now = end

    def status(self, saga_id: str | None = None) -> SagaStatus:
        """Tell where a saga stands; the only one, where no id is given."""
        row = self._row(saga_id)
        return SagaStatus.NEW if row is None else SagaStatus(row.status)

    def completed(self, saga_id: str | None = None) -> bool:
        """Tell whether a saga is completed."""
        return self.status(saga_id) is SagaStatus.COMPLETED

    def state(self, saga_id: str | None = None) -> S:
        """Return a saga's state, as it is read from its row.

        :raises OptionError: there is no such saga
        """
        row = self._row(saga_id)
        if row is None:
            raise OptionError(f"{self._declaration.what}: there is none of id {saga_id!r}")
        state: Any = self._declaration.state_type.model_validate_json(row.state)
        found: S = state
        return found

    def history(self, saga_id: str | None = None) -> list[SagaEntry]:
        """Return what came for a saga so far, and what each message brought about."""
        row = self._row(saga_id)
        return [] if row is None else list(entries(self._store, row.name, row.id))

    def _row(self, saga_id: str | None) -> SagaRow | None:
        rows = self._store.rows
        if saga_id is not None:
            return rows.get((self._declaration.options.name, saga_id))
        if len(rows) > 1:
            ids = ", ".join(sorted(each for _, each in rows))
            raise OptionError(f"{self._declaration.what}: say which of them: {ids}")
        return next(iter(rows.values()), None)

    def _step_for(self, message: object, to: str | None) -> tuple[SagaStep, SagaHandler]:
        takes = [
            each
            for each in self._steps
            if each[0].takes_body and (each[0].method == to if to else _takes(each[0], message))
        ]
        if len(takes) == 1:
            return takes[0]
        names = ", ".join(step.method for step, _ in takes or self._steps if step.takes_body)
        problem = f"say to=..., one of {names}" if takes else f"there are {names}"
        which = f"of the name {to!r}" if to else f"for {checked.shown(message)}"
        raise OptionError(
            f"{self._declaration.what} has {'several methods' if takes else 'no method'} {which}: "
            f"{problem}"
        )

    async def _handle(
        self, step: SagaStep, handler: SagaHandler, body: bytes, properties: Properties
    ) -> Any:
        """Handle one message in a transaction, unless it was handled before."""
        key = (step.handler, properties.message_id or "")
        if key in self._handled:
            return self._handled[key]
        transaction = MemoryTransaction(self._store, self._take)
        delivery = Delivery(body=body, properties=properties, queue=step.queue.name)
        known = {Delivery: delivery, MemoryTransaction: transaction, **self._provided}
        arguments = {step.body: BodyDecoder(step.body_type).decode(body, properties)}
        for name, annotation in handler.function.__annotations__.items():
            if name != step.body:
                arguments[name] = self._given(step, name, annotation, known)
        result = await handler.function(**arguments)
        transaction.commit()
        self._handled[key] = result
        return result

    def _given(self, step: SagaStep, name: str, annotation: Any, known: Mapping[Any, Any]) -> Any:
        """Return what a method's argument gets.

        :raises OptionError: nobody provides it
        """
        if annotation in known:
            return known[annotation]
        kind = getattr(annotation, "__name__", annotation)
        raise OptionError(
            f"{self._declaration.what}: argument {name!r} of {step.method} is not provided; say "
            f"SagaTest(..., provide={{{kind}: ...}})"
        )

    def _take(self, message: Published) -> None:
        if self._own_step(message) is not None:
            self._held.append(message)
        else:
            self.published.append(message)

    def _own_step(self, message: Published) -> tuple[SagaStep, SagaHandler] | None:
        """Return the method whose queue a message goes to."""
        if message.exchange:
            return None
        found = (each for each in self._steps if each[0].queue.name == message.routing_key)
        return next(found, None)

    async def _deliver_due(self, until: datetime | None = None) -> None:
        """Handle what the saga sent to itself, as it is due; the clock goes along."""
        end = self._now if until is None else until
        while due := [each for each in self._held if each.due <= end]:
            message = min(due, key=lambda each: each.due)  # of the same time, the first
            own = self._own_step(message)
            assert own is not None
            self._now = max(self._now, message.due)
            await self._handle(*own, message.message.body, message.message.properties)
            self._held.remove(message)


def _takes(step: SagaStep, message: object) -> bool:
    """Tell whether a method's message is of this type."""
    if isinstance(step.body_type, type):
        return isinstance(message, step.body_type)
    try:
        TypeAdapter(step.body_type).validate_python(message, strict=True)
    except ValidationError:
        return False
    return True
