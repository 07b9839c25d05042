"""What a supervisor tells of its processes together, for metrics and health."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from mqkit.cli.supervisor.processes import Process
from mqkit.cli.supervisor.protocol import Report, WorkerJob
from mqkit.cli.supervisor.supervisor import STANDS_STILL, Supervisor
from mqkit.cli.supervisor.totals import Totals
from mqkit.observability.metrics.snapshot import Number, Snapshot

POST = ("ledger", "post", "q", "acked")


def handled(count: int) -> Snapshot:
    """What a process has counted."""
    return Snapshot((Number("mqkit_handled_total", POST, count),))


def process(count: int, *problems: str, ago: float = 0.0) -> Process:
    """Stand in for one that has reported so long ago."""
    report = Report(ready=True, totals=Totals(), problems=problems, metrics=handled(count))
    at = asyncio.get_running_loop().time() - ago
    return cast(Process, SimpleNamespace(report=report, reported_at=at, metrics=handled(count)))


def supervisor(*processes: Any) -> Supervisor:
    """One of these processes; None is one that has ended."""
    made = Supervisor(WorkerJob(service="a:b", grace=1), len(processes))
    for slot, each in zip(made._slots, processes, strict=True):
        slot.process = each
    for each in (made._watchdog._ours, made._watchdog._theirs):
        each.close()  # it is not run here, and would be at the end of a run
    return made


async def test_its_metrics_are_those_of_all_processes_and_of_those_that_ended() -> None:
    """With how often one was started again, under the service's name"""
    made = supervisor(process(5), None, process(7))
    made._past_metrics = handled(100)
    made._slots[1].restarts = 3
    assert made.metrics.numbers == (
        Number("mqkit_handled_total", POST, 112),
        Number("mqkit_process_restarts_total", ("ledger",), 3),
    )


async def test_it_is_ready_once_all_processes_are() -> None:
    """Each one that is not is named, with what it waits for"""
    assert supervisor(process(0), process(0)).problems == ()
    starting = SimpleNamespace(report=None, reported_at=None)
    made = supervisor(process(0, "queue q: paused"), None, starting)
    made._slots[1].doing = "waiting to be started again, for it was killed by SIGKILL"
    assert made.problems == (
        "process 1: queue q: paused",
        "process 2: waiting to be started again, for it was killed by SIGKILL",
        "process 3: starting",
    )


async def test_a_process_that_reports_nothing_stands_still() -> None:
    """One that has yet to report first, is busy with the import of its service"""
    made = supervisor(process(0, ago=STANDS_STILL - 1), process(0, ago=STANDS_STILL + 5))
    assert made.standing_still == ("process 2: it has reported nothing for 15 s",)
    assert made.problems == made.standing_still
    starting = SimpleNamespace(report=None, reported_at=None)
    assert supervisor(starting).standing_still == ()
