"""Ways to stop a service: the short form of `python -m tests.faults.stops`."""

from __future__ import annotations

from pathlib import Path

import pytest

from mqkit.testing.brokers.finder import Broker
from tests.faults.stops import WAYS, Result, run, table

BY_NAME = {way.what: way for way in WAYS}

SHORT = [
    ("a thread that never ends", "uvloop", 1),
    ("a handler that blocks the loop", "uvloop", 2),
    ("a provider that raises on close", "asyncio", 1),
    ("a provider that hangs on close", "uvloop", 1),
    ("a provider that blocks on close", "asyncio", 1),
    ("a log that nobody reads", "asyncio", 2),
    ("a broker that is gone", "uvloop", 1),
    ("SIGKILL of the supervisor (or the only process)", "uvloop", 2),
]


@pytest.mark.parametrize(("what", "loop", "processes"), SHORT)
async def test_whatever_holds_it_up_it_is_gone_in_time(
    mqkit_embedded: Broker, tmp_path: Path, what: str, loop: str, processes: int
) -> None:
    """Within its grace period and five seconds no process is left, and every message is back."""
    result = await run(BY_NAME[what], loop, processes, mqkit_embedded.url, tmp_path / "run")
    assert result.problems == [], result.log
    assert result.back == 4


async def test_what_held_it_up_is_told(mqkit_embedded: Broker, tmp_path: Path) -> None:
    """The log names what was closed when the time was over, and the line that it was at."""
    way = BY_NAME["a provider that blocks on close"]
    result = await run(way, "uvloop", 1, mqkit_embedded.url, tmp_path / "run")
    (line,) = [line for line in result.log.splitlines() if "CRITICAL" in line]
    assert "while closing its Resource" in line
    assert "stop_services.py" in line
    assert "(block_on_close)" in line
    assert "(never_return)" in line


def test_the_table_marks_what_does_not_hold() -> None:
    """A run that took too long, lost a message, or warned of a lost exception is a problem."""
    way = BY_NAME["a thread that never ends"]
    good = Result(way, "asyncio", 1, 2.0, 1, 4, 0, "")
    late = Result(way, "uvloop", 2, 6.1, 0, 3, 1, "exception was never retrieved")
    assert good.problems == []
    assert len(late.problems) == 4
    assert table([good, late]).splitlines()[-1] == (
        "| a thread that never ends | 2.0 s, exit 1, 4 back | 6.1 s, exit 0, 3 back ! |"
    )
