"""The arithmetic of what is measured of many and large, and that a case runs."""

from __future__ import annotations

import asyncio

import pytest

from mqkit.testing.brokers.broker import Broker
from tests.benchmarks.large import __main__ as command
from tests.benchmarks.large.cases import CASES, Bench, Course, lateness, together
from tests.benchmarks.side_by_side.room import Room


def test_a_course_compares_its_first_tenth_with_its_last() -> None:
    """Rates are between marks, and memory grows from the end of the first tenth on."""
    course = Course([(0, 0.0, 10.0), (10, 1.0, 30.0), (90, 9.0, 31.0), (100, 11.0, 32.5)])
    assert (course.first, course.last, course.growth) == (10.0, 5.0, 2.5)
    assert round(course.rate, 2) == 9.09
    assert course.steady(at_once=45) == 5.0


def test_processes_are_counted_while_all_of_them_run() -> None:
    """What one handles before and after the others is left out."""
    one = {str(tenth): 10 for tenth in range(100)}
    other = {str(tenth): 20 for tenth in range(10, 120)}
    assert together([one, other], settle=1.0) == 300.0


def test_lateness_has_percentiles() -> None:
    """A delay that ended before its time is told as early."""
    found = lateness({0: 98, 4: 1, -1: 1})
    assert found == pytest.approx(
        {"late_p50_s": 0.1, "late_p99_s": 0.1, "late_p100_s": 0.5, "early": 1}
    )


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 2, and the names that there are are told."""
    assert command.main(["--only", "backlog,huge"]) == 2
    assert "no case 'huge'; there are handlers," in capsys.readouterr().err


async def test_a_backlog_is_published_and_handled(mqkit_embedded: Broker) -> None:
    """Each half is a row, with the rates and the memory of a process of its own."""
    bench = Bench(Room(mqkit_embedded, mqkit_embedded.url), 400)
    published, handled = await asyncio.to_thread(lambda: list(CASES["backlog"](bench)))
    assert published.what == "400 published"
    assert handled.what == "400 handled"
    for each in (published, handled):
        assert each.figures["per_s"] > 0
        assert 5 < each.figures["rss_mib"] < 500
