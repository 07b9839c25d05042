"""Joins what processes say of themselves into services and handlers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from mqkit.errors import ConfigurationError
from mqkit.observability.states.state import HandlerState, State
from mqkit.overview.rates import RATE_OVER, SHARE_OVER, Count, latest
from mqkit.overview.values import (
    HandlerView,
    Outcomes,
    ProcessView,
    ServiceView,
    StoreView,
)
from mqkit.pause import Status
from mqkit.topology import Queue

_STATUSES = frozenset(status.value for status in Status)


_Handlers = dict[tuple[str, str], HandlerState]


class Known:
    """What is known of one process.

    :param said: what it has said over the last minute, the latest last; one state at least
    """

    __slots__ = ("before", "is_silent", "minute", "moment", "now", "seen_at", "state")

    def __init__(self, said: Sequence[State], seen_at: datetime, *, is_silent: bool) -> None:
        self.state = said[-1]
        """What it has said last."""
        self.seen_at = seen_at
        self.is_silent = is_silent
        self.moment = latest(said, RATE_OVER)
        self.minute = latest(said, SHARE_OVER)
        # Of hundreds of handlers each is looked for many times.
        self.now = _by_name(self.state)
        self.before = (_by_name(self.moment.first), _by_name(self.minute.first))

    def rate(self, count: Count) -> float:
        """Return how much a counter rises a second; nothing is known of one that is silent."""
        return 0.0 if self.is_silent else self.moment.per_second(count)


def _by_name(state: State | None) -> _Handlers:
    return {} if state is None else {(each.handler, each.queue): each for each in state.handlers}


def services_of(processes: Iterable[Known]) -> tuple[ServiceView, ...]:
    """Return the services that processes run, by name; those that have ended are left out."""
    by_service: dict[str, list[Known]] = {}
    for each in processes:
        if each.state.phase != "ended":
            by_service.setdefault(each.state.service, []).append(each)
    return tuple(_service(name, by_service[name]) for name in sorted(by_service))


def _service(name: str, processes: list[Known]) -> ServiceView:
    processes.sort(key=lambda each: (each.state.started_at, each.state.id))
    published: Counter[str] = Counter()
    for each in processes:
        published.update(each.state.published)
    return ServiceView(
        name=name,
        processes=tuple(map(_process, processes)),
        handlers=tuple(_handlers(name, processes)),
        store=_store(name, processes),
        published=dict(published),
        publish_rate=sum(each.rate(lambda s: sum(s.published.values())) for each in processes),
    )


def _process(known: Known) -> ProcessView:
    state = known.state
    return ProcessView(
        id=state.id,
        service=state.service,
        host=state.host,
        pid=state.pid,
        started_at=state.started_at,
        seen_at=known.seen_at,
        is_silent=known.is_silent,
        is_ready=state.phase == "running" and not state.problems,
        problems=state.problems,
        in_flight=state.in_flight,
        rate=known.rate(lambda s: s.settled),
        server=state.server,
        mqkit=state.mqkit,
    )


def _handlers(service: str, processes: list[Known]) -> Iterable[HandlerView]:
    for name, queue in sorted({of for each in processes for of in each.now}):
        yield _handler(service, (name, queue), processes)


def _handler(service: str, of: tuple[str, str], processes: list[Known]) -> HandlerView:
    nothing = HandlerState(*of)
    heard = [each for each in processes if not each.is_silent]
    now = [(each.state.id, each.now.get(of, nothing)) for each in heard]
    rate = failed = judged = seconds = runs = 0.0
    for each, (_, state) in zip(heard, now, strict=True):
        before, earlier = (handlers.get(of, nothing) for handlers in each.before)
        if each.moment.seconds > 0:
            rate += max(state.settled - before.settled, 0) / each.moment.seconds
        failures = max(state.failed - earlier.failed, 0)
        failed += failures
        judged += failures + max(state.acked - earlier.acked, 0)
        seconds += max(state.seconds - earlier.seconds, 0.0)
        runs += max(state.runs - earlier.runs, 0)
    return HandlerView(
        service=service,
        name=of[0],
        queue=of[1],
        consumers=_consumers(state for _, state in now),
        because=tuple(dict.fromkeys(why for _, state in now for why in state.because)),
        outcomes=_outcomes(each.now.get(of, nothing) for each in processes),
        rate=rate,
        failing=failed / judged if judged else 0.0,
        mean_seconds=seconds / runs if runs else None,
        in_flight=sum(state.in_flight for _, state in now),
        pauses=sum(each.now.get(of, nothing).pauses for each in processes),
        owners=_owners(of[1], now),
    )


def _consumers(states: Iterable[HandlerState]) -> dict[Status, int]:
    found: Counter[Status] = Counter()
    for each in states:
        for status, count in each.consumers.items():
            if status in _STATUSES:
                found[Status(status)] += count
    return dict(found)


def _outcomes(states: Iterable[HandlerState]) -> Outcomes:
    found = list(states)
    return Outcomes(
        acked=sum(each.acked for each in found),
        retried=sum(each.retried + each.held for each in found),
        dead_lettered=sum(each.dead_lettered for each in found),
        requeued=sum(each.requeued for each in found),
        lost=sum(each.lost for each in found),
    )


def partitions_of(queue: str, partitions: int) -> tuple[str, ...]:
    """Return the names of the queues over which the keys of a handler are spread."""
    if not partitions:
        return ()
    try:
        named = Queue(queue, partitions=partitions)
    except ConfigurationError:  # whoever said so has no such queue either
        return ()
    return tuple(named.partition(number) for number in range(partitions))


def _owners(queue: str, states: Sequence[tuple[str, HandlerState]]) -> dict[str, str]:
    """Return who has handled a message of each partition last."""
    partitions = max((state.partitions for _, state in states), default=0)
    found: dict[str, str] = {}
    for name in partitions_of(queue, partitions):
        owners = [(s.owned[name], process) for process, s in states if name in s.owned]
        found[name] = min(owners)[1] if owners else ""
    return found


def _store(service: str, processes: Iterable[Known]) -> StoreView | None:
    """Return how the store is: that of all processes, of which each has seen it at its time."""
    stores = [
        each.state.store
        for each in processes
        if each.state.store is not None and not each.is_silent
    ]
    if not stores:
        return None
    waiting = [each.waiting for each in stores if each.waiting is not None]
    sagas: dict[tuple[str, str], int] = {}
    for each in stores:
        for saga in each.sagas:
            key = saga.name, saga.status
            sagas[key] = max(sagas.get(key, 0), saga.count)
    return StoreView(
        service=service,
        is_up=all(each.is_up for each in stores),
        waiting=max(waiting) if waiting else None,
        dead=max(each.dead for each in stores),
        oldest=max(each.oldest for each in stores),
        sagas=sagas,
    )
