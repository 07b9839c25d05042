"""Exchanges, queues and bindings as plain values, to be declared on the broker.

Queues are durable quorum queues with a delivery limit and a dead letter queue unless stated
otherwise. Nothing here talks to a broker; `declare` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

from mqkit.amqp.arguments import (
    EXPIRES,
    OWN_ARGUMENTS,
    SINGLE_ACTIVE,
    argument_problems,
    dead_letter_arguments,
    field_problems,
)
from mqkit.checks import checked
from mqkit.checks.names import check_name
from mqkit.errors import ConfigurationError

ExchangeType = Literal["direct", "fanout", "topic", "headers"]
QueueType = Literal["quorum", "classic"]

DEFAULT_DELIVERY_LIMIT = 20
"""How often a message may come back without an ack, as RabbitMQ 4.0 has it; at the next time, after
21 deliveries, the broker dead-letters it. From 4.3 a nack does not count."""

UNLIMITED_DELIVERIES = 1_000_000_000
"""For dead letter queues: from 4.0 a quorum queue without a limit gets one of 20 and drops what
passes it, and -1 means unlimited on 4.x but zero on 3.x; a large number means the same on both."""

MAX_DELIVERIES = 2**31 - 1
"""The highest limit that is asked for: the broker has it as a whole number."""

MAX_QUEUE_NAME = 190
"""Bytes in the name of a handler's queue: the delay ladder puts its 28 levels before it."""

DEAD_SUFFIX = ".dead"

MAX_PARTITIONS = 1000
"""Each is a queue of its own, and a consumer in each process."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange. `declare=False` takes one that somebody else declares, and names its type.

    `mandatory=False` is for events that may have no listener yet: what is published to this value,
    and is not told otherwise, is no error where no queue is bound for it. The broker knows nothing
    of it, so that two values may differ in it and be one exchange.

    :raises ConfigurationError: its name or another field cannot be declared
    """

    name: str
    type: ExchangeType = "topic"
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    declare: bool = True
    mandatory: bool = field(default=True, compare=False)

    def __post_init__(self) -> None:
        check_name("an exchange", self.name)
        if self.type not in ("direct", "fanout", "topic", "headers"):
            raise ConfigurationError(
                f"exchange {self.name!r}: the type is direct, fanout, topic or headers, "
                f"not {self.type!r}"
            )
        for problem in field_problems(self):
            raise ConfigurationError(f"exchange {self.name!r}: {problem}")
        if self.declare and self.name.startswith("amq."):
            raise ConfigurationError(
                f"exchange {self.name!r}: names under 'amq.' belong to the broker; "
                "use it with declare=False"
            )

    def key(self, routing_key: str = "", arguments: Mapping[str, Any] | None = None) -> Source:
        """Return what a queue binds to: this exchange, with a routing key or topic pattern."""
        given = {} if arguments is None else arguments
        return Source(self, routing_key, dict(given) if isinstance(given, Mapping) else given)

    def carries(self, routing_key: str, *bodies: Any) -> Sent:
        """Return what a service publishes here, for its `publishes`: bodies of these types.

        `routing_key` is one key, or a pattern of those that there are: `alert.*`.
        """
        return Sent(self.key(routing_key), bodies)


@dataclass(frozen=True, slots=True)
class Source:
    """An exchange and the routing key to bind with; made by `Exchange.key`."""

    exchange: Exchange
    routing_key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.exchange, Exchange):
            raise ConfigurationError(
                f"a binding is to an Exchange, not to {checked.shown(self.exchange)}"
            )
        what = f"exchange {self.exchange.name!r}"
        if not isinstance(self.routing_key, str):
            raise ConfigurationError(
                f"{what}: a routing key is text, not {checked.shown(self.routing_key)}"
            )
        if problem := checked.text_problem(self.routing_key):
            raise ConfigurationError(
                f"{what}: the routing key {self.routing_key[:40]!r}... {problem}"
            )
        for problem in argument_problems(self.arguments):
            raise ConfigurationError(f"{what}: {problem}")


