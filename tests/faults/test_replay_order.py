"""The order of each account's entries, while runs fail and processes are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from handlers import ledger, statements
from handlers.events import LINE_HEADER, EntryRecorded, Origin
from handlers.replay.generate import statement_lines
from handlers.replay.replay import PROCESSES
from mqkit import Outgoing
from mqkit.broker.declare import declare
from mqkit.drivers.base import Incoming
from tests.faults.test_replay_faults import kill_ledger, lines_posted, out_of_order, posted
from tests.support import ROOT, connected, eventually, running

pytestmark = [pytest.mark.in_turn, pytest.mark.long]

ROWS, ACCOUNTS = 1500, 40

KILLS = (300, 800)
"""How many entries have come through when the process is killed."""

FAILS = 25
"""One line of so many fails, in each process that comes to it, at its first run."""

LEDGER_FAILS = f"""
import sys
if "handlers.ledger:service" in sys.orig_argv:
    from handlers.accounting import posting
    from mqkit.errors import StatementError

    post_all, failed = posting.post_all, set()

    async def fail_once(connection, entries, **options):
        lines = {{origin.line for _, origin in entries if origin.line % {FAILS} == 0}} - failed
        if lines:
            failed.update(lines)
            raise StatementError("for the test")
        return await post_all(connection, entries, **options)

    posting.post_all = fail_once
"""

STATEMENTS_FAIL = f"""
import sys
if "handlers.statements:service" in sys.orig_argv:
    from mqkit import PublishError
    from mqkit.publishing import publisher

    publish, failed = publisher.Publisher.publish, set()

    async def fail_once(self, exchange, routing_key, body, **options):
        line = options["headers"]["line"]
        if line % {FAILS} == 0 and line not in failed:
            failed.add(line)
            raise PublishError(
                "for the test", exchange=exchange.name, routing_key=routing_key, message_id=None
            )
        return await publish(self, exchange, routing_key, body, **options)

    publisher.Publisher.publish = fail_once
"""


def with_failures(code: str, tmp_path: Path) -> dict[str, str]:
    """The environment in which a process runs this when it starts."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}


@pytest.mark.timeout(240)
def test_the_ledger_posts_each_account_in_the_order_of_the_file(
    mqkit_vhost: str, tmp_path: Path
) -> None:
    """Also entries whose posting is tried again, and those that a killed ledger leaves behind."""
    path, database = tmp_path / "statement.csv", tmp_path / "ledger.sqlite"
    lines = statement_lines(seed=7, rows=ROWS, accounts=ACCOUNTS)
    path.write_text("".join(f"{line}\n" for line in lines))
    with (tmp_path / "out").open("w+") as out, (tmp_path / "err").open("w+") as err:
        process = subprocess.Popen(
            [
                sys.executable,
                *("-m", "handlers", "replay", str(path)),
                *("--database", str(database), "--json"),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "MQKIT_URL": mqkit_vhost,
                **with_failures(LEDGER_FAILS, tmp_path),
            },
            stdout=out,
            stderr=err,
        )
        try:
            for threshold in KILLS:
                deadline = time.monotonic() + 60
                while posted(database) < threshold:
                    assert process.poll() is None, Path(err.name).read_text()
                    assert time.monotonic() < deadline, "the replay does not go on"
                    time.sleep(0.01)
                kill_ledger(process, deadline)
            code = process.wait(timeout=120)
        finally:
            process.kill()
            process.wait()
    errors = Path(err.name).read_text()
    assert code == 0, errors
    assert errors.count("was killed by SIGKILL") == len(KILLS) * PROCESSES
    assert "StatementError" in (tmp_path / "ledger.sqlite.log").read_text()
    report = json.loads(Path(out.name).read_text())
    assert (report["posted"], report["rejected"], report["off"]) == (ROWS, 0, 0)
    found = lines_posted(database)
    assert out_of_order(found) == {}
    assert (len(found), sum(map(len, found.values()))) == (ACCOUNTS, ROWS)


@pytest.mark.timeout(240)
async def test_the_statements_service_publishes_each_account_in_the_order_of_the_file(
    mqkit_vhost: str, tmp_path: Path
) -> None:
    """An entry may come twice, but none before an earlier one of its account has come."""
    rows = list(statement_lines(seed=7, rows=ROWS, accounts=ACCOUNTS))[1:]
    rows.insert(500, rows[499].replace(";", ";;", 2))
    seen: list[tuple[int, int]] = []

    def take(incoming: Incoming) -> None:
        entry = EntryRecorded.model_validate_json(incoming.body)
        seen.append((entry.account_id, Origin.of(incoming.properties.headers).line))

    messages = (
        Outgoing(
            statements.STATEMENTS,
            statements.ROW_KEY,
            row.encode(),
            headers={LINE_HEADER: number},
        )
        for number, row in enumerate(rows, 2)
    )
    log, failures = tmp_path / "log", with_failures(STATEMENTS_FAIL, tmp_path)
    async with connected(mqkit_vhost) as client, client.channel() as channel:
        for service in (statements.service, ledger.service):
            await declare(client.connection.channel, service.topology)
        async for result in client.publisher.publish_many(messages):
            assert result.error is None
        await channel.consume(ledger.POST_QUEUE.name, take, lambda: None)
        for threshold in (*KILLS, ROWS):
            with running("handlers.statements:service", mqkit_vhost, log, **failures):
                await eventually(lambda: len(set(seen)) >= threshold, 60)  # noqa: B023
        dead = await client.take_all(statements.ROWS_QUEUE.dead_queue)
    assert {each.properties.headers[LINE_HEADER] for each in dead} == {502}
    assert "PublishError" in log.read_text()
    found: dict[int, list[int]] = defaultdict(list)
    for account, line in dict.fromkeys(seen):
        found[account].append(line)
    assert out_of_order(found) == {}
    assert (len(found), sum(map(len, found.values()))) == (ACCOUNTS, ROWS)
