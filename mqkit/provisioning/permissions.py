"""Works out the least permissions with which a service runs. Pure.

What each method asks for is in RabbitMQ's guide (https://www.rabbitmq.com/docs/access-control): to
declare asks for configure, and with a dead letter exchange for read of the queue and write to that
exchange; to bind for write to the queue and read of the exchange; to consume for read; to publish
for write to the exchange.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mqkit.broker.delays import PREFIX
from mqkit.broker.states import STATES
from mqkit.registration.service import Service
from mqkit.topology import Exchange, Queue

LADDER = re.escape(f"{PREFIX}.") + ".+"
"""All of the delay ladders, and what a move puts there."""

DEFAULT = re.escape("amq.default")
"""What RabbitMQ calls the default exchange, by which dead letters and replies go."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """Patterns of names, each of which stands for one queue or exchange, or for a few."""

    service: str
    configure: tuple[str, ...]
    write: tuple[str, ...]
    read: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def expressions(self) -> tuple[str, str, str]:
        """The three regular expressions of `rabbitmqctl set_permissions`."""
        return (expression(self.configure), expression(self.write), expression(self.read))


def expression(patterns: Iterable[str]) -> str:
    """Join patterns to one that a whole name must match; without any it matches none."""
    found = tuple(patterns)
    return f"^({'|'.join(found)})$" if found else "^$"


def permissions_of(service: Service, *, declares: bool = True) -> Permissions:
    """Return what a service must be allowed.

    :param declares: False is a service that runs with `--no-declare`
    """
    needs = _Needs(
        {
            part.name: re.escape(handler.queue.name) + _NUMBER
            for handler in service.handlers
            for part in handler.queue.partition_queues()
        }
    )
    for exchange in service.topology.exchanges:
        needs.exchange(exchange, declares=declares and exchange.declare)
    for exchange in service.published:
        needs.write(exchange.name)
    for queue in service.topology.queues:
        # Queues that nobody else can declare are declared in any case.
        needs.queue(queue, declares=queue.declare and (declares or _is_own(queue)))
    for handler in service.handlers:
        for name in _consumed(handler.queue):
            needs.read_pattern(name)
        for source in handler.sources:
            needs.read(source.exchange.name)
    for each in (needs.configured, needs.written, needs.readable) if declares else (needs.written,):
        each.append(LADDER)
    # By which each process says how it is.
    needs.exchange(Exchange(STATES, "fanout"), declares=declares)
    needs.write(STATES)
    needs.written.append(DEFAULT)
    notes = []
    if service.check_exchange is None:
        notes.append(
            "what it publishes to is not known, beyond what it binds: say "
            "Service(publishes=[...]), or add the exchanges to what it may write to"
        )
    return Permissions(
        service.name,
        tuple(dict.fromkeys(needs.configured)),
        tuple(dict.fromkeys(needs.written)),
        tuple(dict.fromkeys(needs.readable)),
        tuple(notes),
    )


class _Needs:
    def __init__(self, partitions: Mapping[str, str]) -> None:
        self._partitions = partitions
        self.configured: list[str] = []
        self.written: list[str] = []
        self.readable: list[str] = []

    def write(self, name: str) -> None:
        self.written.append(re.escape(name))

    def read(self, name: str) -> None:
        self.readable.append(re.escape(name))

    def read_pattern(self, pattern: str) -> None:
        self.readable.append(pattern)

    def exchange(self, exchange: Exchange, *, declares: bool) -> None:
        if not declares:
            return
        self.configured.append(re.escape(exchange.name))
        alternate = exchange.arguments.get("alternate-exchange")
        if isinstance(alternate, str):
            self.read(exchange.name)
            self.write(alternate)

    def queue(self, queue: Queue, *, declares: bool) -> None:
        name = self._partitions.get(queue.name) or re.escape(queue.name)
        if declares:
            self.configured.append(name)
            if queue.dead_letters or "x-dead-letter-exchange" in queue.arguments:
                self.readable.append(name)
        if not queue.keeps_dead_letters or not declares:
            # To bind it; or, without that, to see that it is there.
            self.written.append(name)


def _is_own(queue: Queue) -> bool:
    return queue.exclusive or queue.needs_consumer


def _consumed(queue: Queue) -> Iterable[str]:
    yield re.escape(queue.name)
    if queue.partition_queues():
        yield re.escape(queue.name) + _NUMBER


_NUMBER = r"\.[0-9]+"
"""After a queue's name, any of its partitions: their number may change."""
