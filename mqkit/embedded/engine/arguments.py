"""The arguments of a queue: what they mean, what they may be, and when two are the same.

https://www.rabbitmq.com/docs/queues#optional-arguments
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mqkit.embedded.engine.routing.exchanges import inequivalent
from mqkit.embedded.errors import ReplyError, not_implemented, precondition_failed
from mqkit.embedded.wire.frames import type_name

CLASSIC, QUORUM = "classic", "quorum"

DEFAULT_DELIVERY_LIMIT = 20
"""Of quorum queues (RabbitMQ 4.0 and later)."""

MAX_PRIORITY = 255
"""The highest `x-max-priority` that a classic queue takes."""

MAX_MILLISECONDS = 315_360_000_000
"""RabbitMQ's own limit for a TTL or an expiry: ten years."""

QUEUE_VERSION = 2
"""The only `x-queue-version` of classic queues that RabbitMQ 4.3 has."""

OVERFLOWS = ("drop-head", "reject-publish", "reject-publish-dlx")

LOCATORS = ("client-local", "balanced")

STRATEGIES = ("at-most-once", "at-least-once")

REFUSED = frozenset(
    {
        "x-consumer-timeout",
        "x-delayed-retry-type",
        "x-delayed-retry-min",
        "x-delayed-retry-max",
        "x-consumer-disconnected-timeout",
        "x-queue-master-locator",
    }
)
"""What RabbitMQ does and this broker does not, refused so that nobody relies on it."""

COMPARED = (
    # The first difference is told, in RabbitMQ's order: the type tells most.
    "x-queue-type",
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-single-active-consumer",
    "x-delivery-limit",
    "x-queue-mode",
    "x-queue-version",
    "x-queue-leader-locator",
    "x-quorum-initial-group-size",
)
"""Arguments that must be the same when a queue is declared again."""


@dataclass(frozen=True, slots=True)
class QueueArguments:
    """A queue's arguments, checked; times in seconds."""

    type: str = CLASSIC
    message_ttl: float | None = None
    expires: float | None = None
    max_length: int | None = None
    max_length_bytes: int | None = None
    overflow: str = "drop-head"
    max_priority: int = 0
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    at_least_once: bool = False
    delivery_limit: int | None = None
    """Redeliveries after which a message is dead-lettered; None is no limit."""
    single_active_consumer: bool = False

    @property
    def is_quorum(self) -> bool:
        """True for `x-queue-type: quorum`."""
        return self.type == QUORUM


def parse(given: Mapping[str, Any], queue: str, vhost: str) -> QueueArguments:
    """Check the arguments of a declaration.

    :raises ReplyError: 406 for one that cannot be, 540 for one that this broker does not do
    """

    def invalid(name: str, why: str) -> ReplyError:
        return precondition_failed(
            f"invalid arg '{name}' for queue '{queue}' in vhost '{vhost}': {why}"
        )

    if given.get("x-queue-type") == "stream":
        raise not_implemented("streams are not implemented by this broker")
    if (why := _queue_type(given.get("x-queue-type", CLASSIC))) is not None:
        raise invalid("x-queue-type", why)
    type_ = type_of(given)
    _check_names(given, type_, f"queue '{queue}' in vhost '{vhost}'")
    exchange = given.get("x-dead-letter-exchange", "")
    if not isinstance(exchange, str):
        raise precondition_failed(
            f"invalid type '{type_name(exchange)}' for arg 'x-dead-letter-exchange' in queue "
            f"'{queue}' in vhost '{vhost}'"
        )
    for name, check in CHECKS.items():
        if name in given and (why := check(given[name])) is not None:
            raise invalid(name, why)
    if type_ == QUORUM and given.get("x-overflow") == "reject-publish-dlx":
        raise invalid("x-overflow", "reject-publish-dlx is not supported by quorum queues")
    if "x-dead-letter-routing-key" in given and "x-dead-letter-exchange" not in given:
        raise invalid("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined")
    return _arguments(given, type_)


