"""Says what a replay would meet: bodies that do not validate, and messages that were handled."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mqkit.codec import DeliveryDecoder
from mqkit.dead_letters.messages.letters import Letter
from mqkit.errors import ConfigurationError, DecodeError
from mqkit.message import Delivery
from mqkit.registration.handler import Handler
from mqkit.registration.service import Service

MAX_NAMED = 100
"""Messages with a problem that are named."""

ASKED = 500
"""Ids that an inbox is asked about at a time."""


class Inbox(Protocol):
    """Knows which messages a handler has had its effect for; `mqkit.store.Store` is one."""

    async def handled(
        self, handler: str, queue: str, message_ids: Sequence[str]
    ) -> Collection[str]:
        """Return those of the messages that the handler has had its effect for."""
        ...


@dataclass(slots=True)
class Problem:
    """Why the handler would not run a message."""

    ref: str
    message_id: str | None
    problem: str


@dataclass(slots=True)
class Rehearsed:
    """What a replay would meet."""

    meant: int = 0
    """Messages that it would replay."""
    valid: int | None = None
    """Those whose body the handler takes; None where no service was given."""
    handled: int | None = None
    """Those that the inbox would skip; None where no inbox was given."""
    problems: list[Problem] = field(default_factory=list)
    """Of those whose body the handler does not take, the first 100."""


def handler_of(service: Service, queue: str) -> Handler:
    """Return the handler of a queue.

    :raises ConfigurationError: the service has none
    """
    for handler in service.handlers:
        if handler.queue.name == queue:
            return handler
    raise ConfigurationError(
        f"service {service.name!r} has no handler of queue {queue!r}; it has those of "
        f"{', '.join(repr(each.queue.name) for each in service.handlers) or 'none'}"
    )


class Validator:
    """Validates bodies as the handler of a queue would."""

    def __init__(self, service: Service, queue: str) -> None:
        """Find the handler.

        :raises ConfigurationError: the service has none of this queue
        """
        self.handler = handler_of(service, queue)
        self._decoder = DeliveryDecoder(self.handler.plan.decoder, service.limits)

    def problem(self, letter: Letter, body: bytes | None = None) -> str | None:
        """Say why the handler would not take a message; None if it would.

        :param body: in the place of the message's own
        """
        delivery = Delivery(
            body=(letter.body or b"") if body is None else body, properties=letter.properties
        )
        try:
            self._decoder.decode(delivery)
        except DecodeError as error:
            return str(error)
        return None


class Rehearsal:
    """Looks at messages one after the other, as a replay would."""

    def __init__(self, queue: str, service: Service | None, inbox: Inbox | None) -> None:
        self._queue = queue
        self._validator = None if service is None else Validator(service, queue)
        self._inbox = inbox
        self._ids: list[str] = []
        self.result = Rehearsed(
            valid=None if service is None else 0,
            handled=None if service is None or inbox is None else 0,
        )

    def add(self, letter: Letter) -> None:
        """Look at one more message."""
        self.result.meant += 1
        if self._validator is None:
            return
        problem = self._validator.problem(letter)
        if problem is None:
            self.result.valid = (self.result.valid or 0) + 1
        elif len(self.result.problems) < MAX_NAMED:
            self.result.problems.append(Problem(letter.ref, letter.message_id, problem))
        if self._inbox is not None and letter.message_id:
            self._ids.append(letter.message_id)

    async def finish(self) -> None:
        """Ask the inbox about the messages."""
        if self._inbox is None or self._validator is None:
            return
        handler = self._validator.handler.name
        for at in range(0, len(self._ids), ASKED):
            ids = self._ids[at : at + ASKED]
            known = await self._inbox.handled(handler, self._queue, [*dict.fromkeys(ids)])
            self.result.handled = (self.result.handled or 0) + sum(each in known for each in ids)
