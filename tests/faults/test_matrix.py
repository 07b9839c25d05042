"""Each row of the fault matrix in its short form, on every RabbitMQ of our own that can be had."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqkit.testing.brokers import BrokerNotFoundError, BrokerSpec, find_brokers, start
from tests.faults.matrix import __main__ as command
from tests.faults.matrix.bench import tail
from tests.faults.matrix.execute import execute
from tests.faults.matrix.figures import HOLDS
from tests.faults.matrix.room import Rooms
from tests.faults.matrix.row import Row, rows


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


def test_a_row_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown row ends the command with 2, and it says which there are."""
    assert command.main(["--rows", "4,99"]) == command.WRONG
    assert "no row 99; there are 1, 2," in capsys.readouterr().err
