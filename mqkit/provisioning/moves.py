"""Decides which queues are to be moved, in which order. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from mqkit.broker.delays import DELIVER, queue_pattern
from mqkit.provisioning.compare import live_partitions, queue_difference
from mqkit.provisioning.live import Live, LiveQueue
from mqkit.provisioning.moving.move import Moved
from mqkit.provisioning.moving.scaffold import Bound
from mqkit.provisioning.plan import Kind, Plan
from mqkit.provisioning.wanted import Wanted
from mqkit.topology import Queue


def moves_of(
    wanted: Wanted, live: Live, plan: Plan, detours: Mapping[str, tuple[Bound, ...]]
) -> list[Moved]:
    """Return the queues to move: those of dead letters last.

    A classic queue dead-letters at most once: what it does while its dead letter queue is not there
    would be lost. By then it may be a quorum queue.

    :param detours: what the detours of moves that were begun are bound to, by their queues
    """
    names = {each.name for each in plan.changes if each.kind is Kind.CHANGE}
    found: dict[str, Moved] = {}
    for queue in wanted.topology.queues:
        if queue.name not in names:
            continue
        handler = wanted.handler_of(queue.name)
        # A partition is moved with the queue that it is one of.
        whole = queue if handler is None else handler.queue
        if whole.name in found:
            continue
        there = live_partitions(whole.name, live)
        mine = whole.with_partitions()
        differs = tuple(
            each
            for each in mine
            if each.name in live.queues and queue_difference(each, live.queues[each.name])
        )
        found[whole.name] = Moved(
            queue=whole,
            sources=_sources(whole, wanted, live, detours.get(whole.name, ())),
            handler=handler if whole.partition_queues() else None,
            old=tuple(each.name for each in there),
            redeclared=differs,
            classic=frozenset(
                each.name for each in mine if _is_classic(live.queues.get(each.name))
            ),
        )
    return sorted(found.values(), key=lambda each: each.queue.keeps_dead_letters)


def _is_classic(queue: LiveQueue | None) -> bool:
    return queue is not None and queue.kind == "classic"


def _sources(
    queue: Queue, wanted: Wanted, live: Live, detour: tuple[Bound, ...]
) -> tuple[Bound, ...]:
    """Return all that a queue is bound to, each once: as declared, as it is, by a detour."""
    bound = [
        Bound(each.source.exchange.name, each.source.routing_key, each.source.arguments)
        for each in wanted.topology.bindings
        if each.queue == queue.name
    ]
    bound += [
        Bound(each.exchange, each.routing_key, each.arguments)
        for each in live.bindings or ()
        if each.queue == queue.name
    ]
    bound += detour
    if any(each.queue.name == queue.name for each in wanted.handlers):
        bound.append(Bound(DELIVER, queue_pattern(queue.name)))
    found: list[Bound] = []
    for each in bound:
        if each not in found:
            found.append(each)
    return tuple(found)
