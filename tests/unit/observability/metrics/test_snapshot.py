"""Metrics of several processes as one."""

from __future__ import annotations

from mqkit.cli.supervisor.protocol import REPORTS, Report
from mqkit.cli.supervisor.totals import Totals
from mqkit.observability.metrics.snapshot import Number, Snapshot, Times, together

BOUNDS = {"mqkit_handler_seconds": (0.1, 1.0)}
POST = ("ledger", "post", "q")


def process(handled: int, in_flight: int, waiting: int, *, up: int = 1) -> Snapshot:
    """What one process tells."""
    return Snapshot(
        (
            Number("mqkit_handled_total", (*POST, "acked"), handled),
            Number("mqkit_in_flight", POST, in_flight),
            Number("mqkit_outbox_messages", ("ledger",), waiting),
            Number("mqkit_store_up", ("ledger",), up),
        ),
        (Times("mqkit_handler_seconds", POST, (handled, 0, 1), 5.0),),
        BOUNDS,
    )


def values(of: Snapshot) -> dict[str, float]:
    """The numbers by name."""
    return {each.name: each.value for each in of.numbers}


def test_processes_add_up() -> None:
    """Counters, gauges and histograms are summed; what all see of one store is not"""
    found = together([process(10, 2, 7), process(5, 1, 9, up=0)])
    assert values(found) == {
        "mqkit_handled_total": 15,
        "mqkit_in_flight": 3,
        "mqkit_outbox_messages": 9,
        "mqkit_store_up": 0,
    }
    assert found.times == (Times("mqkit_handler_seconds", POST, (15, 0, 2), 10.0),)
    assert found.bounds == BOUNDS


def test_of_a_process_that_ended_its_counts_are_left() -> None:
    """A sum never goes down as one dies, and nothing is in flight in it any more"""
    before = together([process(10, 2, 7), process(5, 1, 7)])
    after = together([process(10, 2, 7).at_rest(), process(5, 1, 7)])
    assert values(after)["mqkit_handled_total"] == values(before)["mqkit_handled_total"]
    assert after.times == before.times
    assert values(after)["mqkit_in_flight"] == 1


def test_nothing_is_a_snapshot_too() -> None:
    """Of no process at all, and beside one"""
    assert together([]) == Snapshot()
    assert together([Snapshot(), process(1, 0, 0)]) == process(1, 0, 0)
    assert together([Snapshot(), process(1, 0, 0)]).services == ["ledger"]


def test_it_survives_the_way_to_the_supervisor() -> None:
    """As JSON and back it is the same"""
    report = Report(ready=True, totals=Totals(), problems=("a",), metrics=process(1, 2, 3))
    assert REPORTS.validate_json(REPORTS.dump_json(report)) == report