@dataclass(frozen=True, slots=True)
class Sent:
    """Messages that a service says it publishes; made by `Exchange.carries`."""

    source: Source
    bodies: tuple[Any, ...]

    def __post_init__(self) -> None:
        for body in self.bodies:
            if isinstance(body, str):
                raise ConfigurationError(
                    f"exchange {self.source.exchange.name!r}: carries takes the types of bodies, "
                    f"not {checked.shown(body)}"
                )


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue, durable and quorum unless stated otherwise.

    `delivery_limit` is how many deliveries may end without an ack (a killed worker, above all);
    at the one after that, the broker dead-letters the message. It is for quorum queues.
    `dead_letters=False` leaves out the dead letter queue; what is dead-lettered then has nowhere to
    go, so a handler's queue must have one.

    `partitions` is for a handler that keeps an order (`order_by`): the messages of one key go to
    one of so many queues, named `<name>.0` and on, each with a single active consumer, which is
    another process's once that one dies. With 1, the queue itself is the only partition.

    :raises ConfigurationError: the name or the combination of options cannot be declared
    """

    name: str
    type: QueueType = "quorum"
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    delivery_limit: int = DEFAULT_DELIVERY_LIMIT
    dead_letters: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """More `x-` arguments; what mqkit sets itself may not be given here."""
    declare: bool = True
    partitions: int | None = None

    def __post_init__(self) -> None:
        check_name("a queue", self.name, MAX_QUEUE_NAME)
        for problem in self._problems():
            raise ConfigurationError(f"queue {self.name!r}: {problem}")

    def _problems(self) -> Iterator[str]:
        yield from field_problems(self)
        if self.type not in ("quorum", "classic"):
            yield f"the type is quorum or classic, not {self.type!r}"
        if self.declare and self.name.startswith("amq."):
            yield "names under 'amq.' belong to the broker; use it with declare=False"
        if self.type == "quorum" and (not self.durable or self.exclusive or self.auto_delete):
            yield (
                "a quorum queue is durable, not exclusive and not auto-deleted; "
                "say type='classic' for one that is not"
            )
        if {"*", "#"} & set(self.name.split(".")):
            yield "its retries are routed by its name, in which a word may not be '*' or '#'"
        yield from self._limit_problems()
        if self.partitions is not None:
            yield from self._partition_problems(self.partitions)
        for name in self.arguments:
            if name in OWN_ARGUMENTS:
                yield f"{name} is set by mqkit; {OWN_ARGUMENTS[name]}"

    def _limit_problems(self) -> Iterator[str]:
        if not checked.is_whole(self.delivery_limit, 1, MAX_DELIVERIES):
            yield (
                f"delivery_limit is 1 or more, a whole number, "
                f"not {checked.shown(self.delivery_limit)}"
            )
        elif self.type == "classic" and self.delivery_limit != DEFAULT_DELIVERY_LIMIT:
            yield (
                f"delivery_limit={self.delivery_limit} is for quorum queues: RabbitMQ does not "
                "count the deliveries of a classic one"
            )

    def _partition_problems(self, partitions: int) -> Iterator[str]:
        if not checked.is_whole(partitions, 1, MAX_PARTITIONS):
            given = checked.shown(partitions)
            yield f"partitions is 1 to {MAX_PARTITIONS}, a whole number, not {given}"
        elif len(self.partition(partitions - 1).encode()) > MAX_QUEUE_NAME:
            yield f"its partitions' names, with their numbers, are over {MAX_QUEUE_NAME} bytes"
        if self.exclusive:
            yield "an exclusive queue has one consumer in any case, and cannot be partitioned"
        if SINGLE_ACTIVE in self.arguments:
            yield f"{SINGLE_ACTIVE} is set by partitions="

    def partition(self, number: int) -> str:
        """Return the name of a partition, counted from 0."""
        return self.name if self.partitions == 1 else f"{self.name}.{number}"

    def with_partitions(self) -> tuple[Queue, ...]:
        """Return the queue itself and those of its partitions, where it has several."""
        return (self, *self.partition_queues())

    def partition_queues(self) -> tuple[Queue, ...]:
        """Return the queues that its messages are handled from, where it has several partitions.

        They have the queue's own dead letter queue.
        """
        if self.partitions is None or self.partitions == 1:
            return ()
        dead_letters = dead_letter_arguments(self.type, self.dead_queue)
        arguments = {**self.arguments, SINGLE_ACTIVE: True, **dead_letters}
        return tuple(
            _Partition(
                self.partition(number),
                type=self.type,
                durable=self.durable,
                auto_delete=self.auto_delete,
                delivery_limit=self.delivery_limit,
                dead_letters=False,
                arguments=arguments,
                declare=self.declare,
            )
            for number in range(self.partitions)
        )

    @property
    def is_single(self) -> bool:
        """Whether one consumer at a time gets its messages: it has partitions, or says so itself.

        Of a queue that others declare so, its `arguments` must tell.
        """
        return self.partitions is not None or bool(self.arguments.get(SINGLE_ACTIVE))

    @property
    def needs_consumer(self) -> bool:
        """Whether the broker deletes it, and what is in it, while nobody consumes it."""
        return self.auto_delete or EXPIRES in self.arguments

    @property
    def keeps_dead_letters(self) -> bool:
        """Whether it is declared for the dead letters of another queue."""
        return isinstance(self, _DeadLetterQueue)

    @property
    def dead_queue(self) -> str:
        """The name of the dead letter queue behind this one."""
        return self.name + DEAD_SUFFIX

    def declared_arguments(self) -> dict[str, Any]:
        """Build the `x-` arguments that the queue is declared with."""
        own: dict[str, Any] = {"x-queue-type": self.type}
        if self.type == "quorum":
            own["x-delivery-limit"] = self.delivery_limit
        if self.dead_letters:
            own |= dead_letter_arguments(self.type, self.dead_queue)
        if self.partitions is not None:
            own[SINGLE_ACTIVE] = True
        return {**own, **self.arguments}


class _Partition(Queue):
    """One of several partitions: a queue whose arguments are mqkit's own, and not checked."""

    __slots__ = ()

    def _problems(self) -> Iterator[str]:
        yield from ()


