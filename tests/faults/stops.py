"""Ways to stop a service, as a table of runs: `python -m tests.faults.stops`.

Each way is run on each event loop, in one process and in two. A run tells how long it took until
the last process was gone, what the command exited with, and how many of the messages went back to
their queue. None may take longer than its grace period and five seconds, nor lose a message.

Exit codes: 0 all hold; 1 one does not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from mqkit import Queue
from mqkit.broker.declare import declare
from mqkit.testing.brokers import processes
from mqkit.testing.brokers.embedded import EmbeddedBroker
from mqkit.testing.proxy.proxy import TcpProxy
from mqkit.topology import Topology
from tests.support import ROOT, Client, connected, delete, eventually

GRACE = 1.0
"""Seconds of grace that each service has."""

MARGIN = 5.0
"""Seconds after it within which every process must be gone."""

STARTS = 90.0
"""Seconds for it to start, on a machine that has much else to do."""

MESSAGES = 4

AWAY = "amqp://guest:guest@127.0.0.1:1/"

LOOPS = ("asyncio", "uvloop")


told = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)


class Stop:
    """A service that runs, and what a way of stopping it may do to it."""

    def __init__(
        self, process: subprocess.Popen[bytes], proxy: TcpProxy, out: Path, log: Path
    ) -> None:
        self.process = process
        self.proxy = proxy
        self.out = out
        self.log = log

    def send(self, number: signal.Signals) -> None:
        """A signal to the one process that a person knows of."""
        self.process.send_signal(number)

    def begun(self) -> int:
        """Runs of a handler that have begun, or what is noted of it."""
        return self.out.read_text().count("began") if self.out.exists() else 0


async def terminate(run: Stop) -> None:
    """SIGTERM."""
    run.send(signal.SIGTERM)


async def interrupt_twice(run: Stop) -> None:
    """SIGINT, and again at once."""
    run.send(signal.SIGINT)
    await eventually(lambda: "SIGINT: stopping" in run.log.read_text(), what="the first SIGINT")
    run.send(signal.SIGINT)


async def kill(run: Stop) -> None:
    """SIGKILL to the supervisor, or to the only process."""
    run.send(signal.SIGKILL)


async def silence(run: Stop) -> None:
    """A broker that says nothing any more, then SIGTERM."""
    run.proxy.stall()
    run.send(signal.SIGTERM)


async def lose(run: Stop) -> None:
    """A broker that is gone, then SIGTERM."""
    run.proxy.refuse_connections()
    run.proxy.cut()
    await asyncio.sleep(0.5)
    run.send(signal.SIGTERM)


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One way to stop a service."""

    what: str
    service: str
    do: Callable[[Stop], Awaitable[None]] = terminate
    begins: bool = True
    """Whether a handler is to have begun."""
    starts: bool = True
    """Whether it comes to consume at all."""
    url: str | None = None
    reads: bool = True
    """Whether somebody reads what it writes."""
    grace: float = GRACE
    codes: frozenset[int] = frozenset({1})
    database: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


ENDED = frozenset({0})

