"""What a broker has, as far as it lets somebody see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class LiveExchange:
    """An exchange on the broker; `difference` is what AMQP alone tells, where that is not None."""

    name: str
    type: str = ""
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    difference: str | None = None


@dataclass(frozen=True, slots=True)
class LiveQueue:
    """A queue on the broker.

    `difference` says, by AMQP alone, how it is not as declared: '' is that it is alike, and None
    that its fields tell.
    """

    name: str
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    messages: int = 0
    consumers: int = 0
    difference: str | None = None
    kind: str = ""
    """Its type, where the broker tells it beside its arguments."""


@dataclass(frozen=True, slots=True)
class LiveBinding:
    """A queue's binding on the broker."""

    queue: str
    exchange: str
    routing_key: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Live:
    """What a broker has of what services declare, and what hangs on that."""

    server: str
    exchanges: Mapping[str, LiveExchange] = field(default_factory=dict)
    queues: Mapping[str, LiveQueue] = field(default_factory=dict)
    bindings: tuple[LiveBinding, ...] | None = None
    """Of the declared queues; None where they cannot be seen."""
    problems: tuple[str, ...] = ()
    """What policies break."""
    unseen: tuple[str, ...] = ()
    """What could not be seen, for a person."""