DEFAULT_CONSUMER_TIMEOUT = 1800.0
"""Seconds that RabbitMQ waits for an ack, unless it is told otherwise
(https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout)."""


def consumer_timeout(queue: Queue) -> float:
    """Return the seconds after which the broker takes an unacknowledged message back.

    The queue's own `x-consumer-timeout` (in milliseconds), or else RabbitMQ's default.
    """
    own = queue.arguments.get("x-consumer-timeout")
    return own / 1000 if isinstance(own, int) and own > 0 else DEFAULT_CONSUMER_TIMEOUT


def dead_letter_queue(queue: Queue) -> Queue:
    """Return the dead letter queue of a queue; it limits and dead-letters nothing itself."""
    return _DeadLetterQueue(queue.dead_queue, type=queue.type, dead_letters=False)


class _DeadLetterQueue(Queue):
    """A queue as mqkit declares it for dead letters, whether a handler consumes it or not."""

    __slots__ = ()

    def declared_arguments(self) -> dict[str, Any]:
        own: dict[str, Any] = {"x-queue-type": self.type}
        if self.type == "quorum":
            own["x-delivery-limit"] = UNLIMITED_DELIVERIES
        return own


def handled_dead_letters(queue: Queue, of: Queue) -> Queue:
    """Return a handler's queue as declared where it is the dead letter queue of `of`.

    It is declared as it was before there was a handler, so that it may be there already: without a
    delivery limit, and without dead letters of the broker's. Those of its handler are in a queue of
    its own, as ever.

    :raises ConfigurationError: it asks for something that a dead letter queue is not
    """
    plain = Queue(queue.name, type=of.type, delivery_limit=queue.delivery_limit)
    if replace(queue, declare=True, delivery_limit=plain.delivery_limit) != plain:
        raise ConfigurationError(
            f"queue {queue.name!r} keeps the dead letters of queue {of.name!r}, and is declared "
            f"for it; {difference(plain, queue)}: say Queue({queue.name!r}, type={of.type!r}) alone"
        )
    return _DeadLetterQueue(queue.name, type=of.type)


@dataclass(frozen=True, slots=True)
class Binding:
    """A queue bound to an exchange."""

    queue: str
    source: Source


@dataclass(frozen=True, slots=True)
class Topology:
    """A set of exchanges, queues and bindings without contradictions."""

    exchanges: tuple[Exchange, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()

    @classmethod
    def of_queue(cls, queue: Queue, sources: Iterable[Source] = ()) -> Topology:
        """Collect what one handler needs: its queue, the dead letter queue, and the bindings."""
        sources = tuple(sources)
        dead = (dead_letter_queue(queue),) if queue.dead_letters else ()
        return cls(
            exchanges=_union("exchange", (source.exchange for source in sources)),
            queues=(*dead, *queue.with_partitions()),
            bindings=tuple(Binding(queue.name, source) for source in sources),
        )

    def merge(self, other: Topology) -> Topology:
        """Return both together.

        :raises ConfigurationError: the same name is declared in two ways; it names the difference
        """
        return Topology(
            _union("exchange", (*self.exchanges, *other.exchanges)),
            _union("queue", (*self.queues, *other.queues)),
            (*self.bindings, *(b for b in other.bindings if b not in self.bindings)),
        )


_Named = TypeVar("_Named", Exchange, Queue)


def _union(kind: str, items: Iterable[_Named]) -> tuple[_Named, ...]:
    known: dict[str, _Named] = {}
    for item in items:
        first = known.setdefault(item.name, item)
        if isinstance(first, _DeadLetterQueue) and isinstance(item, _DeadLetterQueue):
            continue  # its handler's, and as that of another queue
        if first != item:
            raise ConfigurationError(
                f"{kind} {item.name!r} is declared in two ways: {difference(first, item)}"
            )
    return tuple(known.values())


def difference(first: Exchange | Queue, second: Exchange | Queue) -> str:
    """Say how two declarations of one name differ: 'durable is True in one and ...'."""
    return "; ".join(
        f"{item.name} is {getattr(first, item.name)!r} in one and {getattr(second, item.name)!r} "
        "in the other"
        for item in fields(first)
        if item.compare and getattr(first, item.name) != getattr(second, item.name)
    )
