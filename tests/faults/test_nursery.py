"""Services that die by the dozen in a nursery, at a fail point or from outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mqkit.errors import BrokerError
from mqkit.testing.brokers import processes
from mqkit.testing.brokers.finder import Broker
from tests.faults import failpoints
from tests.faults.nurseries import Nursery
from tests.support import ROOT, Client, connected, eventually

IDLE = "tests.faults.services:idle"

HOLDER = """
import sys, time
from pathlib import Path
from tests.faults.nurseries import Nursery
with Nursery({"tests.faults.services:idle": 3}, "amqp://nowhere/", Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(100)
"""


def lines(out: Path, word: str) -> list[str]:
    """What follows the word in the lines that begin with it."""
    text = out.read_text() if out.exists() else ""
    return [line.partition(" ")[2] for line in text.splitlines() if line.startswith(word)]


async def consumed(client: Client, queue: str) -> bool:
    """Whether the queue is there, and has a consumer."""
    with contextlib.suppress(BrokerError):
        return await client.consumers(queue) > 0
    return False


async def die_between_confirm_and_ack(
    url: str, name: str, tmp_path: Path, *, kills: int, messages: int, within: float
) -> None:
    """Each kill leaves one retry copy more and the original unacked, and nothing else.

    The handler fails at each first attempt: so each message is applied once for its original,
    which was acked in the end, and once for each death between a copy's confirm and the ack.
    """
    out, tickets, queue = tmp_path / "out", tmp_path / "tickets", f"{name}.q"
    failpoints.issue(tickets, kills)
    async with connected(url) as client:
        with Nursery(
            {"tests.faults.services:flaky": 3},
            url,
            tmp_path / "log",
            arm={"retry-confirmed": tickets},
            MQKIT_TEST_QUEUE=queue,
            MQKIT_TEST_OUT=str(out),
        ) as nursery:
            await eventually(lambda: consumed(client, queue), within, "a consumer")
            published = [f"m{number}" for number in range(messages)]
            for message_id in published:
                await client.publisher.publish("", queue, {"n": 1}, message_id=message_id)
            await nursery.kills(kills, within)
            await eventually(
                lambda: len(lines(out, "applied")) >= kills + messages,
                within,
                f"every message's and every death's copy applied, {kills + messages} in all,",
            )
            await nursery.stop()
        assert failpoints.left(tickets) == 0
        assert [death.pid for death in nursery.deaths() if death.killed] != []
        assert sorted(failpoints.used_by(tickets)) == sorted(
            death.pid for death in nursery.deaths() if death.killed
        )
        applied, failed = Counter(lines(out, "applied")), Counter(lines(out, "failed"))
        assert set(applied) == set(published)
        # As often as its copy was confirmed: no copy is lost, and none is there twice.
        assert applied == failed
        assert sum(applied.values()) == kills + messages
        assert await client.messages(queue) == 0
        assert await client.messages(f"{queue}.dead") == 0


@pytest.mark.in_turn
async def test_a_worker_killed_between_a_retrys_confirm_and_the_ack_loses_nothing(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """Five deaths there: every message is applied, its copies are all there, and none is dead."""
    await die_between_confirm_and_ack(broker.url, name, tmp_path, kills=5, messages=8, within=40)


async def test_what_is_killed_is_replaced_and_told(tmp_path: Path) -> None:
    """Each target keeps its number of processes; a death is told with its pid and target."""
    out, log = tmp_path / "out", tmp_path / "log"
    with Nursery({IDLE: 2}, "amqp://nowhere/", log, MQKIT_TEST_OUT=str(out)) as nursery:
        await eventually(lambda: len(nursery.children()) == 2)
        first = set(nursery.children())
        for count in range(1, 11):
            victim = min(nursery.children())
            os.kill(victim, signal.SIGKILL)
            await nursery.kills(count, 10)
            await eventually(lambda: len(nursery.children()) == 2)
            last = nursery.deaths()[-1]
            assert (last.pid, last.target, last.code, last.stopping) == (victim, IDLE, -9, False)
        assert not first & set(nursery.children())
        await eventually(lambda: len(lines(out, "idle")) >= 2)
        alive = sorted(nursery.children())
        await nursery.stop()
        assert sorted(map(int, lines(out, "stopped"))) == alive
        assert [death.code for death in nursery.deaths()[-2:]] == [0, 0]
        assert nursery.children() == {}


async def test_a_child_that_cannot_live_fails_the_test(tmp_path: Path) -> None:
    """Waiting for kills ends at once with the child's own words, and not at its deadline."""
    with Nursery(
        {"tests.faults.services:failing": 1}, "amqp://nowhere/", tmp_path / "log"
    ) as nursery:
        with pytest.raises(AssertionError, match=r"ended by itself(.|\n)*no place to be"):
            await nursery.kills(1, within=60)
        # It is tried again, and not without a pause.
        await eventually(lambda: len(nursery.deaths()) >= 2)
        times = [death.time for death in nursery.deaths()]
        assert times[1] - times[0] > 0.4


async def test_a_nursery_that_cannot_begin_says_why(tmp_path: Path) -> None:
    """A target that is not there ends the nursery, and the wait, with the error in its log."""
    with (
        Nursery(
            {"tests.faults.services:absent": 1}, "amqp://nowhere/", tmp_path / "log"
        ) as nursery,
        pytest.raises(AssertionError, match=r"the nursery ended with 1(.|\n)*absent"),
    ):
        await nursery.kills(1, within=60)


@pytest.mark.parametrize("end", ["leaving", "nursery killed", "test killed"])
async def test_nothing_is_left_whatever_ends(tmp_path: Path, end: str) -> None:
    """The children go with the block, with their nursery's death, and with that of the test."""
    log = tmp_path / "log"
    watched = Nursery({IDLE: 3}, "amqp://nowhere/", log)
    if end == "test killed":
        holder = await asyncio.to_thread(
            subprocess.Popen, [sys.executable, "-c", HOLDER, str(log)], cwd=ROOT
        )
        await eventually(lambda: len(watched.children()) == 3)
        pids = list(watched.children())
        holder.kill()
        holder.wait()
    else:
        with watched:
            await eventually(lambda: len(watched.children()) == 3)
            pids = list(watched.children())
            if end == "nursery killed":
                assert watched._process is not None
                watched._process.kill()
    await eventually(lambda: not any(processes.is_alive(pid) for pid in pids))
