"""What stands first in the tables, and what a row says."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from mqkit.cli.top.rows import (
    Table,
    handlers_table,
    processes_table,
    queues_table,
    services_table,
)
from mqkit.overview.joining import services_of
from mqkit.overview.values import (
    HandlerView,
    Outcomes,
    ProcessView,
    QueueView,
    Role,
    StoreView,
)
from mqkit.pause import Status
from tests.simulated_states import BEGAN
from tests.unit.overview.test_joining import known, state

HANDLER = HandlerView(
    service="ledger",
    name="shop.ledger.post",
    queue="q",
    consumers={Status.CONSUMING: 2},
    because=(),
    outcomes=Outcomes(acked=12_345),
    rate=3.0,
    failing=0.0,
    mean_seconds=0.004,
    in_flight=1,
    pauses=0,
)
PROCESS = ProcessView("ab" * 8, "ledger", "host", 7, BEGAN, BEGAN, False, True)


def cells(table: Table, title: str) -> list[str]:
    """One column of a table."""
    number = [each.title for each in table.columns].index(title)
    return [row.cells[number] for row in table.rows]


def queue(
    name: str, role: Role = Role.WORK, ready: int = 0, of: str = "", **said: int
) -> QueueView:
    """A queue that is consumed."""
    consumers = said.get("consumers", 1)
    return QueueView(name, role, "quorum", ready, None, consumers, None, None, of)


def test_every_row_has_a_cell_for_each_column() -> None:
    """Of each table."""
    services = services_of([known(state(1)), known(state(2), is_silent=True)])
    for table in (
        services_table(services),
        handlers_table([HANDLER]),
        queues_table([queue("q"), queue("mqkit.delay.v1.00", Role.DELAY)]),
        processes_table([PROCESS], BEGAN),
    ):
        assert table.rows
        for row in table.rows:
            assert len(row.cells) == len(table.columns)


def test_handlers_that_do_not_consume_come_first_then_those_that_fail_then_the_busiest() -> None:
    """A status is a word beside its reason."""
    table = handlers_table(
        [
            dataclasses.replace(HANDLER, name="m.idle", rate=0.0),
            dataclasses.replace(HANDLER, name="m.busy", rate=90.0),
            dataclasses.replace(HANDLER, name="m.fails", failing=0.5),
            dataclasses.replace(
                HANDLER,
                name="m.paused",
                consumers={Status.PAUSED: 1, Status.CONSUMING: 1},
                because=("DownError in pay.py:3, 5 times",),
            ),
        ]
    )
    assert cells(table, "HANDLER") == ["m.paused", "m.fails", "m.busy", "m.idle"]
    assert cells(table, "STATE") == [
        "1 of 2 paused: DownError in pay.py:3, 5 times",
        "failing",
        "consuming",
        "consuming",
    ]
    assert [row.is_alarming for row in table.rows] == [True, True, False, False]


def test_a_service_says_what_is_wrong_with_it() -> None:
    """Its processes, its store, its outbox; and it comes before those that are well."""
    well, unwell = services_of([known(state(1, service="a")), known(state(2, service="z"))])
    table = services_table(
        [
            well,
            dataclasses.replace(
                unwell,
                processes=(
                    PROCESS,
                    dataclasses.replace(PROCESS, is_silent=True),
                    dataclasses.replace(PROCESS, is_ready=False),
                ),
                handlers=tuple(dataclasses.replace(each, failing=0.5) for each in unwell.handlers),
                store=StoreView("z", False, 12, 2, 90.0, {("pay", "running"): 3}),
            ),
        ]
    )
    assert cells(table, "SERVICE") == ["z", "a"]
    assert cells(table, "STATE") == [
        "1 silent, 1 not ready, 1 failing, store down, 2 dead in outbox",
        "ok",
    ]
    assert cells(table, "PROCESSES") == ["2/3", "1/1"]
    for title, told in (("OUTBOX", ["12", "-"]), ("OLDEST", ["1m30s", "-"]), ("SAGAS", ["3", "-"])):
        assert cells(table, title) == told


def test_dead_letters_stand_beside_their_queue() -> None:
    """Those of a queue that is not there have a row; the ladder is one row."""
    table = queues_table(
        [
            queue("a"),
            queue("a.dead", Role.DEAD, 5, "a"),
            queue("a.dead.archive", Role.ARCHIVE, 7, "a"),
            queue("a.dead.audit", Role.OTHER, 900, "a"),
            queue("gone.dead", Role.DEAD, 1, "gone"),
            queue("mqkit.delay.v1.00", Role.DELAY, 2),
            queue("mqkit.delay.v1.01", Role.DELAY, 3),
            queue("b", ready=4, consumers=0),
            queue("c"),
        ]
    )
    names = ["(delayed: retries and later messages)", "b", "gone.dead", "a", "c"]
    assert cells(table, "QUEUE") == names
    assert cells(table, "READY") == ["5", "4", "1", "0", "0"]
    assert cells(table, "DEAD") == ["-", "-", "-", "5", "-"]
    assert cells(table, "ARCHIVED") == ["-", "-", "-", "7", "-"]
    assert [row.is_alarming for row in table.rows] == [False, True, False, True, False]


def test_processes_that_are_silent_come_first() -> None:
    """With for how long; then those that are not ready, with why, then the busiest."""
    table = processes_table(
        [
            dataclasses.replace(PROCESS, host="idle"),
            dataclasses.replace(PROCESS, host="busy", rate=5.0),
            dataclasses.replace(PROCESS, host="new", is_ready=False, problems=("starting",)),
            dataclasses.replace(PROCESS, host="gone", is_silent=True),
        ],
        BEGAN + timedelta(seconds=75),
    )
    assert cells(table, "PROCESS") == ["gone:7", "new:7", "busy:7", "idle:7"]
    assert cells(table, "STATE") == ["silent for 1m15s", "starting", "ready", "ready"]
    assert cells(table, "UP") == ["1m15s"] * 4


def test_no_name_moves_the_cursor() -> None:
    """What a queue is called, and why something pauses, is shown as text."""
    table = queues_table([queue("a\x1b[2Jb\u202e")])
    assert all(cell.isprintable() for cell in table.rows[0].cells)
