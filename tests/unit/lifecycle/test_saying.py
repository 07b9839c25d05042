"""Whether and by what a service says how its process is."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from mqkit import OptionError
from mqkit.clock import utc_now
from mqkit.lifecycle.saying import Saying
from mqkit.logging.error_reports import REPORTS
from mqkit.middleware import Observer
from mqkit.observability.metrics import Metrics
from mqkit.observability.states.tally import Tally
from mqkit.system.machine import MACHINE
from tests.support import eventually
from tests.unit.observability.readings import reading
from tests.unit.observability.states.channels import FakeConnection


def saying(states: Any, *observers: Observer) -> Saying:
    """Of a service with these observers."""
    return Saying(states, observers, clock=utc_now, machine=MACHINE, reports=REPORTS)


def test_it_counts_only_where_it_is_asked_to() -> None:
    """A service that says nothing has no observer for it."""
    metrics = Metrics()
    silent = saying(False, metrics)
    assert silent.observers == (metrics,)
    assert not silent.needs_readings
    told = saying(True, metrics)
    assert [type(each) for each in told.observers] == [Metrics, Tally]
    assert told.needs_readings


def test_what_counts_already_counts_for_the_states() -> None:
    """In a process of a supervisor each message is counted once."""
    tally = Tally()
    assert saying(True, tally).observers == (tally,)


async def test_it_publishes_from_its_start_to_its_end() -> None:
    """And where it is not asked to there is no task, and no step at the end."""
    connection = FakeConnection()
    silent = saying(False)
    assert silent.start(connection.as_connection, reading) == []
    assert silent.closing() == []
    told = saying(True)
    (task,) = told.start(connection.as_connection, reading)
    await eventually(lambda: bool(connection.published))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    ((_, end),) = told.closing()
    await end()
    assert len(connection.published) == 2


def test_it_takes_a_flag() -> None:
    """No seconds, and no text."""
    for wrong in (2.0, "yes", None):
        with pytest.raises(OptionError, match="states"):
            saying(cast(bool, wrong))
