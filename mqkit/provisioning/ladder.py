"""What the delay ladder has on a broker: asked of the code that declares it, and compared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from mqkit.broker import delays, later
from mqkit.drivers.base import DriverChannel, QueueState
from mqkit.outcome import DELAY_LEVELS, MAX_DELAY
from mqkit.registration.handler import Handler


@dataclass(frozen=True, slots=True)
class LadderExchange:
    """An exchange of the ladder."""

    name: str
    type: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LadderQueue:
    """A queue of the ladder."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LadderBinding:
    """A binding of the ladder; `kind` is 'queue' or 'exchange'."""

    source: str
    destination: str
    kind: str
    routing_key: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """Return what tells it from others, as a value that can be in a set."""
        arguments = repr(sorted(self.arguments.items()))
        return (self.source, self.destination, self.kind, self.routing_key, arguments)


@dataclass(frozen=True, slots=True)
class Ladder:
    """All exchanges, queues and bindings of a ladder."""

    exchanges: tuple[LadderExchange, ...]
    queues: tuple[LadderQueue, ...]
    bindings: tuple[LadderBinding, ...]


class _Recorder:
    """Notes what is declared on it, in the place of a channel."""

    def __init__(self) -> None:
        self.exchanges: dict[str, LadderExchange] = {}
        self.queues: dict[str, LadderQueue] = {}
        self.bindings: list[LadderBinding] = []

    async def declare_exchange(
        self,
        name: str,
        type: str,  # noqa: A002 - the specification's name
        *,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.exchanges[name] = LadderExchange(name, type, dict(arguments or {}))

    async def declare_queue(
        self, name: str, *, arguments: Mapping[str, Any] | None = None
    ) -> QueueState:
        self.queues[name] = LadderQueue(name, dict(arguments or {}))
        return QueueState(name, 0, 0)

    async def bind_queue(
        self, queue: str, exchange: str, key: str, arguments: Mapping[str, Any] | None = None
    ) -> None:
        self._bind(LadderBinding(exchange, queue, "queue", key, dict(arguments or {})))

    async def bind_exchange(
        self, to: str, source: str, key: str, arguments: Mapping[str, Any] | None = None
    ) -> None:
        self._bind(LadderBinding(source, to, "exchange", key, dict(arguments or {})))

    def _bind(self, binding: LadderBinding) -> None:
        if binding not in self.bindings:
            self.bindings.append(binding)


Declare = Callable[[DriverChannel], Awaitable[None]]


async def declare_ladder(channel: DriverChannel, levels: int) -> None:
    """Declare the ladder of retries with so many levels, from the end on.

    :raises ChannelClosedError: the broker refused it, or the connection was lost
    """
    await delays.declare_exit(channel)
    for level in range(levels):
        await delays.declare_level(channel, level)


async def declare_later(channel: DriverChannel, levels: int) -> None:
    """Declare the ladder of what is published later with so many levels, from the end on.

    :raises ChannelClosedError: the broker refused it, or the connection was lost
    """
    await later.declare_end(channel)
    for level in range(levels):
        await later.declare_level(channel, level)


async def ladder_of(levels: int, later_levels: int = 0) -> Ladder:
    """Return what a ladder of so many levels has.

    :param later_levels: of the ladder of what is published later; 0 leaves that out
    """
    recorder = _Recorder()
    channel = cast(DriverChannel, recorder)
    await declare_ladder(channel, levels)
    if later_levels:
        await declare_later(channel, later_levels)
    return Ladder(
        tuple(recorder.exchanges.values()),
        tuple(recorder.queues.values()),
        tuple(recorder.bindings),
    )


def levels_for(handlers: tuple[Handler, ...]) -> int:
    """Return how many levels the retries of handlers need at most.

    That is for all of a message's retries together, as a policy tells no less. A `RetryLater` may
    ask for more.
    """
    longest = max((each.longest_retry for each in handlers if each.order_by is None), default=0.0)
    return delays.ticks(min(longest, MAX_DELAY)).bit_length()


def known_levels(names: set[str], name_of: Callable[[int], str]) -> int:
    """Return how many levels there are, or should be: up to the highest that is there."""
    return max((n + 1 for n in range(DELAY_LEVELS) if name_of(n) in names), default=0)


def problems_of(wanted: Ladder, there: Ladder, messages: Mapping[str, int]) -> Iterator[str]:
    """Say what is not as it should be with a ladder, and which messages are stuck in it.

    :param there: what the broker has, by its management API
    :param messages: in each of its queues
    """
    exchanges = {each.name: each for each in there.exchanges}
    for each in wanted.exchanges:
        found = exchanges.get(each.name)
        if found is None:
            yield f"exchange {each.name}: it is not there"
        elif found != each:
            yield f"exchange {each.name}: it is not declared as it should be: delete it"
    queues = {each.name: each for each in there.queues}
    for queue in wanted.queues:
        held = queues.get(queue.name)
        if held is None:
            yield f"queue {queue.name}: it is not there"
        elif dict(held.arguments) != dict(queue.arguments):
            yield f"queue {queue.name}: its arguments are not those that it should have"
    bound = {each.key for each in there.bindings}
    for binding in wanted.bindings:
        if binding.key not in bound:
            yield (
                f"{binding.kind} {binding.destination}: it is not bound to exchange "
                f"{binding.source} with key {binding.routing_key!r}"
            )
    yield from stuck(messages)


def stuck(messages: Mapping[str, int]) -> Iterator[str]:
    """Say which messages have nowhere to go."""
    if lost := messages.get(delays.UNDELIVERABLE):
        yield (
            f"queue {delays.UNDELIVERABLE}: {lost} messages came out of the ladder for queues that "
            "were not there"
        )
    for name, count in sorted(messages.items()):
        if count and name.startswith(f"{delays.PREFIX}.to."):
            yield (
                f"queue {name}: {count} messages are due, and the exchange that they are for is "
                "not there, or has no queue for their keys"
            )
