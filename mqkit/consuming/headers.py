"""Reads mqkit's own headers of a delivery, as far as they are believed: the rule of trust.

Whoever publishes through mqkit cannot set them, but any other client can. Believed, they would
change what becomes of a message: `mqkit-attempt: 99` has no retry left, `mqkit-exchange` says that
it came from elsewhere. So they count on a delivery that came by mqkit's own way only:

- **Retries** come out of the delay ladder, and their delivery names an exchange of it. All of
  mqkit's headers are believed. Who may write to exchanges under `mqkit.delay.v1.` is trusted by
  this; RabbitMQ's permissions keep others out
  (https://www.rabbitmq.com/docs/access-control#authorisation).
- **Dead letters**, in a queue `<queue>.dead` that a handler consumes, come by the default exchange
  under the queue's own name, from mqkit or from the broker. What they tell of the failure is shown
  and carried along. The attempts of their former life do not count: the handler's begin at 1.
  Anybody who may publish to the default exchange can write such a dead letter, and with it what
  its headers say of its origin. That is information and steers nothing in mqkit; a handler that
  publishes to where they point decides on that itself.
- On **all other** deliveries they are dropped. Among those are messages that were published later:
  they come out of the ladder by their own exchange, as if they were published then, and are at
  their first attempt.

What the broker says in `x-death` of a stay in the ladders goes, too.

The number of a publish (`mqkit-publish`) is for the publisher's connection alone and always goes.
`mqkit-unreadable` always stays: a driver adds it where it leaves out headers that cannot be
decoded, and the message is dead-lettered. An outsider who writes it does that to a message of
their own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mqkit.broker.delays import PREFIX
from mqkit.broker.later import OF_DEATHS
from mqkit.clock import monotonic
from mqkit.drivers.base import DriverChannel, Incoming
from mqkit.errors import MessageExpiredError
from mqkit.logging.shown import shown
from mqkit.message import (
    RESERVED_PREFIX,
    Delivery,
    Header,
    HeaderValue,
    Properties,
    text_of,
)
from mqkit.outcome import DeadLetter, DeathReason, Forward, RetryAfter
from mqkit.topology import DEAD_SUFFIX

logger = logging.getLogger(__name__)

_LADDER = f"{PREFIX}."

_LAST_DEATH = "x-last-death-queue"

_OF_COPIES = frozenset({Header.EXCHANGE, Header.ROUTING_KEY, Header.ATTEMPT})
"""Say where a message came from first; those that applications publish have none."""

_OF_A_FORMER_LIFE = frozenset({Header.ATTEMPT, Header.ELAPSED, Header.TIME_TO_LIVE})


def drop_untrusted_headers(incoming: Incoming, queue: str) -> None:
    """Remove the headers that are not believed from a delivery that nobody else has seen yet.

    Copies carry over only what is left (`mqkit.amqp.content_header.carry`), by the same names.
    """
    # A driver makes a dict for each delivery; changing it costs a tenth of new properties.
    headers: Any = incoming.properties.headers
    if not headers:
        return
    headers.pop(Header.PUBLISH, None)
    if _LAST_DEATH in headers:
        _drop_stays_in_ladders(headers)
    if not headers or incoming.exchange.startswith(_LADDER):
        return
    for name in headers:
        if name.startswith(RESERVED_PREFIX):
            break
    else:  # nearly all: a loop costs a third of the list below
        return
    foreign = [name for name in headers if name.startswith(RESERVED_PREFIX)]
    if Header.UNREADABLE in foreign:
        foreign.remove(Header.UNREADABLE)
    if not foreign:
        return
    if _is_dead_letter(incoming, queue):
        foreign = [name for name in foreign if name in _OF_A_FORMER_LIFE]
    for name in foreign:
        del headers[name]
    logger.debug(
        "%s: message %s came with headers that only mqkit may set: %d are dropped",
        queue,
        shown(incoming.properties.message_id),
        len(foreign),
    )


def _drop_stays_in_ladders(headers: dict[str, Any]) -> None:
    """Remove the broker's account of a delay: its ladder is mqkit's business.

    Where the message was dead-lettered elsewhere too, all of the account stays.
    """
    deaths = headers.get("x-death")
    if isinstance(deaths, list) and all(
        isinstance(death, dict) and str(death.get("queue")).startswith(_LADDER) for death in deaths
    ):
        for name in [name for name in headers if name.startswith(OF_DEATHS)]:
            del headers[name]


def _is_dead_letter(incoming: Incoming, queue: str) -> bool:
    return not incoming.exchange and incoming.routing_key == queue and queue.endswith(DEAD_SUFFIX)


def expired(delivery: Delivery, now: float) -> DeadLetter | None:
    """Return the dead letter for a message whose time to live has ended; None if it has not.

    :param now: on the monotonic clock, in seconds
    """
    if delivery.expires is None or now < delivery.expires:
        return None
    return DeadLetter(
        DeathReason.EXPIRED,
        MessageExpiredError("its time to live ended before its handler ran"),
    )


class RunTooLateError(MessageExpiredError):
    """Says that a message's time ended while its run waited for a transaction."""


