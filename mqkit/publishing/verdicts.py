"""Judges what the broker says of a publish, and what is known of it when a deadline passed.

The one place that does, for publishes and for requests. Nothing here waits or writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from mqkit.drivers.base import Acked, Closed, Gone, Nacked, Returned, Verdict
from mqkit.errors import (
    BlockedError,
    ConnectionLostError,
    ExchangeNotFoundError,
    NackedError,
    PublishError,
    PublishRefusedError,
    PublishTimeoutError,
    UnroutableError,
)
from mqkit.message import Message

NOT_FOUND = 404
PRECONDITION_FAILED = 406

DEFAULT_EXCHANGE = "amq.default"
"""What RabbitMQ calls the exchange with the empty name where it refuses a publish to it."""

HARMLESS_CODES = frozenset({0, 200, 320, 541})
"""Reply codes that blame no message: lost, closed by us, forced to close, broker failing."""


class Stage(StrEnum):
    """What a message waits for, in the words of an error when its deadline passes."""

    WINDOW = "a place in the window of unconfirmed publishes"
    CONNECTION = "a connection to the broker"
    BLOCKED = "the broker to stop blocking publishers"
    PROBE = "the broker's answer to a probe"
    EXCHANGE = "the broker's answer about the exchange"
    LADDER = "the queues that hold it until it is due to be declared"
    CONFIRM = "the broker's confirm"
    REPLY = "the reply"


@dataclass(slots=True)
class Progress:
    """How far one message came, for the error if it comes no further."""

    stage: Stage = Stage.WINDOW
    written: bool = False
    lost: bool = False
    """Whether a verdict was lost with its channel: what was written then may be stored."""
    held_again: bool = False
    """Whether the ladder was declared again for it, as a part of that was gone."""


class Doubt(Enum):
    """Why a verdict does not tell whether a message is stored: its channel closed before."""

    LOST = "not over this message: it may be stored"
    SUSPECT = "over this message or another one of the channel"


def judge(
    message: Message, verdict: Verdict, *, alone: bool = False
) -> PublishError | Doubt | None:
    """Judge the broker's verdict on a message: its error, a doubt, or None if it is stored.

    :param alone: nothing else was in flight on the channel, so that it can have closed over nothing
        else
    """
    match verdict:
        case Acked():
            return None
        case Nacked():
            problem = "a queue refused it (basic.nack); it may be stored all the same"
            return publish_error(NackedError, message, problem)
        case Returned(code, text):
            problem = f"the broker returned it ({code} {text}): no queue is bound for it"
            return publish_error(UnroutableError, message, problem)
        case Gone(why) if why.code in HARMLESS_CODES:
            return Doubt.LOST
        case Gone(why) if alone:
            return _refused(message, why)
        case Gone(why):
            return _judge_channel_error(message, why)


def deadline_passed(
    message: Message,
    waited_for: str,
    seconds: float,
    *,
    blocked: str | None,
    written: bool,
    unreachable: str | None = None,
) -> PublishError:
    """Make the error of a message that was not confirmed within so many seconds.

    :param waited_for: the `Stage` it was at
    :param blocked: why the broker blocks publishers, if it does
    :param written: whether it was written once at least
    :param unreachable: why there is no connection, if that is known
    """
    within = f"within {seconds:g} s"
    if waited_for == Stage.CONFIRM or (blocked and written):
        problem = f"no confirm {within}; it may be stored" + (
            f" (the broker blocks publishers: {blocked})" if blocked else ""
        )
        return publish_error(PublishTimeoutError, message, problem)
    if blocked:
        problem = f"the broker blocks publishers ({blocked}) and did not stop {within}"
        return publish_error(BlockedError, message, f"{problem}; nothing was written")
    known = "it may be stored" if written else "nothing was written"
    why = f" ({unreachable})" if unreachable and waited_for == Stage.CONNECTION else ""
    problem = f"waited for {waited_for}, which did not come {within}{why}; {known}"
    return connection_lost(message, problem, written=written)


def publish_error(kind: type[PublishError], message: Message, problem: str) -> PublishError:
    """Make an error of one kind about one message."""
    return kind(
        problem,
        exchange=message.exchange,
        routing_key=message.routing_key,
        message_id=message.properties.message_id,
    )


def connection_lost(message: Message, problem: str, *, written: bool) -> PublishError:
    """Make the error of a message that no connection carried through."""
    error = publish_error(ConnectionLostError, message, problem)
    error.may_be_stored = written
    return error


def exchange_not_found(message: Message, refusal: str | None = None) -> PublishError:
    """Make the error of a message whose exchange the broker does not know.

    :param refusal: why the broker did not let this user declare it, if that was tried
    """
    advice = (
        "; declare it, as a publish to an Exchange does and one to a name does not, or start the "
        "service that does"
        if refusal is None
        else f", and this user may not declare it ({refusal}); start the service that does"
    )
    return publish_error(
        ExchangeNotFoundError,
        message,
        f"exchange {message.exchange!r} does not exist in this virtual host{advice}",
    )


def _refused(message: Message, why: Closed) -> PublishError:
    if why.code == NOT_FOUND:
        return exchange_not_found(message)
    return publish_error(PublishRefusedError, message, why.text)


def _judge_channel_error(message: Message, why: Closed) -> PublishError | Doubt:
    """Tell from the broker's words whether it closed a channel over this message.

    RabbitMQ names the exchange where that is the problem, and the size of a body that is too
    large.
    """
    if f"message size {len(message.body)} " in why.text:
        return _refused(message, why)
    if "exchange '" not in why.text:
        return Doubt.SUSPECT
    if f"exchange '{message.exchange or DEFAULT_EXCHANGE}'" not in why.text:
        return Doubt.LOST
    if "topic '" in why.text and f"topic '{message.routing_key}'" not in why.text:
        return Doubt.LOST
    error = _refused(message, why)
    # The exchange was there when this was written, or nothing would have been: it may have taken
    # the message before it went, and the confirm was lost with the channel.
    error.may_be_stored = why.code == NOT_FOUND
    return error
