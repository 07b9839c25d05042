"""Holds one view of a system at one moment: its processes, services, handlers, queues, stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mqkit.pause import Status


class Role(StrEnum):
    """What a queue is for."""

    WORK = "work"
    """A handler consumes it."""
    PARTITION = "partition"
    """One of the queues over which the keys of a handler are spread."""
    DEAD = "dead"
    """It keeps dead letters."""
    ARCHIVE = "archive"
    """It keeps dead letters that were archived."""
    DELAY = "delay"
    """A level of the delay ladder, or where later messages wait."""
    OTHER = "other"
    """Not mqkit's."""


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One process that runs a service, as it has last said."""

    id: str
    service: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime
    is_silent: bool
    """It has said nothing for longer than it had announced: it has died, or cannot be heard."""
    is_ready: bool
    problems: tuple[str, ...] = ()
    """What keeps it from consuming, a line each."""
    in_flight: int = 0
    rate: float = 0.0
    """Deliveries settled a second."""
    server: str = ""
    """The broker's product and version."""
    mqkit: str = ""
    """Its version of mqkit."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Counts deliveries by what became of them."""

    acked: int = 0
    retried: int = 0
    dead_lettered: int = 0
    requeued: int = 0
    lost: int = 0


FAILS_MUCH = 0.1
"""The share of failing runs from which on a handler is worth a look."""


@dataclass(frozen=True, slots=True)
class HandlerView:
    """One handler, in all processes of its service together."""

    service: str
    name: str
    queue: str
    consumers: Mapping[Status, int]
    """How many of its consumers are in which state."""
    because: tuple[str, ...]
    """Why it is paused or detached; several processes may have several reasons."""
    outcomes: Outcomes
    """Since the processes that are there were started."""
    rate: float
    """Deliveries settled a second."""
    failing: float
    """The share of them that were retried or dead-lettered, 0 to 1, over the last minute."""
    mean_seconds: float | None
    """Of a run, over the last minute; None: nothing ran, or it is not measured."""
    in_flight: int
    pauses: int
    owners: Mapping[str, str] = field(default_factory=dict)
    """For a handler with partitions: each partition's queue, and the id of the process that owns
    it; '' where none does."""

    @property
    def is_paused(self) -> bool:
        """Whether one of its consumers is paused."""
        return self.consumers.get(Status.PAUSED, 0) > 0

    @property
    def fails_much(self) -> bool:
        """Whether a tenth of its runs, or more, failed in the last minute."""
        return self.failing >= FAILS_MUCH


@dataclass(frozen=True, slots=True)
class QueueView:
    """One queue of the broker."""

    name: str
    role: Role
    kind: str
    """quorum, classic, stream; '' where that is not known."""
    ready: int
    unacked: int | None
    """None: only the management API knows."""
    consumers: int
    rate_in: float | None
    """Messages a second that come; None: not known yet."""
    rate_out: float | None
    """Messages a second that are acked."""
    of: str = ""
    """The work queue that it belongs to: of a partition, a dead letter queue, an archive; also of
    what is beside those for mqkit's own use, the audit of dead letters say."""


@dataclass(frozen=True, slots=True)
class StoreView:
    """What the store of a service has yet to do, as its processes have last said."""

    service: str
    is_up: bool
    waiting: int | None
    """Messages of the outbox; None: it has none."""
    dead: int
    """Messages of the outbox that can never be published."""
    oldest: float
    """Seconds since the oldest that waits was written."""
    sagas: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Sagas that are not completed, by name and status."""


@dataclass(frozen=True, slots=True)
class ServiceView:
    """One service, over all its processes."""

    name: str
    processes: tuple[ProcessView, ...]
    handlers: tuple[HandlerView, ...]
    store: StoreView | None
    published: Mapping[str, int]
    """Publishes that have ended, by result."""
    publish_rate: float

    @property
    def is_well(self) -> bool:
        """Whether all processes and handlers consume, none fails much, and the store is well."""
        return (
            all(each.is_ready and not each.is_silent for each in self.processes)
            and not any(each.is_paused or each.fails_much for each in self.handlers)
            and (self.store is None or (self.store.is_up and not self.store.dead))
        )


@dataclass(frozen=True, slots=True)
class Overview:
    """A system at one moment."""

    at: datetime
    server: str
    """The broker's product and version; '' before there was a connection."""
    problems: tuple[str, ...]
    """What the view itself lacks: no connection to the broker, no management API, ..."""
    services: tuple[ServiceView, ...]
    queues: tuple[QueueView, ...]
    """The ones with the largest backlog first."""
