"""Joins what processes say of themselves into services and handlers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import attrgetter

from mqkit.errors import ConfigurationError
from mqkit.observability.states.state import HandlerState, State
from mqkit.overview.rates import (
    NO_COUNTS,
    RATE_OVER,
    SHARE_OVER,
    Count,
    Counted,
    Handler,
    HandlerCounts,
    latest,
)
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


class Known:
    """What is known of one process.

    :param state: what it has said last
    :param said: what it has counted over the last minute, the latest last; one at least
    """

    __slots__ = ("is_silent", "minute", "moment", "now", "seen_at", "state")

    def __init__(
        self, state: State, said: Sequence[Counted], seen_at: datetime, *, is_silent: bool
    ) -> None:
        self.state = state
        self.seen_at = seen_at
        self.is_silent = is_silent
        self.moment = latest(said, RATE_OVER)
        self.minute = latest(said, SHARE_OVER)
        # Of hundreds of handlers each is looked for many times.
        self.now = {(each.handler, each.queue): each for each in state.handlers}

    def rate(self, count: Count) -> float:
        """Return how much a counter rises a second; nothing is known of one that is silent."""
        return 0.0 if self.is_silent else self.moment.per_second(count)


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
        publish_rate=sum(each.rate(lambda s: s.published) for each in processes),
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


_Said = list[tuple[Known, HandlerState]]
"""What the processes of a service say of one of its handlers."""


def _handlers(service: str, processes: list[Known]) -> Iterable[HandlerView]:
    found: dict[Handler, _Said] = {}
    for each in processes:
        for of, state in each.now.items():
            found.setdefault(of, []).append((each, state))
    return [_handler(service, of, found[of]) for of in sorted(found)]


_counts = attrgetter("acked", "retried", "held", "dead_lettered", "requeued", "lost", "pauses")


def _handler(service: str, of: Handler, said: _Said) -> HandlerView:
    """Join what the processes say of a handler; `map` and `sum`, as there may be thousands."""
    acked, retried, held, dead_lettered, requeued, lost, pauses = map(
        sum, zip(*[_counts(state) for _, state in said], strict=True)
    )
    heard = [each for each in said if not each[0].is_silent]
    rises = [known.minute.risen(of) for known, _ in heard] or [NO_COUNTS]
    risen = HandlerCounts(*map(sum, zip(*rises, strict=True)))
    judged = risen.failed + risen.acked
    return HandlerView(
        service=service,
        name=of[0],
        queue=of[1],
        consumers=_consumers(state for _, state in heard),
        because=tuple(dict.fromkeys(why for _, state in heard for why in state.because)),
        outcomes=Outcomes(acked, retried + held, dead_lettered, requeued, lost),
        rate=sum(known.moment.settled_per_second(of) for known, _ in heard),
        failing=risen.failed / judged if judged else 0.0,
        mean_seconds=risen.seconds / risen.runs if risen.runs else None,
        in_flight=sum(state.in_flight for _, state in heard),
        pauses=pauses,
        owners=_owners(of[1], heard),
    )


def _consumers(states: Iterable[HandlerState]) -> dict[Status, int]:
    found: dict[str, int] = {}
    for state in states:
        for status, count in state.consumers.items():
            found[status] = found.get(status, 0) + count
    return {_STATUSES[each]: count for each, count in found.items() if each in _STATUSES}


def partitions_of(queue: str, partitions: int) -> tuple[str, ...]:
    """Return the names of the queues over which the keys of a handler are spread."""
    if not partitions:
        return ()
    try:
        named = Queue(queue, partitions=partitions)
    except ConfigurationError:  # whoever said so has no such queue either
        return ()
    return tuple(named.partition(number) for number in range(partitions))


def _owners(queue: str, said: _Said) -> dict[str, str]:
    """Return who has handled a message of each partition last."""
    spread = [(known.state.id, state) for known, state in said if state.partitions]
    found: dict[str, str] = {}
    for name in partitions_of(queue, max((state.partitions for _, state in spread), default=0)):
        owners = [(state.owned[name], id_) for id_, state in spread if name in state.owned]
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
