"""Plans the workers of a handler: how many, and which options of mqkit that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mqkit.capacity.queueing import (
    Load,
    Waits,
    check_share,
    check_workers,
    waits,
    workers_for,
)
from mqkit.checks.checked import count, seconds
from mqkit.errors import OptionError

ROUND_TRIP = 0.002
"""Seconds from an ack to the delivery that the broker sends for it, where nobody says: about what
RabbitMQ takes in one data centre."""

MAX_PREFETCH = 65_535
"""`basic.qos` carries a short (AMQP 0-9-1, section 1.8.3.1)."""

MAX_PROCESSES = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load, a deadline and a number of workers come to. Times are in seconds."""

    load: Load
    deadline: float | None
    quantile: float
    waits: Waits
    """With the workers of this plan."""
    fewest: int | None
    """The fewest workers that hold the deadline; None without one."""
    processes: int
    concurrency: int
    """Runs of the handler at a time in each process (`@service.handler(concurrency=...)`)."""
    prefetch: int
    """Messages that the broker sends ahead, to each process (`@service.handler(prefetch=...)`)."""
    backlog: int
    drain: float
    """Until the backlog is gone; infinite where it never is."""

    @property
    def holds(self) -> bool:
        """Whether the workers can do what comes, and hold the deadline, if there is one."""
        if not self.waits.is_stable:
            return False
        return self.fewest is None or self.waits.workers >= self.fewest


def plan(
    load: Load,
    *,
    deadline: float | None = None,
    quantile: float = 0.99,
    workers: int | None = None,
    backlog: int = 0,
    processes: int = 1,
    round_trip: float = ROUND_TRIP,
) -> Plan:
    """Plan the workers for a load.

    :param deadline: seconds that a message may wait until its handler begins
    :param quantile: the share of the messages that the deadline is for
    :param workers: how many there are; None: as few as hold the deadline
    :param backlog: messages that wait already
    :param processes: over how many the workers are spread
    :param round_trip: seconds from an ack to the delivery that the broker sends for it
    :raises OptionError: one of them cannot be what it was given; there is neither a deadline nor a
        number of workers; or it takes over a million workers
    """
    check_share(quantile)
    count(processes, "the number of processes", most=MAX_PROCESSES)
    seconds(round_trip, "the round trip")
    if workers is not None:
        check_workers(workers)
    found = None
    if deadline is not None:
        try:
            found = workers_for(load, deadline, quantile)
        except OptionError:
            if workers is None or load.offered < workers:
                raise
    if workers is not None:
        result = waits(load, workers)
    elif found is not None:
        result = found
    else:
        raise OptionError(
            "say how long a message may wait (a deadline), or how many workers there are"
        )
    concurrency = -(-result.workers // processes)
    return Plan(
        load=load,
        deadline=deadline,
        quantile=quantile,
        waits=result,
        fewest=None if found is None else found.workers,
        processes=processes,
        concurrency=concurrency,
        prefetch=_prefetch(concurrency, load.service_time, round_trip),
        backlog=backlog,
        drain=result.drain(backlog),
    )


def _prefetch(concurrency: int, service_time: float, round_trip: float) -> int:
    """Return how many messages must be there so that no worker waits for the broker.

    While a message is acked and the next one is on its way, each worker ends `round_trip /
    service_time` more. What is prefetched above that waits here while other processes are idle.
    """
    ahead = math.ceil(min(concurrency * round_trip / service_time, MAX_PREFETCH))
    return max(1, min(concurrency + ahead, MAX_PREFETCH))
