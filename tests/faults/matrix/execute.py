"""Runs one row on one broker, and leaves the broker as it was."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from tests.faults.matrix.bench import ROW_LOG, Bench, logging_to
from tests.faults.matrix.figures import Figures
from tests.faults.matrix.room import Rooms
from tests.faults.matrix.row import Row

logger = logging.getLogger(__name__)

SHORT_LIMIT, LONG_LIMIT = 90.0, 3600.0
"""Seconds after which a row is ended, and has failed."""


async def execute(
    row: Row, rooms: Rooms, directory: Path, *, short: bool, faults: int | None = None
) -> Figures:
    """Run the row and judge it; whatever goes wrong is a problem in its figures.

    :param faults: how many to inject, in the place of the form's own number
    """
    broker = rooms.broker
    figures = Figures(row.number, row.title, broker.label)
    count = faults or (row.short if short else row.long)
    logs = directory / "logs"
    logs.mkdir(parents=True)
    began = time.monotonic()
    try:
        room = await asyncio.to_thread(rooms.take)
        bench = Bench(figures, room, broker, directory, faults=count, short=short)
        try:
            with logging_to(logs / ROW_LOG):
                await _run(row, bench)
        finally:
            bench.journal.close()
            await asyncio.to_thread(broker.start)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding about this row
        figures.problems.append(_words(error))
    figures.seconds = time.monotonic() - began
    return figures


async def _run(row: Row, bench: Bench) -> None:
    try:
        async with asyncio.timeout(SHORT_LIMIT if bench.short else LONG_LIMIT):
            await row.run(bench)
    except Exception as error:
        logger.exception("row %d failed", row.number)
        bench.problem(_words(error))
        await asyncio.to_thread(bench.broker.start)
    await bench.judge()


def _words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {str(error)[:1000]}"