def too_late(delivery: Delivery, now: float) -> RunTooLateError | None:
    """Return what ends a run whose message expired while it waited; None if it has not.

    :param now: on the monotonic clock, in seconds
    """
    dead = expired(delivery, now)
    return None if dead is None else RunTooLateError(str(dead.error))


def those_too_late(deliveries: Sequence[Delivery], now: float) -> dict[Delivery, RunTooLateError]:
    """Return, of a batch, the messages that expired while their run waited: mostly none.

    :param now: on the monotonic clock, in seconds
    """
    errors = ((each, too_late(each, now)) for each in deliveries if each.expires is not None)
    return {each: error for each, error in errors if error is not None}


def in_time(
    delivery: Delivery, outcome: RetryAfter | DeadLetter | Forward, now: float
) -> RetryAfter | DeadLetter | Forward:
    """Return the outcome, or a dead letter in the place of a copy that would come too late.

    :param now: on the monotonic clock, in seconds
    """
    if delivery.expires is None or isinstance(outcome, DeadLetter):
        return outcome
    if isinstance(outcome, Forward):
        return expired(delivery, now) or outcome
    if now + outcome.delay < delivery.expires:
        return outcome
    error = MessageExpiredError(
        f"its time to live ends before its next attempt, which is due in {outcome.delay:g} s"
    )
    error.__cause__ = outcome.error
    return DeadLetter(DeathReason.EXPIRED, error)


def seconds_to_live(delivery: Delivery, now: float, delay: float = 0.0) -> float | None:
    """Return the seconds that a copy which comes after `delay` has to live; None is for ever.

    :param now: on the monotonic clock, in seconds
    """
    if delivery.expires is None:
        return None
    return max(delivery.expires - now - delay, 0.001)


def to_delivery(incoming: Incoming, queue: str, channel: DriverChannel) -> Delivery:
    """Make a delivery of what came, with what mqkit's own headers say of it.

    Those that are not believed must be gone by then (`drop_untrusted_headers`).

    :param queue: the handler's
    """
    delivery = bare_delivery(incoming, queue, channel)
    headers = incoming.properties.headers
    if headers and not _OF_COPIES.isdisjoint(headers):
        delivery.exchange, delivery.routing_key = first_published_to(
            headers, incoming.exchange, incoming.routing_key
        )
        delivery.attempt = attempt_number(headers)
    if (seconds := time_to_live(incoming.properties)) is not None:
        delivery.expires = monotonic() + seconds
    return delivery


def bare_delivery(incoming: Incoming, queue: str, channel: DriverChannel) -> Delivery:
    """Make a delivery of what came, with nothing that its headers say."""
    return Delivery(
        body=incoming.body,
        properties=incoming.properties,
        exchange=incoming.exchange,
        routing_key=incoming.routing_key,
        queue=queue,
        redelivered=incoming.redelivered,
        tag=incoming.tag,
        channel=channel,
    )


def first_published_to(
    headers: Mapping[str, HeaderValue], exchange: str, routing_key: str
) -> tuple[str, str]:
    """Return the exchange and routing key of the first publish, which copies carry along."""
    first_exchange = text_of(headers.get(Header.EXCHANGE))
    first_key = text_of(headers.get(Header.ROUTING_KEY))
    if isinstance(first_exchange, str) and isinstance(first_key, str):
        return first_exchange, first_key
    return exchange, routing_key


def attempt_number(headers: Mapping[str, HeaderValue]) -> int:
    """Return which attempt it is, by mqkit's own header; 1 where that is missing or nonsense."""
    attempt = headers.get(Header.ATTEMPT)
    if isinstance(attempt, int) and not isinstance(attempt, bool) and attempt >= 1:
        return attempt
    return 1


def elapsed_seconds(headers: Mapping[str, HeaderValue]) -> float:
    """Return the seconds from the first failure to this attempt, by mqkit's own header; else 0.

    It is summed up from waits and runs, not from the clock of the wall: a clock that jumps would
    end a message early.
    """
    elapsed = headers.get(Header.ELAPSED)
    if isinstance(elapsed, int) and not isinstance(elapsed, bool) and elapsed >= 0:
        return elapsed / 1000
    return 0.0


def time_to_live(properties: Properties) -> float | None:
    """Return the seconds that a message is worth handling from now on; None is for ever.

    A retry tells it in mqkit's own header: in the delay ladder, the property would cut the delay
    short, and the broker removes it there.
    """
    left = properties.headers.get(Header.TIME_TO_LIVE)
    if isinstance(left, int) and not isinstance(left, bool) and left >= 0:
        return left / 1000
    return properties.expiration
