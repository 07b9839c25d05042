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

_STATUSES = {status.value: status for status in Status}


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
    found: dict[tuple[str, str], _Sums] = {}
    for each in processes:
        before, earlier = each.before
        for of, state in each.now.items():
            sums = found.get(of)
            if sums is None:
                sums = found[of] = _Sums()
            sums.add_outcomes(state)
            if not each.is_silent:
                sums.add(each, state, before.get(of, NOTHING), earlier.get(of, NOTHING))
    return [found[of].view(service, *of) for of in sorted(found)]


NOTHING = HandlerState("", "")
"""What a handler had done before its process began."""


class _Sums:
    """Adds up what the processes of a service say of one handler.

    One pass, and plain attributes: a system has thousands of these states, and is looked at often.
    """

    __slots__ = (
        "_acked",
        "_because",
        "_consumers",
        "_dead_lettered",
        "_failed",
        "_heard",
        "_in_flight",
        "_judged",
        "_lost",
        "_pauses",
        "_rate",
        "_requeued",
        "_retried",
        "_runs",
        "_seconds",
    )

    def __init__(self) -> None:
        self._acked = self._retried = self._dead_lettered = self._requeued = self._lost = 0
        self._pauses = self._in_flight = self._runs = self._failed = self._judged = 0
        self._rate = self._seconds = 0.0
        self._consumers: dict[str, int] = {}
        self._because: dict[str, None] = {}
        self._heard: list[tuple[str, HandlerState]] = []

    def add_outcomes(self, state: HandlerState) -> None:
        """Add what stays true of a process that has fallen silent."""
        self._acked += state.acked
        self._retried += state.retried + state.held
        self._dead_lettered += state.dead_lettered
        self._requeued += state.requeued
        self._lost += state.lost
        self._pauses += state.pauses

    def add(
        self, known: Known, state: HandlerState, before: HandlerState, earlier: HandlerState
    ) -> None:
        """Add what a process does now, by what it had done some seconds and a minute before."""
        if known.moment.seconds > 0:
            self._rate += max(state.settled - before.settled, 0) / known.moment.seconds
        failures = max(state.failed - earlier.failed, 0)
        self._failed += failures
        self._judged += failures + max(state.acked - earlier.acked, 0)
        self._seconds += max(state.seconds - earlier.seconds, 0.0)
        self._runs += max(state.runs - earlier.runs, 0)
        self._in_flight += state.in_flight
        for status, count in state.consumers.items():
            self._consumers[status] = self._consumers.get(status, 0) + count
        for why in state.because:
            self._because[why] = None
        if state.partitions:
            self._heard.append((known.state.id, state))

    def view(self, service: str, name: str, queue: str) -> HandlerView:
        """Return the handler, as all of its processes together are."""
        return HandlerView(
            service=service,
            name=name,
            queue=queue,
            consumers={
                _STATUSES[status]: count
                for status, count in self._consumers.items()
                if status in _STATUSES
            },
            because=tuple(self._because),
            outcomes=Outcomes(
                acked=self._acked,
                retried=self._retried,
                dead_lettered=self._dead_lettered,
                requeued=self._requeued,
                lost=self._lost,
            ),
            rate=self._rate,
            failing=self._failed / self._judged if self._judged else 0.0,
            mean_seconds=self._seconds / self._runs if self._runs else None,
            in_flight=self._in_flight,
            pauses=self._pauses,
            owners=_owners(queue, self._heard),
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
    """Return who has handled a message of each partition last.

    :param states: those of processes that spread its keys, with their ids
    """
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
