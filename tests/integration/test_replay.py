"""A statement, replayed through both services on the real broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from handlers import statements
from handlers.ledger import POST_QUEUE
from handlers.replay.generate import statement_lines
from mqkit.testing.brokers.finder import Broker
from tests.faults.test_replay_faults import posted
from tests.integration.test_handlers_demo import processes_of
from tests.postgres import PostgresServer
from tests.support import ROOT, connected, delete, eventually, running

pytestmark = pytest.mark.in_turn

ROWS, ACCOUNTS = 1500, 60


@pytest.fixture
def statement(tmp_path: Path) -> Path:
    """A made-up statement of its own for each test: other ids, so that queues are not shared."""
    return made_up(tmp_path, ROWS, ACCOUNTS)


def made_up(folder: Path, rows: int, accounts: int) -> Path:
    path = folder / "statement.csv"
    lines = statement_lines(seed=int.from_bytes(os.urandom(4)), rows=rows, accounts=accounts)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def replay(
    statement: Path, url: str, database: Path | str, *options: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run it with --json: the process and the object that it printed.

    A database's URL goes by the environment, and the log into the statement's folder.
    """
    environment = {**os.environ, "MQKIT_URL": url, "PYTHONPATH": str(ROOT)}
    if isinstance(database, str):
        environment["LEDGER_DATABASE"] = database
    else:
        options = ("--database", str(database), *options)
    done = subprocess.run(
        [sys.executable, "-m", "handlers", "replay", str(statement), "--json", *options],
        cwd=statement.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    return done, json.loads(done.stdout) if done.stdout else {}


@pytest.mark.in_turn(embedded=True)  # as `make demo` runs
def test_a_statement_reconciles_and_posts_nothing_twice(
    broker: Broker, statement: Path, tmp_path: Path
) -> None:
    """Every row is posted and every account agrees; a second run posts nothing and agrees too."""
    database = tmp_path / "ledger.sqlite"
    done, first = replay(statement, broker.url, database)
    assert done.returncode == 0, done.stderr
    assert "guest:guest" not in done.stderr + (tmp_path / "ledger.sqlite.log").read_text()
    assert set(first) >= {
        "rows",
        "published",
        "posted",
        "already_posted",
        "rejected",
        "accounts",
        "exact",
        "within_rounding",
        "off",
        "total",
        "balanced",
        "rows_per_second",
        "broker",
    }
    assert (first["rows"], first["published"], first["posted"]) == (ROWS, ROWS, ROWS)
    assert (first["already_posted"], first["rejected"], first["off"]) == (0, 0, 0)
    assert first["accounts"] == first["exact"] + first["within_rounding"] == ACCOUNTS
    assert first["exact"] > 0
    assert first["within_rounding"] > 0
    assert first["balanced"] is True
    assert first["broker"] == broker.server
    again, second = replay(statement, broker.url, database)
    assert again.returncode == 0, again.stderr
    assert (second["posted"], second["already_posted"]) == (0, ROWS)
    told = f"{ROWS:,} of {ROWS:,} rows were posted before"
    assert [told in each.stderr for each in (done, again)] == [False, True]
    assert {k: second[k] for k in ("accounts", "exact", "total", "off")} == {
        k: first[k] for k in ("accounts", "exact", "total", "off")
    }


def test_a_ledger_on_postgresql_is_the_same(
    broker: Broker, tmp_path: Path, postgres: PostgresServer, name: str
) -> None:
    """Every row is posted once and every account agrees, also the second time.

    The password is in no log, and in no process's arguments.
    """
    rows, accounts = 400, 20
    statement = made_up(tmp_path, rows, accounts)
    database = postgres.create_database(name)
    password = str(make_url(database).password)
    stop, seen = threading.Event(), set[str]()
    watch = threading.Thread(target=_watch_arguments, args=(stop, seen))
    watch.start()
    try:
        (done, first), (again, second) = (replay(statement, broker.url, database) for _ in "12")
    finally:
        stop.set()
        watch.join()
        postgres.drop_database(name)
    assert done.returncode == again.returncode == 0, done.stderr + again.stderr
    assert (first["posted"], first["already_posted"], first["rejected"]) == (rows, 0, 0)
    assert (second["posted"], second["already_posted"], second["rejected"]) == (0, rows, 0)
    assert first["accounts"] == first["exact"] + first["within_rounding"] == accounts
    assert {k: second[k] for k in ("exact", "total", "off", "balanced")} == {
        k: first[k] for k in ("exact", "total", "off", "balanced")
    }
    log = (tmp_path / f"{name}.log").read_text()
    assert "ledger.post: consuming" in log
    assert "handlers.ledger:service" in " ".join(seen)
    assert password not in done.stderr + again.stderr + log + " ".join(seen)


def _watch_arguments(stop: threading.Event, seen: set[str]) -> None:
    """Gather the arguments of all processes of this machine until told to stop."""
    while not stop.wait(0.3):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))