def _check_names(given: Mapping[str, Any], type_: str, whose: str) -> None:
    for name in given:
        if name in (QUORUM_REFUSES if type_ == QUORUM else CLASSIC_REFUSES):
            raise precondition_failed(
                f"invalid arg '{name}' for {whose} of queue type rabbit_{type_}_queue"
            )
        if name in REFUSED:
            raise not_implemented(f"argument '{name}' is not implemented by this broker")


def type_of(given: Mapping[str, Any]) -> str:
    """Return the queue type that checked arguments ask for; an empty one is the default."""
    return str(given.get("x-queue-type") or CLASSIC)


def _arguments(given: Mapping[str, Any], type_: str) -> QueueArguments:
    limit = given.get("x-delivery-limit", DEFAULT_DELIVERY_LIMIT) if type_ == QUORUM else None
    overflow = given.get("x-overflow", "drop-head")
    dead_letter_exchange = given.get("x-dead-letter-exchange")
    return QueueArguments(
        type=type_,
        message_ttl=_seconds(given.get("x-message-ttl")),
        expires=_seconds(given.get("x-expires")),
        max_length=given.get("x-max-length"),
        max_length_bytes=given.get("x-max-length-bytes"),
        overflow=overflow,
        max_priority=given.get("x-max-priority", 0),
        dead_letter_exchange=dead_letter_exchange,
        dead_letter_routing_key=given.get("x-dead-letter-routing-key"),
        # Without all three RabbitMQ falls back to at-most-once, without a word.
        at_least_once=(
            type_ == QUORUM
            and given.get("x-dead-letter-strategy") == "at-least-once"
            and overflow == "reject-publish"
            and dead_letter_exchange is not None
        ),
        # -1 is without limit (RabbitMQ 4.0 and later).
        delivery_limit=limit if limit is not None and limit >= 0 else None,
        single_active_consumer=bool(given.get("x-single-active-consumer", False)),
    )


def consumer_priority(
    given: Mapping[str, Any], queue: QueueArguments, name: str, vhost: str
) -> int:
    """Check the arguments of a consumer, and return its priority.

    :raises ReplyError: 406 for one of streams', or a priority that is no integer; 540 for one that
        quorum queues of RabbitMQ have and these have not
    """
    for argument in given:
        if argument in CONSUMERS_OF_STREAMS or (
            argument in CONSUMERS_OF_QUORUM and not queue.is_quorum
        ):
            raise precondition_failed(
                f"invalid arg '{argument}' for queue '{name}' in vhost '{vhost}' of queue type "
                f"rabbit_{queue.type}_queue"
            )
        if argument in CONSUMERS_OF_QUORUM:
            raise not_implemented(f"argument '{argument}' is not implemented by this broker")
    priority = given.get("x-priority", 0)
    if (why := _integer(priority)) is not None:
        raise precondition_failed(
            f"invalid arg 'x-priority' for queue '{name}' in vhost '{vhost}': {why}"
        )
    return int(priority)


def expiration_fault(text: str) -> str | None:
    """Say what is wrong with a message's `expiration`, in RabbitMQ's words; None if nothing is."""
    found = re.match(r"[+-]?[0-9]+", text)
    if found is None:
        return "no_integer"
    rest = text[found.end() :]
    return f'{{leftover_string,"{rest}"}}' if rest else _milliseconds(int(found[0]))


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def check_equivalent(
    queue: str,
    vhost: str,
    *,
    received: tuple[bool, bool, Mapping[str, Any]],
    current: tuple[bool, bool, Mapping[str, Any]],
) -> None:
    """Compare durable, auto-delete and arguments of a declaration with what is there.

    :raises ReplyError: 406, naming the first difference
    """
    whose = f"queue '{queue}'"
    for index, what in enumerate(("durable", "auto_delete")):
        if received[index] != current[index]:
            raise inequivalent(what, whose, vhost, received[index], current[index])
    for name in COMPARED:
        asked, there = received[2].get(name), current[2].get(name)
        if name == "x-queue-type":
            asked, there = (each[2].get(name, CLASSIC) for each in (received, current))
        if asked != there or isinstance(asked, bool) is not isinstance(there, bool):
            raise inequivalent(name, whose, vhost, asked, there)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(value: Any) -> str | None:
    return None if _is_integer(value) else f'"expected integer, got {type_name(value)}"'


