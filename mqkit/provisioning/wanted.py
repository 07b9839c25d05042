"""What services need on a broker, put together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mqkit.errors import ConfigurationError
from mqkit.registration.handler import Handler
from mqkit.registration.service import Service
from mqkit.topology import Queue, Topology


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that some services declare, without what only they themselves can declare.

    An exclusive queue is its connection's, and one that the broker deletes while nobody consumes it
    would be gone again: each service makes those at its start (`left_out`).
    """

    services: tuple[str, ...]
    topology: Topology
    handlers: tuple[Handler, ...]
    left_out: tuple[Queue, ...] = ()

    def handler_of(self, queue: str) -> Handler | None:
        """Return the handler that has this queue, or one of whose partitions it is."""
        for each in self.handlers:
            names = {part.name for part in each.queue.with_partitions()}
            if queue in names:
                return each
        return None


def wanted_by(services: Iterable[Service]) -> Wanted:
    """Put together what services declare.

    :raises ConfigurationError: two of them declare one name in two ways, or there is none of them
    """
    found = tuple(services)
    if not found:
        raise ConfigurationError("name a service: MODULE:SERVICE")
    topology = Topology()
    for each in found:
        try:
            topology = topology.merge(each.topology)
        except ConfigurationError as error:
            raise ConfigurationError(f"service {each.name!r} and another one: {error}") from error
    own = [each for each in topology.queues if each.exclusive or each.needs_consumer]
    names = {each.name for each in own}
    kept = replace(
        topology,
        queues=tuple(each for each in topology.queues if each.name not in names),
        bindings=tuple(each for each in topology.bindings if each.queue not in names),
    )
    return Wanted(
        services=tuple(each.name for each in found),
        topology=kept,
        handlers=tuple(each for service in found for each in service.handlers),
        left_out=tuple(own),
    )
