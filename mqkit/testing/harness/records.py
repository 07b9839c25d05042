"""The records of a harness: what was handled, retried, dead-lettered and published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar, overload

from mqkit.codec import BodyDecoder, is_json
from mqkit.drivers.base import Incoming
from mqkit.message import Header, HeaderValue, Properties
from mqkit.outcome import Ack, DeadLetter, DeathReason, Outcome, RetryAfter
from mqkit.testing.harness.errors import HarnessError

T = TypeVar("T")


class _Readable:
    """Reads the body of a message."""

    __slots__ = ()

    raw: bytes
    properties: Properties

    def json(self) -> Any:
        """Read the body as JSON, whatever its content type is.

        :raises HarnessError: it is none
        """
        try:
            return json.loads(self.raw)
        except ValueError as error:
            raise HarnessError(f"this body of {len(self.raw)} bytes is no JSON: {error}") from None

    @overload
    def body_as(self, kind: type[T]) -> T: ...

    @overload
    def body_as(self, kind: Any) -> Any: ...

    def body_as(self, kind: Any) -> Any:
        """Read the body as a handler does that takes this type: a model, `list[int]`, `bytes`.

            posted = h.published[0].body_as(OrderPosted)

        :raises mqkit.errors.DecodeError: it is not of the type; the message names what is wrong
        """
        decoder = BodyDecoder(kind)
        decoder.complete()
        return decoder.decode(self.raw, self.properties)


@dataclass(frozen=True, slots=True)
class Published(_Readable):
    """A message that the service published and the broker confirmed.

    (event,) = h.published
    assert (event.exchange, event.routing_key) == ("payments", "order.posted")
    assert event.json() == {"id": "o-1"}
    """

    exchange: str
    routing_key: str
    body: Any
    """Decoded, where it is JSON; else its bytes."""
    properties: Properties = field(repr=False)
    raw: bytes = field(repr=False)
    """The body as it was published."""
    due: datetime | None = None
    """When the broker is to publish it, by the harness's clock; None is at once."""

    @property
    def message_id(self) -> str | None:
        """The message's stable identity."""
        return self.properties.message_id

    @property
    def headers(self) -> Mapping[str, HeaderValue]:
        """The message's headers."""
        return self.properties.headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(_Readable):
    """One delivery that was settled."""

    handler: str
    """The handler's name: the module and qualified name of its function."""
    queue: str
    message_id: str | None
    exchange: str
    """Where the message was first published, over all its retries."""
    routing_key: str
    attempt: int
    """1 for the first run."""
    body: Any
    """Decoded, where it is JSON; else its bytes."""
    properties: Properties = field(repr=False)
    raw: bytes = field(repr=False)
    """The body as it was delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled(Run):
    """A delivery that was acknowledged: its handler returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried(Run):
    """A delivery that comes back after `delay` seconds, because of `error`."""

    delay: float
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLettered(Run):
    """A delivery that went to the dead letter queue, because of `error`."""

    reason: DeathReason
    error: BaseException


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a message, and its outcome (of `mqkit.outcome`).

    `Lost` is a delivery whose channel died, and `Requeue` one that a stopping service gave back;
    the same attempt is then made once more.
    """

    number: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a message in a queue, over all its attempts."""

    message_id: str | None
    queue: str
    attempts: tuple[Attempt, ...]

    @property
    def outcome(self) -> Outcome:
        """The outcome of the last attempt."""
        return self.attempts[-1].outcome

    @property
    def acked(self) -> bool:
        """True if it was handled in the end."""
        return isinstance(self.outcome, Ack)

    @property
    def dead_lettered(self) -> bool:
        """True if it ended in the dead letter queue."""
        return isinstance(self.outcome, DeadLetter)

    @property
    def reason(self) -> DeathReason | None:
        """Why it was dead-lettered; None if it was not."""
        return self.outcome.reason if isinstance(self.outcome, DeadLetter) else None

    @property
    def error(self) -> BaseException | None:
        """What the last attempt raised; None if it was acknowledged."""
        return getattr(self.outcome, "error", None)

    @property
    def delays(self) -> list[float]:
        """The waits before its retries, in seconds, as the policy said."""
        outcomes = (attempt.outcome for attempt in self.attempts)
        return [outcome.delay for outcome in outcomes if isinstance(outcome, RetryAfter)]


@dataclass(frozen=True, slots=True)
class DeadMessage(_Readable):
    """A message in a dead letter queue.

    What the broker itself dead-lettered (the delivery limit, expiry) has no `reason`, no error
    and no attempts: only `headers["x-death"]`.
    """

    message_id: str | None
    body: Any
    """Decoded, where it is JSON; else its bytes."""
    reason: DeathReason | None
    error_type: str | None
    error_message: str | None
    attempts: int | None
    properties: Properties = field(repr=False)
    raw: bytes = field(repr=False)
    """The body as it is in the queue."""

    @property
    def headers(self) -> Mapping[str, HeaderValue]:
        """The message's headers, mqkit's own included."""
        return self.properties.headers


def dead_message(incoming: Incoming) -> DeadMessage:
    """Read what a message in a dead letter queue says of itself."""
    headers = incoming.properties.headers
    reason, attempts = headers.get(Header.REASON), headers.get(Header.ATTEMPTS)
    error_type, error_message = headers.get(Header.ERROR_TYPE), headers.get(Header.ERROR_MESSAGE)
    return DeadMessage(
        message_id=incoming.properties.message_id,
        body=decoded(incoming.body, incoming.properties),
        reason=next((each for each in DeathReason if each == reason), None),
        error_type=error_type if isinstance(error_type, str) else None,
        error_message=error_message if isinstance(error_message, str) else None,
        attempts=attempts if isinstance(attempts, int) else None,
        properties=incoming.properties,
        raw=incoming.body,
    )


def decoded(body: bytes, properties: Properties) -> Any:
    """Decode a body to Python values where it is JSON; else return it as it is."""
    if not is_json(properties.content_type or ""):
        return body
    try:
        return json.loads(body)
    except ValueError:
        return body
