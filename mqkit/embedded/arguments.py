"""The arguments of a queue: what they mean, what they may be, and when two are the same.

https://www.rabbitmq.com/docs/queues#optional-arguments
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mqkit.embedded.errors import ReplyError, not_implemented, precondition_failed
from mqkit.embedded.exchanges import inequivalent

CLASSIC, QUORUM = "classic", "quorum"

DEFAULT_DELIVERY_LIMIT = 20
"""Of quorum queues (RabbitMQ 4.0 and later)."""

MAX_PRIORITY = 255
"""The highest `x-max-priority` that a classic queue takes."""

MAX_MILLISECONDS = 2**32 - 1
"""RabbitMQ's own limit for a TTL or an expiry: what an Erlang timer takes."""

OVERFLOWS = ("drop-head", "reject-publish", "reject-publish-dlx")

STRATEGIES = ("at-most-once", "at-least-once")

REFUSED = frozenset(
    {
        "x-delayed-retry-type",
        "x-delayed-retry-min",
        "x-delayed-retry-max",
        "x-consumer-timeout",
        "x-consumer-disconnected-timeout",
        "x-max-age",
        "x-stream-max-segment-size-bytes",
        "x-stream-filter-size-bytes",
        "x-initial-cluster-size",
    }
)
"""What RabbitMQ does and this broker does not, refused so that nobody relies on it."""

COMPARED = (
    "x-message-ttl",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-delivery-limit",
    "x-single-active-consumer",
    "x-queue-type",
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

    for name in given:
        if name in REFUSED:
            raise not_implemented(f"argument '{name}' is not implemented by this broker")
    for name, check in CHECKS.items():
        if name in given and (why := check(given[name])) is not None:
            raise invalid(name, why)
    type_ = _queue_type(given)
    for name in QUORUM_REFUSES if type_ == QUORUM else CLASSIC_REFUSES:
        if name in given:
            raise invalid(name, f"not supported by queue type {type_}")
    if type_ == QUORUM and given.get("x-overflow") == "reject-publish-dlx":
        raise invalid("x-overflow", "reject-publish-dlx is not supported by quorum queues")
    if "x-dead-letter-routing-key" in given and "x-dead-letter-exchange" not in given:
        raise invalid("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined")
    return _arguments(given, type_)


def _queue_type(given: Mapping[str, Any]) -> str:
    type_ = given.get("x-queue-type", CLASSIC)
    if type_ == "stream":
        raise not_implemented("streams are not implemented by this broker")
    if type_ not in (CLASSIC, QUORUM):
        raise precondition_failed(f"unknown queue type '{type_}'")
    return str(type_)


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
            asked, there = asked or CLASSIC, there or CLASSIC
        if asked != there or isinstance(asked, bool) is not isinstance(there, bool):
            raise inequivalent(name, whose, vhost, asked, there)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _natural(value: Any) -> str | None:
    if not _is_integer(value):
        return f"{{unacceptable_type,{type(value).__name__}}}"
    return f"{{value_negative,{value}}}" if value < 0 else None


def _milliseconds(value: Any) -> str | None:
    why = _natural(value)
    if why is None and value > MAX_MILLISECONDS:
        return f"{{value_too_large,{value}}}"
    return why


def _expires(value: Any) -> str | None:
    return "{value_zero,0}" if value == 0 and _is_integer(value) else _milliseconds(value)


def _priority(value: Any) -> str | None:
    why = _natural(value)
    if why is None and value > MAX_PRIORITY:
        return f"{{max_value_exceeded,{value}}}"
    return why


def _integer(value: Any) -> str | None:
    return None if _is_integer(value) else f"{{unacceptable_type,{type(value).__name__}}}"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else f"{{unacceptable_type,{type(value).__name__}}}"


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"{{unacceptable_type,{type(value).__name__}}}"


def _one_of(values: tuple[str, ...]) -> Callable[[Any], str | None]:
    return lambda value: None if value in values else f"invalid value {value!r}"


CHECKS: dict[str, Callable[[Any], str | None]] = {
    "x-message-ttl": _milliseconds,
    "x-expires": _expires,
    "x-max-length": _natural,
    "x-max-length-bytes": _natural,
    "x-max-priority": _priority,
    "x-overflow": _one_of(OVERFLOWS),
    "x-dead-letter-exchange": _text,
    "x-dead-letter-routing-key": _text,
    "x-dead-letter-strategy": _one_of(STRATEGIES),
    "x-delivery-limit": _integer,
    "x-single-active-consumer": _boolean,
    "x-queue-type": _text,
}
"""For each argument, what is wrong with a value; None if nothing is."""

QUORUM_REFUSES = ("x-max-priority", "x-queue-mode", "x-queue-master-locator", "x-queue-version")

CLASSIC_REFUSES = ("x-delivery-limit", "x-dead-letter-strategy", "x-queue-mode")
