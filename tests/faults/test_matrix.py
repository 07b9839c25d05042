"""Each row of the fault matrix in its short form, on every RabbitMQ of our own that can be had."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqkit.testing.brokers.finder import BrokerNotFoundError, BrokerSpec, find_brokers, start
from tests.faults.matrix import __main__ as command
from tests.faults.matrix.bench import Bench, tail
from tests.faults.matrix.execute import execute
from tests.faults.matrix.figures import HOLDS
from tests.faults.matrix.journal import Journal
from tests.faults.matrix.room import Rooms
from tests.faults.matrix.row import Row, rows
from tests.faults.store_services import COMMITS

pytestmark = [pytest.mark.in_turn, pytest.mark.long]


@functools.cache
def _own_brokers() -> list[BrokerSpec]:
    """Rows kill, stop and block their broker: one that somebody else runs is not for them."""
    for kind in ("container", "node"):
        try:
            return find_brokers({**os.environ, "MQKIT_TEST_BROKER": kind})
        except BrokerNotFoundError:
            continue
    return []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "matrix_broker" in metafunc.fixturenames:
        found = _own_brokers()
        metafunc.parametrize(
            "matrix_broker",
            found,
            ids=[spec.label for spec in found],
            indirect=True,
            scope="module",
        )


@pytest.fixture(scope="module")
def matrix_broker(request: pytest.FixtureRequest) -> Iterator[Rooms]:
    with start(request.param) as broker:
        yield Rooms(broker)


@pytest.mark.parametrize("row", rows().values(), ids=lambda row: f"{row.number:02}")
async def test_row_holds(matrix_broker: Rooms, row: Row, tmp_path: Path) -> None:
    """Nothing is lost or applied twice, queues end empty, no secret is in a log."""
    figures = await execute(row, matrix_broker, tmp_path / "row", short=True)
    assert figures.verdict == HOLDS, f"{figures.problems}\n{tail(tmp_path / 'row' / 'logs')}"


@pytest.mark.parametrize("commits", [each for each in COMMITS if each != "groups"])
@pytest.mark.parametrize("number", [17, 18])
async def test_killed_workers_lose_nothing_without_groups(
    matrix_broker: Rooms,
    number: int,
    commits: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Workers that die around the commit of a batch, or of one message, lose and double nothing."""
    monkeypatch.setenv("MQKIT_MATRIX_COMMITS", commits)
    figures = await execute(rows()[number], matrix_broker, tmp_path / "row", short=True)
    assert figures.verdict == HOLDS, f"{figures.problems}\n{tail(tmp_path / 'row' / 'logs')}"


async def break_every_promise(bench: Bench) -> None:
    """Lose a message, apply one twice, and one that is dead-lettered; leave things behind."""
    async with bench.client() as client:
        await client.declare("matrix.broken")
        lost, twice, both = [
            await bench.publish(client.publisher, "", "matrix.broken") for _ in range(3)
        ]
        bench.journal.apply(twice)
        bench.journal.apply(twice)
        bench.journal.apply(both)
        bench.journal.dead_lettered(both)
    logging.getLogger("mqkit").debug("message %s: %s", lost, bench.body(lost))
    bench.recovered(time.monotonic() - 60)
    left_behind.append(asyncio.create_task(asyncio.sleep(3600)))


left_behind: list[asyncio.Task[None]] = []


async def test_a_row_that_keeps_no_promise_fails(matrix_broker: Rooms, tmp_path: Path) -> None:
    """Whatever is lost, doubled, late, logged, or left behind is told as a problem of its row."""
    row = Row(0, "all at once", (), 1, break_every_promise)
    figures = await execute(row, matrix_broker, tmp_path / "row", short=True)
    left_behind.pop().cancel()
    assert (figures.verdict, figures.messages, figures.lost, figures.twice) == ("fails", 3, 1, 2)
    for problem in (
        "1 messages lost",
        "2 messages applied twice",
        "only 0 of 1 faults",
        "messages are left in queues: {'matrix.broken': 3}",
        "1 tasks are left",
        "the planted card is in row.log",
        "a recovery took 60",
    ):
        assert problem in "; ".join(figures.problems)


def test_overlapping_runs_are_found(tmp_path: Path) -> None:
    """Two runs of a key at the same time are told, also where one's process was killed."""
    with contextlib.closing(Journal(tmp_path / "journal")) as journal:
        with journal.handling("together"), journal.handling("together"):
            pass
        for _ in range(2):
            with journal.handling("apart"):
                pass
        killed = journal.handling("killed")
        killed.__enter__()
        journal.died(os.getpid(), time.monotonic())
        with journal.handling("killed"):
            pass
        assert journal.together() == {"together"}
        assert journal.running() == 0
        killed.__exit__(None, None, None)


def test_a_row_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown row ends the command with 2, and it says which there are."""
    assert command.main(["--rows", "4,99"]) == command.WRONG
    assert "no row 99; there are 1, 2," in capsys.readouterr().err


def test_an_image_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A version without an image, or no engine at all, ends the command with 2, and is named."""
    assert command.main(["--rows", "4", "--brokers", "0.1"]) == command.WRONG
    said = capsys.readouterr().err
    assert "rabbitmq:0.1-management" in said or "Docker engine" in said
