"""How much of the services' rate does a console cost that somebody looks at?

    python -m tests.benchmarks.console_cost --url amqp://... [--management http://...] [--rounds 10]

A service of two processes handles messages that go round: each run publishes the next one, so that
as many are always under way. 50 simulated processes say how they are, and there are 500 queues. In
turns a console is started and looked at, and there is none. The rate is what
the service's metrics count over some seconds of each turn; starting the console is no part of it,
nor is loading each page for the first time. It looks at the system every ten seconds, so that a
turn of fewer has one look or two.
Told are both rates, and what the console costs: the median over the rounds of how much less was
handled with it than in the turns before and after; and its processor time, which says something on
a busy machine, too.

Exit codes: 0 it costs less than 2 %; 1 it costs more.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from mqkit import Outgoing, Publisher, Queue, Retry, Service
from mqkit.console.rendering.templates import REFRESH
from tests.forked import Command
from tests.integration.observability.scraping import page, port_of, samples
from tests.simulated_states import simulated
from tests.support import Client, connected, running

MOST = 0.02
"""The share of the rate that it may cost."""

QUEUE = "console-cost"

UNDER_WAY = 400
"""Messages that go round."""

BODY = b"{}"

LOOKED_AT = ("/", "/queues", "/handlers", "/processes", "/dead-letters", "/topology")
"""What somebody looks at; a page that is left open looks again every `REFRESH` seconds."""

SETTLE = 2.0
"""Seconds of each turn before it is measured."""

service = Service("round", retry=Retry.never())


@service.handler(Queue(QUEUE, type="classic", durable=False), prefetch=100, concurrency=50)
async def again(body: dict[str, str], publisher: Publisher) -> None:
    """Publish the next message."""
    await publisher.publish("", QUEUE, body)


async def handled(port: int) -> float:
    """Return how many messages the service has handled until now."""
    _, text = await page(port, "/metrics")
    return sum(value for (name, _), value in samples(text).items() if name == "mqkit_handled_total")


def processor(pid: int | None) -> float:
    """Return the seconds of processor time that a process has taken."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def rate(port: int, seconds: float, console: int | None = None) -> tuple[float, float]:
    """Return how many it handles a second, and the processor time that the console took of it."""
    await asyncio.sleep(SETTLE)
    before, took, began_at = await handled(port), processor(console), time.perf_counter()
    await asyncio.sleep(seconds)
    count, took = await handled(port) - before, processor(console) - took
    passed = time.perf_counter() - began_at
    return count / passed, took / passed


@contextlib.asynccontextmanager
async def looked_at(url: str, management: str | None) -> AsyncIterator[int]:
    """Run a console for the block, which is given its pid, and look at its pages."""
    options = () if management is None else ("--management", management)
    process = Command(
        ["console", "--listen", "0", "--url", url, *options], os.environ, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    found = re.search(r"(http://[^/]+)(/login\S+)", line)
    assert found is not None, line
    async with httpx.AsyncClient(base_url=found[1], timeout=30) as http:
        for page_ in (found[2], *LOOKED_AT):
            (await http.get(page_, follow_redirects=True)).raise_for_status()
        looking = asyncio.create_task(_look(http))
        try:
            yield process.pid
        finally:
            looking.cancel()
            await asyncio.wait([looking])
            process.kill()
            process.wait()
    assert looking.cancelled(), looking.exception()


async def _look(http: httpx.AsyncClient) -> None:
    while True:
        for each in LOOKED_AT:
            answer = await http.get(each)
            answer.raise_for_status()
            await asyncio.sleep(REFRESH)


async def go_round(client: Client) -> None:
    """Publish the messages that go round."""
    one = Outgoing("", QUEUE, BODY, content_type="application/json")
    messages = [one] * UNDER_WAY
    async for result in client.publisher.publish_many(messages):
        assert result.error is None


async def measure(
    url: str, management: str | None, rounds: int, seconds: float
) -> list[tuple[float, float, float]]:
    """Return of each round the rates without and with a console, and its processor time."""
    alone: list[float] = []
    watched: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "service.log"
        options = ("--processes", "2", "--http", "0")
        with running("tests.benchmarks.console_cost:service", url, log, *options) as process:
            port = await port_of(process)
            async with connected(url) as client:
                async with simulated(url, processes=50, queues=500, declare=True):
                    await go_round(client)
                    for _ in range(rounds):
                        alone.append((await rate(port, seconds))[0])
                        async with looked_at(url, management) as pid:
                            watched.append(await rate(port, seconds, pid))
                    alone.append((await rate(port, seconds))[0])
                async with client.channel() as channel:
                    await channel.delete_queue(QUEUE)
    # Each turn with a console is beside one before and one after it: what else goes on cancels out.
    pairs = zip(alone, alone[1:], watched, strict=False)
    return [((before + after) / 2, *looked) for before, after, looked in pairs]


def main() -> int:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--management")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    found = asyncio.run(measure(given.url, given.management, given.rounds, given.seconds))
    costs = [1 - looked / alone for alone, looked, _ in found]
    cost = statistics.median(costs)
    head = f"{'alone/s':>10} {'watched/s':>10} {'cost':>7} {'its CPU':>8}"
    lines = [f"{head}   (load {os.getloadavg()[0]:.1f})"]
    lines += [
        f"{alone:10.0f} {looked:10.0f} {each:7.1%} {took:8.1%}"
        for (alone, looked, took), each in zip(found, costs, strict=True)
    ]
    took = statistics.median(each for *_, each in found)
    lines += [
        f"a console that is looked at costs {cost:.1%} of the rate (median of {len(found)} rounds)",
        f"it takes {took:.1%} of one processor; there are {os.cpu_count()}",
        "",
    ]
    sys.stdout.write("\n".join(lines))
    return 0 if cost < MOST else 1


if __name__ == "__main__":
    sys.exit(main())
