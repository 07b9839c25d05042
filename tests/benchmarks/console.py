"""How fast are the console's pages over a large system?

    python -m tests.benchmarks.console --url amqp://... [--management http://...] [--rounds 60]

Starts `mqkit console` over a broker with 500 queues, on which 50 simulated processes say how they
are every two seconds, a queue with 10,000 dead letters, and a store (a file of SQLite) with as many
sagas, failed messages and messages that are not published. Then it loads each page again and
again over HTTP, as a browser does, one after the other, and prints how long the answers took.
Looking through the dead letters itself takes seconds: what a page says meanwhile is measured, too.

Exit codes: 0 each page's 95th percentile is below 300 ms; 1 one's is not.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

import httpx

from mqkit.topology import Queue, dead_letter_queue
from tests.console.filled_store import fill_store
from tests.forked import Command
from tests.integration.dead_letters.support import fill
from tests.simulated_states import simulated
from tests.support import connected, eventually

LIMIT = 0.3
"""Seconds that the 95th percentile of a page must be below."""

QUEUE = "console-bench"

PAGES = (
    "/",
    "/queues",
    "/queues?q=q1&page=2",
    "/handlers",
    "/handlers?page=8",
    "/partitions",
    "/processes",
    "/dead-letters",
    "/message",
    "/message?page=90",
    "/message?id=message-77",
    "/sagas",
    "/sagas?name=payment&status=compensating",
    "/sagas?page=90",
    "/sagas/saga?name=payment&id=order-77",
    "/outbox",
    "/topology",
)


@dataclass(slots=True)
class Page:
    """How long one page took, each time."""

    path: str
    seconds: list[float] = field(default_factory=list)
    size: int = 0

    def load(self, http: httpx.Client) -> str:
        """Load it once more."""
        began = time.perf_counter()
        answer = http.get(self.path)
        self.seconds.append(time.perf_counter() - began)
        answer.raise_for_status()
        self.size = len(answer.content)
        return answer.text

    @property
    def p95(self) -> float:
        """The 95th percentile."""
        return sorted(self.seconds)[max(-(-len(self.seconds) * 95 // 100) - 1, 0)]

    def __str__(self) -> str:
        figures = (self.seconds[0], statistics.median(self.seconds), self.p95, max(self.seconds))
        told = " ".join(f"{each * 1e3:7.1f}" for each in figures)
        return f"{self.path[:58]:58} {told} {self.size / 1e3:6.0f}"


def measured(http: httpx.Client, rounds: int) -> list[Page]:
    """Load all pages in turn, so many times."""
    pages = [Page(each) for each in PAGES]
    reading = Page(f"/dead-letters/queue?queue={QUEUE}")
    while "Going through the queue" in (text := reading.load(http)):
        time.sleep(0.05)
    pages.append(Page(reading.path))
    for begin in ("/dead-letters/group", "/dead-letters/letter"):
        found = re.search(rf'href="({begin}[^"]+)"', text)
        assert found is not None, f"no {begin}"
        pages.append(Page(html.unescape(found[1])))
        while "Going through the queue" in (text := pages[-1].load(http)):
            time.sleep(0.05)
    pages.append(Page(f"{pages[-2].path}&page=30"))
    for _ in range(rounds):
        for page in pages:
            page.load(http)
    reading.path = "the same, while the queue is gone through"
    return [*pages, reading]


async def measure(url: str, management: str | None, letters: int, rounds: int) -> list[Page]:
    """Make the system, start the console, and measure."""
    async with connected(url) as client:
        bodies = [b'{"order": %d, "note": "a body"}' % number for number in range(letters)]
        await fill(client, QUEUE, bodies, "card 4111111111111111")
        async with simulated(url, processes=50, queues=500, declare=True):
            try:
                with tempfile.TemporaryDirectory() as folder:
                    store = f"sqlite:///{folder}/store.sqlite"
                    await fill_store(store, letters)
                    return await _with_console(url, management, store, rounds)
            finally:
                async with client.channel() as channel:
                    for name in (QUEUE, dead_letter_queue(Queue(QUEUE)).name):
                        await channel.delete_queue(name)


async def _with_console(url: str, management: str | None, store: str, rounds: int) -> list[Page]:
    options: tuple[str, ...] = ("--store", store)
    options += () if management is None else ("--management", management)
    process = Command(
        ["console", "--listen", "0", "--url", url, *options], os.environ, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        found = re.search(r"(http://[^/]+)(/login\S+)", line)
        assert found is not None, line
        with httpx.Client(base_url=found[1], timeout=30) as http:
            await asyncio.to_thread(http.get, found[2])

            async def is_seen() -> bool:
                page = await asyncio.to_thread(http.get, "/processes")
                return "1 to 50 of" in page.text or page.text.count('<th scope="row">') >= 50

            await eventually(is_seen, 120, what="50 processes")
            return await asyncio.to_thread(measured, http, rounds)
    finally:
        process.kill()
        process.communicate()


def main() -> int:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--management")
    parser.add_argument("--letters", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=60)
    given = parser.parse_args()
    pages = asyncio.run(measure(given.url, given.management, given.letters, given.rounds))
    load = os.getloadavg()[0]
    columns = " ".join(f"{each:>7}" for each in ("first", "median", "p95", "most"))
    head = f"{'page':58} {columns} {'kB':>6}  (ms; load {load:.1f})"
    sys.stdout.write("\n".join([head, *map(str, pages), ""]))
    return 0 if all(each.p95 < LIMIT for each in pages) else 1


if __name__ == "__main__":
    sys.exit(main())
