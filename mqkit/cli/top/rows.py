"""Makes tables of an overview, in words and figures, what matters most first. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from mqkit.cli.top.figures import count, rate, seconds, share, span
from mqkit.logging.shown import shown
from mqkit.overview.values import (
    HandlerView,
    Overview,
    ProcessView,
    QueueView,
    Role,
    ServiceView,
)
from mqkit.pause import Status


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    is_number: bool = False
    is_wide: bool = False
    """It is left out where the terminal is narrow."""
    share: int = 0
    """Its weight where columns share what is left of a line, and are cut; 0: as wide as needed."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: a cell for each column."""

    cells: tuple[str, ...]
    is_alarming: bool = False
    """Something is wrong, which a cell says in words, too."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table, all rows of it; a terminal may show fewer."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def tables_of(overview: Overview) -> tuple[Table, ...]:
    """Return the tables of a view: services, handlers, queues, processes."""
    handlers = [each for service in overview.services for each in service.handlers]
    processes = [each for service in overview.services for each in service.processes]
    return (
        services_table(overview.services),
        handlers_table(handlers),
        queues_table(overview.queues),
        processes_table(processes, overview.at),
    )


def services_table(services: Iterable[ServiceView]) -> Table:
    """Return a row for each service: those that are not well, the busiest."""
    columns = (
        Column("SERVICE", share=2),
        Column("PROCESSES", is_number=True),
        Column("RUNS/S", is_number=True),
        Column("IN FLIGHT", is_number=True, is_wide=True),
        Column("PUBL/S", is_number=True),
        Column("OUTBOX", is_number=True),
        Column("OLDEST", is_number=True, is_wide=True),
        Column("SAGAS", is_number=True),
        Column("STATE", share=3),
    )

    def order(each: ServiceView) -> tuple[bool, float, str]:
        busy = sum(process.rate for process in each.processes) + each.publish_rate
        return (not _service_problem(each), -busy, each.name)

    return Table(columns, tuple(map(_service, sorted(services, key=order))))


def _service(service: ServiceView) -> Row:
    heard = [each for each in service.processes if not each.is_silent]
    store, problem = service.store, _service_problem(service)
    return Row(
        (
            shown(service.name),
            f"{len(heard)}/{len(service.processes)}",
            rate(sum(each.rate for each in heard)),
            count(sum(each.in_flight for each in heard)),
            rate(service.publish_rate),
            count(store.waiting if store is not None else None),
            seconds(store.oldest) if store is not None and store.waiting else "-",
            count(sum(store.sagas.values()) if store is not None else None),
            problem or "ok",
        ),
        is_alarming=bool(problem),
    )


def _service_problem(service: ServiceView) -> str:
    problems = []
    if silent := sum(each.is_silent for each in service.processes):
        problems.append(f"{silent} silent")
    if waiting := sum(not (each.is_ready or each.is_silent) for each in service.processes):
        problems.append(f"{waiting} not ready")
    if failing := sum(each.fails_much for each in service.handlers):
        problems.append(f"{failing} failing")
    if service.store is not None and not service.store.is_up:
        problems.append("store down")
    if service.store is not None and service.store.dead:
        problems.append(f"{count(service.store.dead)} dead in outbox")
    return ", ".join(problems)


def handlers_table(handlers: Iterable[HandlerView]) -> Table:
    """Return a row for each handler: those that do not consume, that fail, the busiest."""
    columns = (
        Column("HANDLER", share=3),
        Column("SERVICE", is_wide=True),
        Column("QUEUE", is_wide=True, share=2),
        Column("RUNS/S", is_number=True),
        Column("IN FL", is_number=True),
        Column("FAILS", is_number=True),
        Column("MEAN", is_number=True),
        Column("ACKED", is_number=True, is_wide=True),
        Column("RETRIED", is_number=True, is_wide=True),
        Column("DEAD", is_number=True, is_wide=True),
        Column("PAUSES", is_number=True, is_wide=True),
        Column("OWNED", is_number=True, is_wide=True),
        Column("STATE", share=4),
    )

    def order(each: HandlerView) -> tuple[bool, float, float, str]:
        failing = each.failing if each.fails_much else 0.0
        return (not _not_consuming(each), -failing, -each.rate, each.name)

    return Table(columns, tuple(map(_handler, sorted(handlers, key=order))))


def _handler(handler: HandlerView) -> Row:
    state, done = _not_consuming(handler), handler.outcomes
    if handler.because:
        state = f"{state or 'consuming'}: {'; '.join(map(shown, handler.because))}"
    owned = sum(1 for owner in handler.owners.values() if owner)
    return Row(
        (
            _short(handler.name),
            shown(handler.service),
            shown(handler.queue),
            rate(handler.rate),
            count(handler.in_flight),
            share(handler.failing),
            seconds(handler.mean_seconds),
            count(done.acked),
            count(done.retried),
            count(done.dead_lettered),
            count(handler.pauses),
            f"{owned}/{len(handler.owners)}" if handler.owners else "-",
            state or ("failing" if handler.fails_much else "consuming"),
        ),
        is_alarming=bool(state) or handler.fails_much,
    )


def _not_consuming(handler: HandlerView) -> str:
    """Say how many of its consumers do something else; '' where none does."""
    found = {
        status: number
        for status, number in handler.consumers.items()
        if status is not Status.CONSUMING and number
    }
    total = sum(handler.consumers.values())
    return ", ".join(
        f"{status}" if number == total else f"{number} of {total} {status}"
        for status, number in found.items()
    )


def _short(name: str) -> str:
    """Leave out the module of a handler's name, but for its last part."""
    parts = shown(name).split(".")
    return ".".join(parts[-2:])


