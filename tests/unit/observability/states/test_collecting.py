"""Collecting states, also where others put something else there."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import pytest

from mqkit.observability.states import collecting
from mqkit.observability.states.collecting import Collector
from mqkit.observability.states.state import encode
from tests.simulated_states import states
from tests.support import eventually
from tests.unit.observability.states.channels import FakeConnection, incoming

STATE = states(60.0, processes=1, queues=1, services=1)[0]


class Time:
    """A clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(collecting, "monotonic", lambda: self.now)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The clock of the collector."""
    return Time(monkeypatch)


def said(up: float, id_: str = STATE.id) -> bytes:
    """What a process says so many seconds after its start."""
    return encode(dataclasses.replace(STATE, id=id_, up=up))


async def listening(connection: FakeConnection) -> None:
    """Wait until the collector consumes."""
    await eventually(lambda: bool(connection.channels) and bool(connection.channels[0].deliver))


async def test_the_latest_word_of_each_process_is_kept() -> None:
    """One that comes late, or a second time, does not count."""
    collector = Collector(FakeConnection().as_connection)
    for up in (2.0, 6.0, 4.0):
        collector.take(said(up))
    collector.take(said(1.0, "ab" * 8))
    assert {each.state.id: each.state.up for each in collector.heard()} == {
        STATE.id: 6.0,
        "ab" * 8: 1.0,
    }


async def test_of_what_a_process_says_the_last_word_alone_is_read() -> None:
    """To read costs the most, and nobody has looked at what it said before."""
    read: list[float] = []
    collector = Collector(
        FakeConnection().as_connection, on_state=lambda state: read.append(state.up)
    )
    for up in (2.0, 6.0, 4.0):
        collector.take(said(up))
    assert read == []
    assert [each.state.up for each in (*collector.heard(), *collector.heard())] == [6.0, 6.0]
    assert read == [6.0]
    collector.take(said(8.0))
    assert collector.heard()[0].state.up == 8.0
    assert read == [6.0, 8.0]


async def test_what_begins_as_a_state_and_is_none_is_ignored_when_it_is_read() -> None:
    """What the process had said before stays, and what it says next is heard."""
    collector = Collector(FakeConnection().as_connection)
    collector.take(said(2.0))
    assert collector.heard()[0].state.up == 2.0
    collector.take(said(4.0)[:-20])
    assert collector.heard()[0].state.up == 2.0
    assert collector.ignored == 1
    collector.take(said(3.0))
    assert collector.heard()[0].state.up == 3.0


@pytest.mark.parametrize("limit", ["MAX_UNREAD", "MAX_PROCESSES"])
async def test_what_is_not_read_is_bounded(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Where nobody looks, it is read as soon as it is too much, and the latest are known."""
    monkeypatch.setattr(collecting, limit, 3 * len(said(2.0)) if limit == "MAX_UNREAD" else 3)
    read: list[float] = []
    collector = Collector(
        FakeConnection().as_connection, on_state=lambda state: read.append(state.up)
    )
    for number in range(10):
        collector.take(said(2.0, f"{number:08x}" * 2))
    assert len(read) == 8
    assert f"{9:08x}" * 2 in {each.state.id for each in collector.heard()}


async def test_what_is_no_state_is_counted_and_logged_once_for_each_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A flood of nonsense is a few lines in the log, and hides no process."""
    collector = Collector(FakeConnection().as_connection)
    for number in range(100):
        for body in (
            b"",
            b"\x00" * (300_000 + number),
            b'{"v": 1}',
            b'{"v": 2}',
            b'"\xed\xa0\x80"',
        ):
            collector.take(body)
    collector.take(said(2.0))
    assert collector.ignored == 500
    assert len(collector.heard()) == 1
    assert 1 <= len(caplog.records) <= 5


async def test_a_process_is_silent_after_three_intervals_and_forgotten_after_five_minutes(
    time: Time,
) -> None:
    """Both by when it was heard, and not by what it says of the time."""
    connection = FakeConnection()
    collector = Collector(connection.as_connection)
    task = asyncio.create_task(collector.run())
    await listening(connection)
    deliver = connection.channels[0].deliver
    assert deliver is not None
    deliver(incoming(said(2.0)))
    (heard,) = collector.heard()
    for later, is_silent in ((5.9, False), (6.1, True)):
        time.now = 1000.0 + later
        assert collector.is_silent(heard) is is_silent
    time.now = 1299.0
    assert collector.heard() == [heard]
    time.now = 1301.0
    assert collector.heard() == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_nobody_falls_silent_while_nothing_can_be_heard(time: Time) -> None:
    """During an outage of the broker, and for three intervals after it."""
    connection = FakeConnection()
    collector = Collector(connection.as_connection)
    task = asyncio.create_task(collector.run())
    await listening(connection)
    collector.take(said(2.0))
    (heard,) = collector.heard()
    connection.refuses = 403
    connection.channels[0].close_by(403, "refused")
    await eventually(lambda: bool(collector.problem))
    time.now = 1100.0
    assert not collector.is_silent(heard)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    connection.refuses = None
    task = asyncio.create_task(collector.run())
    await eventually(lambda: not collector.problem)
    assert not collector.is_silent(heard)
    time.now = 1107.0
    assert collector.is_silent(heard)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_a_lost_queue_is_declared_again(how: str) -> None:
    """Where the channel is lost, or somebody deletes the queue."""
    connection = FakeConnection()
    collector = Collector(connection.as_connection)
    task = asyncio.create_task(collector.run())
    await listening(connection)
    first = connection.channels[0]
    assert first.cancelled is not None
    if how == "closed":
        first.close_by(0)
    else:
        first.cancelled()
    await eventually(lambda: len(connection.channels) == 2 and bool(connection.channels[1].deliver))
    assert not first.is_open
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not connection.channels[1].is_open


async def test_a_refusal_is_a_problem_that_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again, and the problem goes away."""
    monkeypatch.setattr(collecting, "AGAIN", 0.01)
    caplog.set_level(logging.WARNING)
    connection = FakeConnection()
    connection.refuses = 406
    collector = Collector(connection.as_connection)
    task = asyncio.create_task(collector.run())
    await eventually(lambda: len(connection.channels) > 3)
    assert "it says so" in collector.problem
    assert len(caplog.records) == 1
    connection.refuses = None
    await eventually(lambda: not collector.problem)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_only_so_many_processes_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes up processes fills no memory; the ones that spoke longest ago go."""
    monkeypatch.setattr(collecting, "MAX_PROCESSES", 3)
    collector = Collector(FakeConnection().as_connection)
    for number in range(10):
        collector.take(said(2.0, f"{number:016x}"))
    assert [each.state.id for each in collector.heard()] == [f"{n:016x}" for n in (7, 8, 9)]
