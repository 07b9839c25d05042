"""Makes the state of this process of what its service reads, and of what was counted."""

from __future__ import annotations

import os
import socket
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from mqkit.middleware import ConsumerReading, ServiceReading
from mqkit.observability.health import problems_of
from mqkit.observability.metrics.metrics import OWNED_FOR
from mqkit.observability.states.state import (
    MAX_LINES,
    ConnectionState,
    HandlerState,
    SagaCount,
    State,
    StoreState,
    clean,
    rounded,
)
from mqkit.observability.states.tally import Counted, Tally

MAX_SAGAS = 1_000
"""Counts of sagas that are told; the largest of them."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who says something: a process, from one start to its end."""

    id: str
    host: str
    pid: int
    started_at: datetime

    @classmethod
    def of_this_process(cls, random: bytes, now: datetime) -> Identity:
        """Make the identity of this process, which starts now."""
        return cls(random.hex(), clean(socket.gethostname()), os.getpid(), now)


def state_of(
    reading: ServiceReading,
    tally: Tally,
    identity: Identity,
    *,
    at: datetime,
    up: float,
    every: float,
    server: str,
    has_ended: bool = False,
) -> State:
    """Return how this process is.

    :param up: seconds since its start
    :param every: seconds until it says so again
    :param server: the broker's product and version
    """
    return State(
        id=identity.id,
        service=clean(reading.service),
        host=identity.host,
        pid=identity.pid,
        started_at=identity.started_at,
        at=at,
        up=rounded(up),
        every=every,
        phase="ended" if has_ended else _phase(reading),
        mqkit=_version(),
        server=clean(server),
        problems=_few(problems_of(reading)),
        handlers=tuple(_handlers(reading.consumers, tally)),
        published=tally.published,
        connections=tuple(
            ConnectionState(each.name, each.is_up, each.opened, rounded(each.blocked_seconds))
            for each in reading.connections
        ),
        store=_store(reading),
    )


def _version() -> str:
    # Not imported: the package names the runtime, which needs this module.
    return clean(getattr(sys.modules["mqkit"], "__version__", ""))


def _phase(reading: ServiceReading) -> str:
    if reading.is_stopping:
        return "stopping"
    return "running" if reading.is_started else "starting"


def _few(lines: Iterable[str]) -> tuple[str, ...]:
    """Clean lines, and leave out the last where there are too many."""
    found = list(dict.fromkeys(map(clean, lines)))
    if len(found) <= MAX_LINES:
        return tuple(found)
    return (*found[: MAX_LINES - 1], f"and {len(found) - MAX_LINES + 1} more")


def _handlers(consumers: Iterable[ConsumerReading], tally: Tally) -> Iterable[HandlerState]:
    by_handler: dict[tuple[str, str], list[ConsumerReading]] = {}
    for each in consumers:
        by_handler.setdefault((each.handler, each.queue), []).append(each)
    counted = dict(tally.counted)
    for of in dict.fromkeys([*by_handler, *counted]):
        yield _handler(of, by_handler.get(of, []), counted.get(of) or Counted())


def _handler(
    of: tuple[str, str], consumers: list[ConsumerReading], counted: Counted
) -> HandlerState:
    return HandlerState(
        handler=clean(of[0]),
        queue=clean(of[1]),
        acked=counted.acked,
        retried=counted.retried,
        held=counted.held,
        dead_lettered=counted.dead_lettered,
        requeued=counted.requeued,
        lost=counted.lost,
        runs=counted.runs,
        seconds=rounded(counted.seconds),
        in_flight=sum(each.in_flight for each in consumers),
        pauses=sum(each.pauses for each in consumers),
        consumers=dict(Counter(each.state.status.value for each in consumers)),
        because=_few(each.state.because for each in consumers if each.state.because),
        partitions=sum(each.is_partition for each in consumers),
        owned={
            clean(each.consumed): ago
            for each in consumers
            if each.is_partition and (ago := _handled_ago(each)) is not None
        },
    )


def _handled_ago(consumer: ConsumerReading) -> float | None:
    """Return how long ago a partition was handled here; None: not of late, it is another's."""
    if consumer.in_flight:
        return 0.0
    ago = consumer.settled_ago
    return rounded(ago) if ago is not None and ago < OWNED_FOR else None


def _store(reading: ServiceReading) -> StoreState | None:
    if not reading.has_store:
        return None
    store = reading.store
    if store is None:
        return StoreState(is_up=False)
    largest = sorted(store.sagas.items(), key=lambda item: -item[1])[:MAX_SAGAS]
    return StoreState(
        is_up=True,
        waiting=store.waiting,
        dead=store.dead,
        oldest=rounded(max(store.oldest, 0.0)),
        sagas=tuple(SagaCount(clean(name), clean(status), n) for (name, status), n in largest),
    )