async def test_malformed_rows_are_reported_and_dead_lettered_alone(
    broker: Broker, statement: Path, tmp_path: Path
) -> None:
    """Each is named with its line and kept in the dead letters; all others are posted; exit 1."""
    lines = statement.read_text().splitlines()
    bad = {
        5: '1;2;930101;"PRIJEM"',
        50: '9000001;2;930231;"PRIJEM";"VKLAD";700.00;700.00;"";;',
        500: '9000002;2;930101;"PRIJEM";"VKLAD";abc;700.00;"";;',
    }
    for line, text in bad.items():
        lines.insert(line - 1, text)
    statement.write_text("".join(f"{line}\n" for line in lines))
    async with connected(broker.url) as client:
        dead_before = 0
        try:
            dead_before = await client.messages("statements.rows.dead")
        except Exception:  # noqa: BLE001 - the first replay on this broker
            dead_before = 0
    done, report = replay(statement, broker.url, tmp_path / "ledger.sqlite")
    assert done.returncode == 1, done.stderr
    assert (report["rows"], report["posted"], report["rejected"]) == (ROWS + 3, ROWS, 3)
    assert (report["off"], report["balanced"]) == (0, True)
    reasons = {r["line"]: r["reason"] for r in report["rejections"]}
    assert reasons == {
        5: "4 fields instead of 10",
        50: "date '930231' is not a date written YYMMDD",
        500: "amount 'abc' is not an amount",
    }
    async with connected(broker.url) as client:
        dead = await client.take_all("statements.rows.dead")
    assert len(dead) - dead_before == 3
    found = {m.properties.headers["line"]: m for m in dead[-3:]}
    assert {line: m.body.decode() for line, m in found.items()} == bad
    assert found[500].properties.headers["mqkit-error-message"] == (
        "line 500: amount 'abc' is not an amount"
    )


async def test_a_ledger_that_runs_already_is_not_joined(
    broker: Broker, statement: Path, tmp_path: Path
) -> None:
    """It would post into its own database: nothing is published, and one line says what to stop."""
    elsewhere = {"LEDGER_DATABASE": str(tmp_path / "elsewhere.sqlite")}
    with running("handlers.ledger:service", broker.url, tmp_path / "log", **elsewhere) as other:
        await other.says("ledger.post: consuming")
        done, _ = await asyncio.to_thread(replay, statement, broker.url, tmp_path / "l.sqlite")
        assert done.returncode == 1
        assert "ledger.post is consumed already" in done.stderr
        assert "Traceback" not in done.stderr
        other.send(signal.SIGTERM)
        await other.ends()
    assert posted(tmp_path / "elsewhere.sqlite") == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_replay_that_is_stopped_ends_its_ledger_and_says_so(
    broker: Broker, tmp_path: Path, number: signal.Signals
) -> None:
    """No process is left that would post on, with the same exit code for Ctrl-C and SIGTERM."""
    statement = made_up(tmp_path, 20_000, ACCOUNTS)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "handlers", "replay", str(statement)),
        *("--database", str(tmp_path / "l.sqlite")),
        cwd=ROOT,
        env={**os.environ, "MQKIT_URL": broker.url},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    log = tmp_path / "l.sqlite.log"
    await eventually(lambda: log.exists() and "ledger.post: consuming" in log.read_text())
    assert processes_of(tmp_path) != []
    process.send_signal(number)
    _, told = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130
    assert told.decode().splitlines()[-1] == (
        "handlers: interrupted; what it had started has ended"
    )
    assert "Traceback" not in told.decode()
    assert processes_of(tmp_path) == []
    # What is left would be posted by other replays on this broker.
    for queue in (statements.ROWS_QUEUE, POST_QUEUE):
        for each in (queue, *queue.partition_queues()):
            await delete(broker.url, queue=each.name)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read"), (b"", "is empty"), (b"a,b\n1,2\n", "is not a statement")],
)
def test_a_file_that_is_no_statement_is_refused(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    """A missing, empty or foreign file is one clear line and exit code 1, before any broker."""
    path = tmp_path / "statement.csv"
    if content is not None:
        path.write_bytes(content)
    done, _ = replay(path, "amqp://guest:guest@127.0.0.1:1/", tmp_path / "l.sqlite")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_database_is_the_callers_fault(statement: Path) -> None:
    """A URL of another kind of database, or none, exits 2 before any broker, in one line."""
    for url in ("mysql://u:planted-secret@h/d", "postgresql://u:planted-secret@h"):
        done, _ = replay(statement, "amqp://guest:guest@127.0.0.1:1/", url)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "planted-secret" not in done.stderr


def test_a_wrong_url_is_the_callers_fault(statement: Path, tmp_path: Path) -> None:
    """A URL with an unknown parameter exits 2 and names the parameter, never the password."""
    done, _ = replay(
        statement,
        "",
        tmp_path / "l.sqlite",
        "--url",
        "amqp://guest:planted-secret@127.0.0.1/?heartbeet=5",
    )
    assert done.returncode == 2
    assert "'heartbeet'; use heartbeat" in done.stderr
    assert "planted-secret" not in done.stderr