WAYS = (
    Way("SIGTERM, idle", "quick", begins=False, codes=ENDED),
    Way("SIGTERM, the handlers end in time", "quick", codes=ENDED),
    Way("SIGTERM, a handler outlasts the grace period", "slow"),
    Way("SIGINT twice", "slow", interrupt_twice, grace=30.0),
    Way("SIGKILL of the supervisor (or the only process)", "threaded", kill, codes=frozenset({-9})),
    Way("a thread that never ends", "threaded"),
    Way("a thread of asyncio.to_thread that never ends", "delegating"),
    Way("a handler that refuses to be cancelled", "stubborn"),
    Way("a handler that blocks the loop", "blocking"),
    Way("a middleware that hangs", "hanging"),
    Way("a provider that raises on close", "failing_provider"),
    Way("a provider that hangs on close", "hanging_provider"),
    Way("a provider that blocks on close", "blocking_provider"),
    Way("a silent broker", "slow", silence),
    Way("a broker that is gone", "slow", lose),
    Way("a dead database", "stored", database=True),
    Way("a log that nobody reads", "loud", reads=False),
    Way("SIGTERM while it connects", "quick", begins=False, starts=False, url=AWAY, codes=ENDED),
    Way(
        "SIGTERM while it is imported",
        "quick",
        starts=False,
        # Nothing of it runs yet: the signal itself ends it.
        codes=frozenset({0, -signal.SIGTERM}),
        environment={"MQKIT_TEST_IMPORT": "1"},
    ),
)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one run."""

    way: Way
    loop: str
    processes: int
    seconds: float
    """From the way's last act until the last process was gone."""
    code: int
    back: int
    """Messages that are in their queue again."""
    missing: int
    """Messages that are neither there nor handled."""
    log: str

    @property
    def problems(self) -> list[str]:
        """What must not be."""
        grace = 0.0 if self.way.do is interrupt_twice else self.way.grace
        found = []
        if self.seconds > grace + MARGIN:
            found.append(f"took {self.seconds:.1f} s with a grace period of {grace:g} s")
        if self.code not in self.way.codes:
            found.append(f"exit code {self.code}, not {sorted(self.way.codes)}")
        if self.missing:
            found.append(f"{self.missing} messages are missing")
        found += [
            f"the log has {words!r}"
            for words in ("never retrieved", "was destroyed but it is pending", "never awaited")
            if words in self.log
        ]
        return found

    @property
    def cell(self) -> str:
        """As the table has it."""
        mark = " !" if self.problems else ""
        return f"{self.seconds:.1f} s, exit {self.code}, {self.back} back{mark}"


@contextlib.contextmanager
def _database(way: Way, folder: Path) -> Iterator[Mapping[str, str]]:
    """A store's URL, where the way needs one."""
    yield {"MQKIT_STORE": f"sqlite:///{folder / 'store.sqlite'}"} if way.database else {}


@contextlib.contextmanager
def _started(
    way: Way, loop: str, count: int, url: str, names: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a shell starts it; nothing of it is left."""
    read, write = os.pipe()
    with log.open("ab") as file:
        command = [
            sys.executable,
            "-m",
            "mqkit",
            "run",
            f"tests.faults.stop_services:{way.service}",
        ]
        options = ["--grace", f"{way.grace:g}", "--loop", loop, "--processes", str(count)]
        process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env={**os.environ, **names, **way.environment, "MQKIT_URL": url},
            stdin=subprocess.DEVNULL,
            stdout=file if way.reads else write,
            stderr=file if way.reads else write,
        )
    os.close(write)
    try:
        yield process
    finally:
        left = processes.tree(process.pid)
        processes.kill(left)
        process.wait()
        os.close(read)


async def run(way: Way, loop: str, count: int, broker_url: str, folder: Path) -> Result:
    """Run a service, stop it in this way, and see what comes of it."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"stops-{secrets.token_hex(4)}"
    out, log = folder / "out", folder / "log"
    names = {"MQKIT_TEST_QUEUE": name, "MQKIT_TEST_OUT": str(out)}
    async with connected(broker_url) as client:
        try:
            await declare(client.connection.channel, Topology.of_queue(Queue(name), ()))
            with TcpProxy(broker_url) as proxy, _database(way, folder) as store:
                url = way.url or proxy.url
                with _started(way, loop, count, url, {**names, **store}, log) as process:
                    stop = Stop(process, proxy, out, log)
                    return await _stop(way, loop, count, stop, client, name)
        finally:
            for queue in (name, f"{name}.dead"):
                await delete(broker_url, queue=queue)


async def _stop(way: Way, loop: str, count: int, stop: Stop, client: Client, queue: str) -> Result:
    published = await _prepare(way, count, stop, client, queue)
    pids = processes.tree(stop.process.pid)
    if way.database:
        await _hold(stop.log.parent / "store.sqlite")
    began = time.monotonic()
    await way.do(stop)
    began = time.monotonic() if way.do is interrupt_twice else began
    await eventually(
        lambda: stop.process.poll() is not None and not any(map(processes.is_alive, pids)),
        within=way.grace + 60,
        what=f"the end of all processes ({way.what})",
    )
    seconds = time.monotonic() - began
    done = stop.out.read_text().count("done") if stop.out.exists() else 0

    async def all_back() -> bool:
        return await client.messages(queue) + done >= published

    with contextlib.suppress(AssertionError):
        await eventually(all_back, within=10)
    back = await client.messages(queue)
    missing = published - back - done
    text = stop.log.read_text()
    return Result(way, loop, count, seconds, stop.process.returncode, back, missing, text)


async def _prepare(way: Way, count: int, stop: Stop, client: Client, queue: str) -> int:
    """Bring it to where it is to be stopped; returns how many messages were published."""
    if not way.starts:
        words = "trying again" if way.url else ""
        await eventually(lambda: words in stop.log.read_text() and (way.url or stop.begun()) != 0)
        return 0
    if way.reads:
        await eventually(
            lambda: stop.log.read_text().count(": consuming") >= count,
            STARTS,
            "its processes' start",
        )
    if not way.begins:
        return 0
    for number in range(MESSAGES):
        await client.publisher.publish("", queue, {"number": number})
    wanted = count if way.reads else 1  # one that fills the pipe may hold up the other's start
    await eventually(lambda: stop.begun() >= wanted, STARTS, "its handlers' start")
    if not way.reads:
        await asyncio.sleep(1.0)  # the pipe is full by then
    return MESSAGES


async def _hold(path: Path) -> None:
    """Lock a database for good: another process has it, and does not answer."""
    held = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sqlite3,sys,time;c=sqlite3.connect(sys.argv[1],isolation_level=None,timeout=30);"
        "c.execute('BEGIN EXCLUSIVE');print('held',flush=True);time.sleep(40)",
        str(path),
        stdout=asyncio.subprocess.PIPE,
    )
    assert held.stdout is not None
    await held.stdout.readline()


