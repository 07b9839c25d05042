"""Publishing a process's state, and what the service notices of it: nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from mqkit.broker.states import STATES
from mqkit.middleware import ServiceReading
from mqkit.observability.states import publishing
from mqkit.observability.states.publishing import StatePublisher
from mqkit.observability.states.state import decode
from mqkit.observability.states.tally import Tally
from tests.support import eventually
from tests.unit.observability.readings import reading
from tests.unit.observability.states.channels import FakeConnection


@pytest.fixture
def connection() -> FakeConnection:
    """Whose broker takes everything."""
    return FakeConnection()


def publisher(
    connection: FakeConnection, read: Callable[[], ServiceReading] = reading
) -> StatePublisher:
    """One that says something a hundred times a second."""
    return StatePublisher(connection.as_connection, Tally(), read, every=0.01)


async def running(made: StatePublisher, until: Callable[[], bool]) -> None:
    """Run it until something holds, and see that it neither ends nor fails."""
    task = asyncio.create_task(made.run())
    await eventually(until)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_state_is_transient_not_mandatory_and_expires(connection: FakeConnection) -> None:
    """It goes to the exchange of states, and is gone from a queue after three intervals."""
    await running(publisher(connection), lambda: len(connection.published) > 1)
    message = connection.published[0]
    assert (message.exchange, message.mandatory) == (STATES, False)
    assert (message.properties.persistent, message.properties.expiration) == (False, 0.03)
    assert connection.declared == [(STATES, "fanout", False)]
    first, second = (decode(each.body) for each in connection.published[:2])
    assert first.id == second.id
    assert first.up < second.up


async def test_the_last_word_is_that_it_ends(connection: FakeConnection) -> None:
    """It is written at once, and nothing after it."""
    made = publisher(connection)
    await running(made, lambda: bool(connection.published))
    count = len(connection.published)
    await made.end()
    await made.end()
    assert [decode(m.body).phase for m in connection.published[count:]] == ["ended"]


async def test_nothing_is_said_at_the_end_where_there_is_no_channel(
    connection: FakeConnection,
) -> None:
    """Not before it has begun, and not once the channel is closed or the broker blocks."""
    await publisher(connection).end()
    made = publisher(connection)
    await running(made, lambda: bool(connection.published))
    count = len(connection.published)
    connection.blocked = "low on memory"
    await made.end()
    assert len(connection.published) == count
    assert len(connection.channels) == 1


async def test_nothing_is_written_while_the_broker_blocks_publishers(
    connection: FakeConnection,
) -> None:
    """Nor later what could not be said meanwhile."""
    connection.blocked = "low on memory"
    made = publisher(connection)
    task = asyncio.create_task(made.run())
    for _ in range(10):
        await asyncio.sleep(0.01)
    assert connection.published == []
    connection.blocked = None
    await eventually(lambda: bool(connection.published))
    assert len(connection.published) <= 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("code", [403, 404, 406])
async def test_a_refusal_is_logged_once_and_seldom_tried_again(
    connection: FakeConnection,
    code: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The line says what to do; the service goes on, and is seen once it may be."""
    monkeypatch.setattr(publishing, "AFTER_REFUSAL", 0.05)
    connection.refuses = code
    made = publisher(connection)
    task = asyncio.create_task(made.run())
    await eventually(lambda: len(connection.channels) >= 4)
    (line,) = [each for each in caplog.records if each.levelno > logging.DEBUG]
    for part in (STATES, "mqkit topology permissions", "--no-states"):
        assert part in line.getMessage()
    connection.refuses = None
    await eventually(lambda: bool(connection.published))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_publish_that_is_refused_later_is_a_refusal(
    connection: FakeConnection, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker closes the channel after the write, where this user may not write there."""
    made = publisher(connection)
    task = asyncio.create_task(made.run())
    await eventually(lambda: bool(connection.published))
    connection.channels[0].close_by(403, "ACCESS_REFUSED")
    await eventually(lambda: "ACCESS_REFUSED" in caplog.text)
    assert len(connection.channels) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("code", [0, 320, 404])
async def test_a_lost_channel_is_opened_again_without_a_word(
    connection: FakeConnection, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection was lost, or the exchange was deleted: it is declared again."""
    made = publisher(connection)
    task = asyncio.create_task(made.run())
    await eventually(lambda: bool(connection.published))
    count = len(connection.published)
    connection.channels[0].close_by(code)
    await eventually(lambda: len(connection.published) > count)
    assert len(connection.channels) == 2
    assert [each for each in caplog.records if each.levelno > logging.DEBUG] == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_defect_is_logged_once_and_ends_nothing(
    connection: FakeConnection,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A service whose state cannot be read runs on."""
    monkeypatch.setattr(publishing, "AFTER_REFUSAL", 0.01)
    asked = []

    def read() -> ServiceReading:
        asked.append(1)
        raise LookupError("on purpose")

    await running(publisher(connection, read), lambda: len(asked) > 3)
    assert len([each for each in caplog.records if each.levelno > logging.DEBUG]) == 1
