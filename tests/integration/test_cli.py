"""The commands as a person calls them, on the real broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mqkit.testing.brokers import Broker
from tests.support import ROOT, connected, eventually

SECRET = "planted-secret"


def mqkit(*arguments: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    environment = {k: v for k, v in os.environ.items() if k != "MQKIT_URL"}
    return subprocess.run(
        [sys.executable, "-m", "mqkit", *arguments],
        cwd=ROOT,
        env=environment | ({"MQKIT_URL": url} if url else {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "tests.faults.services:slow"], 2, "set MQKIT_URL"),
        (["run", "tests.faults.services:slow", "--url", f"amqp://u:{SECRET}@h:x/"], 2, "the port"),
        (
            ["run", "tests.faults.services:slow", "--url", f"amqp://u:{SECRET}@h/?heartbeet=1"],
            2,
            "unknown parameter 'heartbeet'; use heartbeat",
        ),
        (["run", "tests.faults.services:nope", "--url", "amqp://h"], 2, "has no 'nope'"),
        (["run", "tests.faults.services:note", "--url", "amqp://h"], 2, "not a Service"),
        (["run", "tests.nowhere:slow", "--url", "amqp://h"], 2, "no module 'tests.nowhere'"),
        (["run", "tests.faults.services", "--url", "amqp://h"], 2, "is not MODULE:SERVICE"),
        (
            ["run", "tests.integration.wrong_services:service", "--url", "amqp://h"],
            2,
            "delivery_limit is 20 in one and 5 in the other",
        ),
        (["run", "tests.faults.services:slow", "--grace", "-1"], 2, "--grace"),
        (["run", "tests.faults.services:slow", "--log-level", "loud"], 2, "not a log level"),
        (["runn"], 2, "runn"),
        (
            [
                *("run", "tests.faults.services:slow", "--connect-deadline", "0.3"),
                *("--url", f"amqp://u:{SECRET}@127.0.0.1:1/"),
            ],
            1,
            "127.0.0.1:1: Connection refused",
        ),
        (["publish", "", "k", "--file", "/nowhere", "--url", "amqp://h"], 2, "does not exist"),
        (["publish", "", "k", "--file", ".", "--url", "amqp://h"], 2, "not a regular file"),
        (["publish", "", "k", "--url", "amqp://h"], 2, "--file"),
    ],
)
def test_a_wrong_call_is_one_clear_error(arguments: list[str], code: int, words: str) -> None:
    """Each mistake names what is wrong, exits 1 or 2, and shows no traceback and no secret."""
    done = mqkit(*arguments)
    flat = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == code, done.stderr
    assert words in flat
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr


def lines_file(folder: Path, count: int) -> Path:
    """JSON lines."""
    path = folder / "lines.jsonl"
    path.write_text("".join(f'{{"n": {n}}}\n' for n in range(count)))
    return path


async def test_a_file_is_published_and_failures_are_named(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """Good lines are stored as they are, bad ones named by number, and a rerun adds nothing."""
    path = lines_file(tmp_path, 50)
    with path.open("ab") as file:
        file.write(b'{"broken\n\n\xff\xfe\n{"n":  50 }\n')
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        done = mqkit("publish", "", f"{name}.q", "--file", str(path), "--json", url=broker.url)
        result = json.loads(done.stdout)
        assert done.returncode == 1
        assert (result["lines"], result["confirmed"], result["skipped"]) == (53, 51, 0)
        assert [failure["line"] for failure in result["failed"]] == [51, 53]
        assert "not JSON" in result["failed"][0]["error"]
        assert "not UTF-8" in result["failed"][1]["error"]
        stored = await client.take_all(f"{name}.q")
        assert len(stored) == 51
        assert {m.body for m in stored} >= {b'{"n":  50 }', b'{"n": 0}'}
        assert {m.properties.content_type for m in stored} == {"application/json"}
        refused = mqkit("publish", "", f"{name}.q", "--file", str(path), url=broker.url)
        assert refused.returncode == 2
        assert "--resume" in refused.stderr
        again = mqkit(
            "publish", "", f"{name}.q", "--file", str(path), "--resume", "--json", url=broker.url
        )
        result = json.loads(again.stdout)
        assert (result["confirmed"], result["skipped"], len(result["failed"])) == (0, 51, 2)
        assert await client.messages(f"{name}.q") == 0


async def test_an_interrupted_run_is_resumed_without_a_second_copy(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """Interrupted in the middle and resumed, each line is in the queue exactly once."""
    count, queue = 20_000, f"{name}.q"
    path = lines_file(tmp_path, count)
    async with connected(broker.url) as client:
        await client.declare(queue)
        command = [sys.executable, "-m", "mqkit", "publish", "", queue, "--file", str(path)]
        environment = {**os.environ, "MQKIT_URL": broker.url}
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

        async def on_its_way() -> bool:
            return await client.messages(queue) > 500

        await eventually(on_its_way)
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
        assert process.returncode == 130, errors
        assert b"--resume" in errors
        sent = await client.messages(queue)
        assert 500 < sent < count
        done = mqkit(*command[3:], "--resume", "--json", url=broker.url)
        result: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == 0, done.stderr
        assert (result["skipped"], result["confirmed"]) == (sent, count - sent)
        bodies = [message.body for message in await client.take_all(queue)]
    assert len(bodies) == len(set(bodies)) == count


def test_a_missing_exchange_stops_the_run(broker: Broker, name: str, tmp_path: Path) -> None:
    """Not every one of 100,000 lines is tried: the first answer stops it, and names it."""
    path = lines_file(tmp_path, 100_000)
    began = time.monotonic()
    done = mqkit("publish", f"{name}.x", "k", "--file", str(path), url=broker.url)
    assert done.returncode == 1
    assert f"stopped: exchange '{name}.x' does not exist" in done.stderr
    assert time.monotonic() - began < 10