def table(results: Sequence[Result]) -> str:
    """The runs as Markdown: a row for each way."""
    columns = sorted({(r.loop, r.processes) for r in results})
    head = ["way", *(f"{loop}, {n} process{'es' * (n > 1)}" for loop, n in columns)]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for way in dict.fromkeys(r.way for r in results):
        cells = {(r.loop, r.processes): r.cell for r in results if r.way is way}
        lines.append(" | ".join([way.what, *(cells.get(column, "") for column in columns)]))
    return "\n".join(f"| {line} |" for line in lines)


async def _run_all(options: argparse.Namespace, folder: Path, url: str) -> list[Result]:
    room = asyncio.Semaphore(options.jobs)

    async def one(number: int, way: Way, loop: str, count: int) -> Result:
        async with room:
            result = await run(way, loop, count, url, folder / f"{number}-{loop}-{count}")
            told.print(f"{way.what}, {loop}, {count}: {result.cell}")
            return result

    return await asyncio.gather(
        *(
            one(number, way, loop, count)
            for number, way in enumerate(WAYS)
            if options.ways is None or number in options.ways
            for loop in LOOPS
            for count in (1, 2)
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ways as the arguments say, and print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.stops", description=__doc__)
    parser.add_argument("--url", help="a RabbitMQ's; without it, on the embedded broker")
    parser.add_argument("--jobs", type=int, default=3, help="runs side by side (%(default)s)")
    parser.add_argument(
        "--ways", type=lambda text: [int(n) for n in text.split(",")], help="0,1,.."
    )
    options = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mqkit-stops-")))
        url = options.url
        if url is None:
            broker = EmbeddedBroker()
            stack.callback(broker.close)
            url = broker.url
        results = asyncio.run(_run_all(options, folder, url))
    sys.stdout.write(table(results) + "\n")
    problems = [f"{r.way.what}, {r.loop}, {r.processes}: {p}" for r in results for p in r.problems]
    for problem in problems:
        told.print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
