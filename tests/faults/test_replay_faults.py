"""The replay while connections are closed and the ledger is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pytest

from handlers.replay.generate import statement_lines
from handlers.replay.replay import PROCESSES
from mqkit.testing.brokers.finder import Broker
from tests.support import ROOT

pytestmark = [pytest.mark.in_turn, pytest.mark.long]

REAL = ROOT.parent / "shared" / "data" / "bank" / "transactions.csv"
"""A real bank's statement, for the long form, where the machine has one."""

IS_LONG = bool(os.environ.get("MQKIT_TEST_LONG"))
"""Whether `MQKIT_TEST_LONG=1` asks for the long form: a statement of a real bank's size."""

ROWS, ACCOUNTS = (12_000, 300) if IS_LONG else (6_000, 100)


def posted(database: Path) -> int:
    """Entries in the ledger."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(
            sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)
        ) as connection,
    ):
        return int(connection.execute("SELECT count(*) FROM ledger_transaction").fetchone()[0])
    return 0


def lines_posted(database: Path) -> dict[int, list[int]]:
    """Account to the lines of its entries, in the ledger's own order of posting them."""
    found: dict[int, list[int]] = defaultdict(list)
    query = "SELECT account_id, source_line FROM ledger_transaction ORDER BY id"
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        for account, line in connection.execute(query):
            found[account].append(line)
    return found


def out_of_order(lines: dict[int, list[int]]) -> dict[int, list[int]]:
    """The accounts whose lines are not in the order of the file."""
    return {account: each for account, each in lines.items() if each != sorted(each)}


def kill_ledger(replay: subprocess.Popen[bytes], deadline: float) -> None:
    """SIGKILL to the processes that run the ledger, all of them, once all are there."""
    while len(pids := _ledger_pids(replay.pid)) < PROCESSES:
        assert replay.poll() is None, "the replay has ended"
        assert time.monotonic() < deadline, "the ledger was not started again"
        time.sleep(0.01)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _ledger_pids(replay: int) -> list[int]:
    """The children of the replay's child, which is their supervisor."""
    return [pid for supervisor in _children(replay) for pid in _children(supervisor)]


def _children(parent: int) -> list[int]:
    """Those of the ledger."""
    found = []
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            with contextlib.suppress(OSError):
                if b"handlers.ledger:service" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
    return found


def statement(tmp_path: Path) -> tuple[Path, int]:
    """The real statement or a made-up one, and its number of rows."""
    if IS_LONG and REAL.exists():
        return REAL, REAL.read_bytes().count(b"\n") - 1
    path = tmp_path / "statement.csv"
    lines = statement_lines(seed=time.time_ns(), rows=ROWS, accounts=ACCOUNTS)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path, ROWS


@pytest.mark.timeout(300)
def test_kills_and_closed_connections_do_not_change_the_figures(
    broker: Broker, tmp_path: Path
) -> None:
    """With all connections closed ten times and three SIGKILLs, each row is posted exactly once.

    And each account's in the order of the file.
    """
    path, rows = statement(tmp_path)
    database = tmp_path / "ledger.sqlite"
    faults = ["close", "kill", "close", "close", "close"] * 3 + ["close"]
    faults = [fault for n, fault in enumerate(faults) if fault == "kill" or n not in (2, 7, 12)]
    assert (faults.count("close"), faults.count("kill")) == (10, 3)
    with (tmp_path / "out").open("w+") as out, (tmp_path / "err").open("w+") as err:
        process = subprocess.Popen(
            [
                sys.executable,
                *("-m", "handlers", "replay", str(path)),
                *("--database", str(database), "--json"),
            ],
            cwd=ROOT,
            env={**os.environ, "MQKIT_URL": broker.url},
            stdout=out,
            stderr=err,
        )
        try:
            there = 0
            for n, fault in enumerate(faults):
                # Spread over the first half, each once enough is in the ledger, and something that
                # came after the one before: RabbitMQ 4.3.6 may keep a consumer that was closed as
                # soon as it had come as the active one, and deliver nothing more to anybody.
                threshold = max(200 + rows * n // (2 * len(faults)), there + 1)
                deadline = time.monotonic() + 60
                while posted(database) < threshold:
                    assert process.poll() is None, Path(err.name).read_text()
                    assert time.monotonic() < deadline, "the replay does not go on"
                    time.sleep(0.01)
                if fault == "close":
                    broker.close_connections()
                else:
                    kill_ledger(process, deadline)
                there = posted(database)
            code = process.wait(timeout=200)
        finally:
            process.kill()
            process.wait()
    errors = Path(err.name).read_text()
    report = json.loads(Path(out.name).read_text() or "{}")
    assert code == 0, errors
    assert errors.count("was killed by SIGKILL") == 3 * PROCESSES
    assert errors.count("connection lost") >= 5  # what is lost again at once is one outage
    assert (report["rows"], report["published"], report["posted"]) == (rows, rows, rows)
    assert (report["already_posted"], report["rejected"], report["off"]) == (0, 0, 0)
    assert report["balanced"] is True
    assert posted(database) == rows
    assert out_of_order(lines_posted(database)) == {}
    if path == REAL and rows == 22_927:
        assert (report["accounts"], report["exact"], report["within_rounding"]) == (591, 320, 271)
        assert Decimal(report["total"]) == Decimal("19152957.20")
