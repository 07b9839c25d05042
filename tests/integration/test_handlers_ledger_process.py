"""The ledger's processes, as the replay runs them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from handlers.accounting.database import database_url
from handlers.replay.replay import ledger_process
from handlers.running.processes import MqkitProcess, ProcessError
from mqkit.testing.brokers import Broker


async def test_a_ledger_that_cannot_start_is_an_error_with_the_end_of_its_log(
    mqkit_embedded: Broker, tmp_path: Path
) -> None:
    """The supervisor gives it up at once, and the replay need not wait for its own timeout."""
    database = tmp_path / "notes.txt"
    database.write_text("not a database, and long enough to be sure of it" * 20)
    told: list[str] = []
    url = database_url(str(database))
    process = ledger_process(mqkit_embedded.url, url, tmp_path / "log", told.append)

    async def watched() -> None:
        async with asyncio.timeout(60):
            while True:
                process.check()
                await asyncio.sleep(0.05)

    await process.start()
    try:
        with pytest.raises(ProcessError, match=r"(?s)exit code 1.*notes\.txt.*not a database"):
            await watched()
    finally:
        await process.stop()
    assert told == []


async def test_a_process_that_says_nothing_in_its_time_is_an_error(tmp_path: Path) -> None:
    """It names the process and the time, with the end of its log."""
    broker = MqkitProcess(
        "the broker", "broker", "--port", "0", environment={}, log=tmp_path / "log", tell=print
    )
    await broker.start()
    try:
        await broker.said(re.compile("amqp://"), within=60)
        with pytest.raises(ProcessError, match=r"(?s)the broker did not start in 0.1 s.*amqp://"):
            await broker.said(re.compile("never"), within=0.1)
    finally:
        await broker.stop()


async def test_a_process_that_was_killed_is_started_again(tmp_path: Path) -> None:
    """That it was killed on purpose is no error, and its log goes on."""
    log = tmp_path / "log"
    broker = MqkitProcess(
        "the broker", "broker", "--port", "0", environment={}, log=log, tell=print
    )
    await broker.start()
    try:
        await broker.said(re.compile("amqp://"), within=60)
        await broker.kill()
        broker.check()
        await broker.start()
        await broker.said(re.compile("(?s)amqp://.*amqp://"), within=60)
    finally:
        await broker.stop()