def _natural(value: Any) -> str | None:
    why = _integer(value)
    return f"{{value_negative,{value}}}" if why is None and value < 0 else why


def _positive(value: Any) -> str | None:
    why = _natural(value)
    return "{value_zero,0}" if why is None and value == 0 else why


def _milliseconds(value: Any) -> str | None:
    why = _natural(value)
    if why is None and value > MAX_MILLISECONDS:
        return f"{{value_too_large,{value}}}"
    return why


def _expires(value: Any) -> str | None:
    return _positive(value) or _milliseconds(value)


def _priority(value: Any) -> str | None:
    why = _natural(value)
    if why is None and value > MAX_PRIORITY:
        return f"{{max_value_exceeded,{value}}}"
    return why


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else f"{{unacceptable_type,{type_name(value)}}}"


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"{{unacceptable_type,{type_name(value)}}}"


def _one_of(values: tuple[str, ...], why: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        return _text(value) or (None if value in values else why)

    return check


def _queue_type(value: Any) -> str | None:
    why = _text(value)
    if why is None and value not in ("", CLASSIC, QUORUM):
        return f"\"unsupported queue type '{value}'\""
    return why


def _queue_version(value: Any) -> str | None:
    why = _integer(value)
    if why is None and value != QUEUE_VERSION:
        return f"\"unsupported queue version '{value}'\""
    return why


CHECKS: dict[str, Callable[[Any], str | None]] = {
    "x-message-ttl": _milliseconds,
    "x-expires": _expires,
    "x-max-length": _natural,
    "x-max-length-bytes": _natural,
    "x-max-priority": _priority,
    "x-overflow": _one_of(OVERFLOWS, "invalid_overflow"),
    "x-dead-letter-routing-key": _text,
    "x-dead-letter-strategy": _one_of(STRATEGIES, "invalid_dlx_strategy"),
    # RabbitMQ 4.3 takes anything here, and heeds no more than a number.
    "x-delivery-limit": _integer,
    "x-single-active-consumer": _boolean,
    "x-queue-version": _queue_version,
    "x-queue-leader-locator": _one_of(LOCATORS, "invalid_queue_locator_arg"),
    "x-quorum-initial-group-size": _positive,
    "x-max-in-memory-length": _natural,
    "x-max-in-memory-bytes": _natural,
}
"""For each argument, what is wrong with a value; None if nothing is."""

STREAMS_ONLY = frozenset(
    {
        "x-max-age",
        "x-stream-max-segment-size-bytes",
        "x-stream-filter-size-bytes",
        "x-initial-cluster-size",
    }
)

CONSUMERS_OF_STREAMS = frozenset(
    {"x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered"}
)
"""Arguments of consumers that only streams take."""

CONSUMERS_OF_QUORUM = frozenset({"x-consumer-timeout"})
"""Arguments of consumers that only RabbitMQ 4.3's quorum queues take, and do something with."""

QUORUM_REFUSES = STREAMS_ONLY | {
    "x-max-priority",
    "x-queue-mode",
    "x-queue-master-locator",
    "x-queue-version",
}

CLASSIC_REFUSES = STREAMS_ONLY | {
    "x-consumer-disconnected-timeout",
    "x-consumer-timeout",
    "x-delayed-retry-max",
    "x-delayed-retry-min",
    "x-delayed-retry-type",
    "x-delivery-limit",
    "x-dead-letter-strategy",
    "x-max-in-memory-bytes",
    "x-max-in-memory-length",
    "x-quorum-initial-group-size",
}
