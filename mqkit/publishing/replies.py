"""Makes the reply to a request from its handler's outcome, and reads it on the other side. Pure.

It is a message whose body is what the handler returned, with the request's correlation id and the
header `mqkit-reply`. A reply without that header is somebody else's, and taken for a result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from mqkit.codec import BodyDecoder, PydanticUserError, encode
from mqkit.errors import ConfigurationError, DecodeError, RequestFailedError, RequestRejectedError
from mqkit.message import Delivery, Header, Message, Properties
from mqkit.outcome import Ack, DeadLetter, DeathReason, Reject

DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"
"""The pseudo-queue to consume from and the `reply_to` to publish with; what the broker makes of it
begins so, too (https://www.rabbitmq.com/docs/direct-reply-to)."""

REPLY_TYPES = 128
"""Types of replies whose validators are kept for the next request."""

MAX_TEXT = 8_000
"""Characters of a reason or an explanation that are sent, and that are taken from a reply."""


class ReplyStatus(StrEnum):
    """How a request ended; the value of the `mqkit-reply` header."""

    OK = "ok"
    REJECTED = "rejected"
    FAILED = "failed"


class Failure(BaseModel):
    """The body of the reply to a request that was rejected or failed."""

    reason: str
    explanation: str | None = None


_FAILURE = BodyDecoder(Failure)


def reply_to(
    delivery: Delivery, outcome: Ack | DeadLetter, new_id: Callable[[], str]
) -> Message | None:
    """Make the reply that a delivery asks for; None where it asks for none.

    Of an error it tells what `Reject` says, and what is wrong with a body that did not validate,
    which names no value; an error's own text may hold what the asker must not see.

    :param new_id: gives the reply's message id
    """
    address = delivery.properties.reply_to
    if not address:
        return None
    if isinstance(outcome, Ack):
        status, (body, content_type) = ReplyStatus.OK, outcome.reply or encode(outcome.result)
    else:
        status, failure = _failure(outcome)
        body, content_type = encode(failure)
    return Message(
        exchange="",
        routing_key=address,
        body=body,
        properties=Properties(
            content_type=content_type,
            headers={Header.REPLY: status.value},
            correlation_id=delivery.properties.correlation_id,
            message_id=new_id(),
        ),
        # RabbitMQ before 4.3 returns every mandatory direct reply, delivered or not.
        mandatory=not address.startswith(DIRECT_REPLY_TO),
    )


def reply_decoder(reply_type: Any) -> BodyDecoder:
    """Make what reads a reply as `reply_type`.

    :raises ConfigurationError: pydantic cannot validate that
    """
    try:
        decoder = BodyDecoder(reply_type)
        # Found with the reply, it would be an error after the request was handled.
        decoder.complete()
    except (PydanticUserError, NameError, SyntaxError) as error:
        raise ConfigurationError(f"a reply cannot be a {reply_type!r}: {error}") from error
    return decoder


class ReplyDecoders:
    """Makes what reads replies, and keeps it for the next request of the same type."""

    def __init__(self) -> None:
        self._kept = functools.lru_cache(REPLY_TYPES)(reply_decoder)

    def of(self, reply_type: Any) -> BodyDecoder:
        """Return what reads a reply as `reply_type`; raises as `reply_decoder`."""
        try:
            hash(reply_type)
        except TypeError:  # Annotated, with something in it that has no hash
            return reply_decoder(reply_type)
        return self._kept(reply_type)


def read_reply(body: bytes, properties: Properties, decoder: BodyDecoder, request: Message) -> Any:
    """Return the result in a reply to `request`, or raise the error that it tells of.

    :raises RequestRejectedError: the handler rejected the request
    :raises RequestFailedError: the request was given up
    :raises DecodeError: the reply is not what `decoder` takes, or no reply at all
    """
    status = properties.headers.get(Header.REPLY, ReplyStatus.OK)
    try:
        if status == ReplyStatus.OK:
            return decoder.decode(body, properties)
        if status not in (ReplyStatus.REJECTED, ReplyStatus.FAILED):
            raise DecodeError(f"its header {Header.REPLY} says what this mqkit does not know")  # noqa: TRY301
        failure: Failure = _FAILURE.decode(body, properties)
    except DecodeError as error:
        raise DecodeError(
            f"the reply to request {request.properties.message_id}: {error}"
        ) from None
    about: dict[str, Any] = {
        "exchange": request.exchange,
        "routing_key": request.routing_key,
        "message_id": request.properties.message_id,
    }
    reason, explanation = failure.reason[:MAX_TEXT], failure.explanation
    if status == ReplyStatus.REJECTED:
        raise RequestRejectedError(reason, **about)
    raise RequestFailedError(reason, explanation=(explanation or "")[:MAX_TEXT] or None, **about)


def _failure(outcome: DeadLetter) -> tuple[ReplyStatus, Failure]:
    error = outcome.error
    if outcome.reason is DeathReason.REJECTED and isinstance(error, Reject):
        return ReplyStatus.REJECTED, Failure(reason=str(error.reason)[:MAX_TEXT])
    explanation = None
    if outcome.reason is DeathReason.UNDECODABLE and isinstance(error, DecodeError):
        explanation = str(error)[:MAX_TEXT]
    return ReplyStatus.FAILED, Failure(reason=outcome.reason.value, explanation=explanation)
