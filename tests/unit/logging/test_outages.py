"""An outage is a line at its start, one a minute, and one at its end."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from mqkit.errors import ConnectError
from mqkit.logging.outages import OutageLog, duration


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC)
        self.since = f"{self.now.astimezone():%H:%M:%S}"

    def __call__(self) -> datetime:
        return self.now

    def moves(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{each.levelname} {each.getMessage()}" for each in caplog.records]


def test_it_is_a_line_at_its_start_one_a_minute_and_one_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With since when, how long, and why; each try between them counts."""
    caplog.set_level(logging.INFO, "mqkit.outages")
    clock = Clock()
    outages = OutageLog(clock=clock)
    outages.down("a", "connection lost", "reset", then="connecting again")
    for _ in range(130):
        clock.moves(1)
        outages.down("a", "no connection", ConnectError("refused"))
    clock.moves(1)
    assert outages.up("a", "connected")
    lost = f"WARNING a: connection lost since {clock.since}"
    assert told(caplog) == [
        f"{lost}: reset; connecting again",
        f"{lost}, for 1 min 0 s now: refused (60 times); trying again",
        f"{lost}, for 2 min 0 s now: refused (60 times); trying again",
        f"INFO a: connected, after 2 min 11 s (since {clock.since})",
    ]
    assert caplog.records[-1].__dict__["lasted"] == 131
    assert caplog.records[1].__dict__["error"]["text"] == "refused"


def test_it_lasts_until_all_who_share_it_are_back(caplog: pytest.LogCaptureFixture) -> None:
    """It has the name of who noticed it first."""
    caplog.set_level(logging.INFO, "mqkit.outages")
    outages = OutageLog(clock=Clock())
    outages.down("a", "connection lost", "reset")
    outages.down("b", "connection lost", "reset")
    assert outages.up("a", "connected to x")
    assert outages.up("b", "connected to y")
    assert not outages.up("b", "connected to y")
    outages.down("b", "connection lost", "reset")
    assert [line.split(",")[0].split(" since")[0] for line in told(caplog)] == [
        "WARNING a: connection lost",
        "INFO a: connected to y",
        "WARNING b: connection lost",
    ]


def test_what_is_no_ordinary_reason_is_told_once_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback where it is none of mqkit's errors; the others are at DEBUG."""
    caplog.set_level(logging.DEBUG, "mqkit.outages")
    outages = OutageLog(clock=Clock())
    for error in (ConnectError("a"), ValueError("password=b"), ValueError("c")):
        outages.down(
            "x", "no connection", error, news=None if type(error) is ConnectError else type(error)
        )
    assert [each.levelname for each in caplog.records] == ["WARNING", "WARNING", "DEBUG"]
    assert [bool(each.exc_text) for each in caplog.records] == [False, True, True]
    assert "ValueError: password=***" in caplog.records[1].getMessage()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0.0 s"), (4.21, "4.2 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")],
)
def test_a_duration_is_told_to_a_person(seconds: float, words: str) -> None:
    """In the two units that matter."""
    assert duration(timedelta(seconds=seconds)) == words