def queues_table(queues: Sequence[QueueView]) -> Table:
    """Return a row for each queue but those of dead letters, which stand beside their own.

    The delay ladder is one row.
    """
    columns = (
        Column("QUEUE", share=1),
        Column("TYPE", is_wide=True),
        Column("READY", is_number=True),
        Column("UNACKED", is_number=True),
        Column("IN/S", is_number=True),
        Column("OUT/S", is_number=True),
        Column("CONS", is_number=True),
        Column("DEAD", is_number=True),
        Column("ARCHIVED", is_number=True, is_wide=True),
    )
    beside = {
        role: {each.of: each.ready for each in queues if each.role is role}
        for role in (Role.DEAD, Role.ARCHIVE)
    }
    names = {each.name for each in queues}
    rows = []
    for each in queues:
        is_beside = each.of in names and each.role is not Role.PARTITION
        if each.role is not Role.DELAY and not is_beside:
            dead, archived = (of.get(each.name) for of in beside.values())
            rows.append(((-each.ready, -(dead or 0), each.name), _queue(each, dead, archived)))
    delayed = [each for each in queues if each.role is Role.DELAY]
    if delayed:
        ready = sum(each.ready for each in delayed)
        cells = ("(delayed: retries and later messages)", "", count(ready), *["-"] * 6)
        rows.append(((-ready, 0, ""), Row(cells)))
    return Table(columns, tuple(row for _, row in sorted(rows, key=lambda each: each[0])))


def _queue(queue: QueueView, dead: int | None, archived: int | None) -> Row:
    waits_alone = queue.ready > 0 and not queue.consumers and queue.role is Role.WORK
    return Row(
        (
            shown(queue.name),
            queue.kind or "-",
            count(queue.ready),
            count(queue.unacked),
            rate(queue.rate_in),
            rate(queue.rate_out),
            count(queue.consumers),
            count(dead),
            count(archived),
        ),
        is_alarming=waits_alone or bool(dead),
    )


def processes_table(processes: Iterable[ProcessView], now: datetime) -> Table:
    """Return a row for each process: those that are silent, that are not ready, the busiest."""
    columns = (
        Column("PROCESS", share=2),
        Column("SERVICE", share=2),
        Column("RUNS/S", is_number=True),
        Column("IN FL", is_number=True),
        Column("UP", is_number=True),
        Column("SEEN", is_number=True, is_wide=True),
        Column("MQKIT", is_wide=True),
        Column("STATE", share=4),
    )

    def order(each: ProcessView) -> tuple[bool, bool, float, str, int]:
        return (not each.is_silent, each.is_ready, -each.rate, each.host, each.pid)

    return Table(columns, tuple(_process(each, now) for each in sorted(processes, key=order)))


def _process(process: ProcessView, now: datetime) -> Row:
    ago = span((now - process.seen_at).total_seconds())
    state = "ready"
    if process.is_silent:
        state = f"silent for {ago}"
    elif not process.is_ready:
        state = "; ".join(map(shown, process.problems)) or "not ready"
    return Row(
        (
            f"{shown(process.host)}:{process.pid}",
            shown(process.service),
            rate(process.rate),
            count(process.in_flight),
            span((now - process.started_at).total_seconds()),
            f"{ago} ago",
            shown(process.mqkit),
            state,
        ),
        is_alarming=process.is_silent or not process.is_ready,
    )
