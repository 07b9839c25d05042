"""The embedded broker is killed in the middle of work: what it confirmed is there, once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pamqp import commands

from tests.integration.embedded_wire import StreamEndedError, Wire, connected, message
from tests.support import ROOT

pytestmark = pytest.mark.long

ROUNDS = 6

QUEUES: dict[str, Any] = {"classic": None, "quorum": {"x-queue-type": "quorum"}}

WINDOW = 50
"""Publishes that may be unconfirmed."""


@contextlib.contextmanager
def running(data: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`mqkit broker` as a process, with its port; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mqkit", "broker", "--data", str(data), "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert "amqp://" in line, f"it did not start: {line!r}"
        yield process, int(line.split("127.0.0.1:")[1].split("/")[0])
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


@dataclass
class Ledger:
    """What a client knows of one queue."""

    queue: str
    published: set[int] = field(default_factory=set)
    confirmed: set[int] = field(default_factory=set)
    acked: set[int] = field(default_factory=set)
    """An ack was written; whether the broker read it before its end, nobody knows."""
    settled: set[int] = field(default_factory=set)
    """Acks that the broker has surely carried out."""


async def publish(wire: Wire, ledger: Ledger, numbers: Iterator[int]) -> None:
    """Publish with confirms until the connection ends."""
    with contextlib.suppress(StreamEndedError):
        await wire.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
    tags: dict[int, int] = {}
    tag = done = 0
    while True:
        while tag - done < WINDOW:
            tag, number = tag + 1, next(numbers)
            tags[tag] = number
            ledger.published.add(number)
            wire.writer.write(message(ledger.queue, b"%d" % number, delivery_mode=2))
        frame = await wire.read()
        if frame is None:
            return
        assert isinstance(frame, commands.Basic.Ack), frame
        for each in range(
            done + 1 if frame.multiple else frame.delivery_tag, frame.delivery_tag + 1
        ):
            ledger.confirmed.add(tags.pop(each))
        done = max(done, frame.delivery_tag)


async def consume(wire: Wire, ledger: Ledger) -> None:
    """Acknowledge every other message until the connection ends."""
    with contextlib.suppress(StreamEndedError):
        await wire.call(commands.Basic.Qos(0, 20), commands.Basic.QosOk)
        await wire.call(commands.Basic.Consume(0, ledger.queue, "c"), commands.Basic.ConsumeOk)
        while True:
            deliver = await wire.until(commands.Basic.Deliver)
            number = int(await wire.body())
            assert number not in ledger.settled
            ledger.acked.add(number)
            wire.send(commands.Basic.Ack(deliver.delivery_tag or 0))


async def left(port: int, ledger: Ledger) -> list[int]:
    """What is in the queue, in its order; it stays there."""
    found: list[int] = []
    async with connected(port) as wire:
        await wire.open()
        while True:
            wire.send(commands.Basic.Get(0, ledger.queue))
            frame = await wire.read()
            if isinstance(frame, commands.Basic.GetEmpty):
                return found
            assert isinstance(frame, commands.Basic.GetOk), frame
            found.append(int(await wire.body()))


async def declare(port: int) -> None:
    """Both queues, durable."""
    async with connected(port) as wire:
        await wire.open()
        for queue, arguments in QUEUES.items():
            await wire.call(
                commands.Queue.Declare(0, queue, durable=True, arguments=arguments),
                commands.Queue.DeclareOk,
            )


async def work_until_killed(
    port: int, process: subprocess.Popen[str], ledgers: list[Ledger], after: int
) -> None:
    """Publish to and consume from both queues, and kill the broker after some confirms."""
    numbers = iter(range(max([0, *(n for each in ledgers for n in each.published)]) + 1, 10**9))
    async with contextlib.AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connected(port)) for _ in range(4)]
        for wire in wires:
            await wire.open()
        before = sum(len(each.confirmed) for each in ledgers)
        tasks = [
            asyncio.create_task(work)
            for at, ledger in enumerate(ledgers)
            for work in (
                publish(wires[2 * at], ledger, numbers),
                consume(wires[2 * at + 1], ledger),
            )
        ]
        while sum(len(each.confirmed) for each in ledgers) < before + after:
            assert process.poll() is None
            await asyncio.sleep(0)
        process.send_signal(signal.SIGKILL)
        await asyncio.gather(*tasks)


async def test_what_was_confirmed_outlives_a_kill(tmp_path: Path) -> None:
    """Ten times killed while it confirms and takes acks, it loses and doubles nothing.

    Every confirmed message is there exactly once, or an ack of it was sent; what was never
    confirmed may be there, once; the order is that of publishing.
    """
    chance = random.Random(5)
    ledgers = [Ledger(queue) for queue in QUEUES]
    for round_ in range(ROUNDS + 1):
        with running(tmp_path) as (process, port):
            if not round_:
                await declare(port)
            for ledger in ledgers:
                found = await left(port, ledger)
                there = set(found)
                assert len(found) == len(there), "a message is there twice"
                must = ledger.confirmed - ledger.acked - ledger.settled
                assert must <= there, "a confirmed message is lost"
                assert there <= ledger.published
                assert not there & ledger.settled, "an acknowledged message came back"
                assert found == sorted(found)
                # What is not there after a restart never comes back.
                ledger.settled |= ledger.published - there
                # And what is there was not lost with the process that had it, so it is kept.
                ledger.acked &= there
                ledger.confirmed |= there
            if round_ < ROUNDS:
                await work_until_killed(port, process, ledgers, after=chance.randrange(1, 400))
    assert all(len(each.settled) > ROUNDS for each in ledgers)
    assert all(len(each.confirmed) > 10 * ROUNDS for each in ledgers)


async def test_a_kill_between_two_brokers_leaves_the_directory_free(tmp_path: Path) -> None:
    """A killed broker's directory can be used at once, while a running one's cannot."""
    with running(tmp_path) as (process, port):
        await declare(port)
        second = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "mqkit", "broker", "--data", str(tmp_path), "--port", "0"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert second.returncode == 1
        assert "another broker uses it" in second.stderr
        process.send_signal(signal.SIGKILL)
        process.wait()
    with running(tmp_path) as (_, port):
        assert await left(port, Ledger("classic")) == []
