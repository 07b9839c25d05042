"""What a row works with, and the judgement that is the same for every row."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mqkit import BrokerUrl, Publisher, Runtime, Service
from mqkit.broker.connection import Connection
from mqkit.drivers import named
from mqkit.errors import PublishError
from mqkit.logging.formatters import TEXT_FORMAT
from mqkit.testing.brokers.broker import Broker
from mqkit.testing.proxy.proxy import TcpProxy
from tests.faults.matrix.figures import Figures
from tests.faults.matrix.journal import Journal
from tests.faults.matrix.room import Room, with_parameters
from tests.support import Client, ServiceProcess, eventually, running

RECOVERY_BUDGET = 5.0
"""Seconds from the end of a fault until a message goes all the way again, where a row has R."""

RECOVERY_LIMIT = 30.0
"""The same for all other rows: what takes longer has not recovered by itself."""

EMPTY_WITHIN = 5.0
"""Seconds in which the queues must be empty once all services have stopped."""

ROW_LOG = "row.log"
"""The log of the process that the row runs in."""

TASKS_END_WITHIN = 3.0
"""Seconds in which the tasks of closed connections must end."""


class Bench:
    """One row on one broker.

    `faults` is how many to inject, and `short` tells the short form, whose waits are scaled
    down. `url` is a virtual host of the row's own, whose password is planted, as are those of
    `body` and `headers`. `broker` is run for the matrix alone and may be hurt.
    """

    def __init__(
        self,
        figures: Figures,
        room: Room,
        broker: Broker,
        directory: Path,
        *,
        faults: int,
        short: bool,
    ) -> None:
        self.figures = figures
        self.room = room
        self.broker = broker
        self.url = room.url
        self.directory = directory
        self.logs = directory / "logs"
        self.faults = faults
        self.short = short
        self.secrets = room.secrets
        self.journal = Journal(directory / "journal.sqlite")
        self.effects: Callable[[], Mapping[str, int]] = self.journal.effects
        """How often each key had its effect; a row whose handlers have a database of their own
        puts what counts there in its place."""
        self.left: dict[str, int] = {}
        """Messages that the row leaves in a queue on purpose; all others must be empty."""
        self._numbers = itertools.count(1)
        self._processes = itertools.count(1)

    # --- where things are --------------------------------------------------------------------

    def at(self, proxy: TcpProxy | None = None, **parameters: object) -> str:
        """The URL of the row's virtual host, through a proxy, with parameters."""
        return with_parameters(self.url if proxy is None else proxy.url, **parameters)

    def proxy(self) -> TcpProxy:
        """A proxy before the broker; a context manager."""
        return TcpProxy(self.url)

    @staticmethod
    def connection(url: str, driver: str | None = None) -> Connection:
        """A connection that is not opened yet."""
        library = named(driver) if driver else named()
        return Connection(BrokerUrl.parse(url), name="matrix", driver=library)

    @contextlib.asynccontextmanager
    async def client(
        self, url: str | None = None, *, driver: str | None = None
    ) -> AsyncIterator[Client]:
        """A connection beside the services: publishes, looks into queues, breaks things."""
        connection = self.connection(url or self.url, driver)
        await connection.open(15)
        client = Client(connection)
        try:
            yield client
        finally:
            await client.publisher.close()
            await connection.close()

    # --- services ----------------------------------------------------------------------------

    def serving(
        self, service: Service, url: str | None = None, *, driver: str | None = None, **more: Any
    ) -> Runtime:
        """A service in this process; an async context manager."""
        return Runtime(
            service,
            BrokerUrl.parse(url or self.url),
            driver=named(driver) if driver else None,
            **more,
        )

    def logged(self) -> str:
        """What this process has logged until now."""
        return (self.logs / ROW_LOG).read_text()

    @contextlib.contextmanager
    def process(
        self, service: str, *options: str, url: str | None = None, **environment: str
    ) -> Iterator[ServiceProcess]:
        """`mqkit run SERVICE` in a process of its own, killed at the end if it still runs.

        It finds the journal's path in `MQKIT_MATRIX_JOURNAL`.
        """
        log = self.logs / f"process-{next(self._processes)}.log"
        environment = {"MQKIT_MATRIX_JOURNAL": str(self.journal.path), **environment}
        options = ("--log-level", "debug", *options)
        with running(service, url or self.url, log, *options, **environment) as process:
            try:
                yield process
            finally:
                self.kill(process)

    def kill(self, process: ServiceProcess) -> None:
        """SIGKILL it, if it still runs, and book the end of its runs."""
        if process.process.poll() is None:
            at = time.monotonic()
            process.send(signal.SIGKILL)
            process.process.wait()
            self.journal.died(process.process.pid, at)

    def ended_itself(self, process: ServiceProcess) -> None:
        """Book the end of a process that killed itself in a run."""
        self.journal.died(process.process.pid)

    # --- messages ----------------------------------------------------------------------------

    def key(self) -> str:
        """A business key that no other message has."""
        return f"k{next(self._numbers)}"

    def body(self, key: str, **more: object) -> dict[str, object]:
        """A body with the key, and secrets that no log may have."""
        return {"key": key, "card": self.secrets.card, "password": self.secrets.password, **more}

    def headers(self) -> dict[str, Any]:
        """Headers with a secret."""
        return {"authorization": f"Bearer {self.secrets.token}"}

    async def publish(
        self,
        publisher: Publisher,
        exchange: str,
        routing_key: str,
        *,
        key: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the publisher's
        fields: Mapping[str, object] | None = None,
    ) -> str:
        """Publish a message, book what became of it, and return its key.

        `fields` are more of its body, such as `seconds`, which its handler is to take.

        :raises PublishError: as the publisher; it is booked as unknown or refused
        """
        key = key or self.key()
        self.journal.published(key, "unknown")
        try:
            await publisher.publish(
                exchange,
                routing_key,
                self.body(key, **(fields or {})),
                message_id=key,
                headers=self.headers(),
                timeout=timeout,
            )
        except PublishError as error:
            self.journal.published(key, "unknown" if error.may_be_stored else "refused")
            raise
        self.journal.published(key, "confirmed")
        return key

    @contextlib.asynccontextmanager
    async def load(
        self,
        publisher: Publisher,
        exchange: str,
        routing_key: str,
        *,
        writers: int = 4,
        pause: float = 0.01,
        tolerate: tuple[type[PublishError], ...] = (),
        fields: Callable[[], Mapping[str, object]] = dict,
    ) -> AsyncIterator[None]:
        """Publish without end in the background, until the block is left.

        A publish that fails is a problem, unless its result is unknown or its error tolerated.
        """
        stop = asyncio.Event()

        async def write() -> None:
            while not stop.is_set():
                try:
                    await self.publish(publisher, exchange, routing_key, fields=fields())
                except tolerate:
                    pass
                except PublishError as error:
                    if not error.may_be_stored:
                        self.problem(f"a publish under load failed: {error}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)

        async with asyncio.TaskGroup() as group:
            for _ in range(writers):
                group.create_task(write())
            try:
                yield
            finally:
                stop.set()

    async def applied(self, key: str, within: float = 15.0) -> None:
        """Wait until the key had its effect."""
        await eventually(lambda: self.effects().get(key, 0) > 0, within, f"the effect of {key}")

    async def all_ended(self, within: float = 30.0) -> None:
        """Wait until every confirmed message is applied or dead-lettered, and nothing runs."""
        await eventually(
            lambda: not self._unfinished() and not self.journal.running(),
            within,
            "the end of all confirmed messages",
        )

    async def take_dead(self, client: Client, queue: str) -> list[str]:
        """Take what is in a dead letter queue, book it, and return the message ids."""
        keys = [m.properties.message_id or "" for m in await client.take_all(queue)]
        for key in keys:
            self.journal.dead_lettered(key)
        return keys

    # --- findings ----------------------------------------------------------------------------

    def problem(self, sentence: str) -> None:
        """Something did not hold."""
        self.figures.problems.append(sentence)

    def check(self, holds: bool, sentence: str) -> None:
        """A problem unless it holds."""
        if not holds:
            self.problem(sentence)

    def fault(self, count: int = 1) -> None:
        """Count faults that were injected."""
        self.figures.faults += count

    def recovered(self, since: float, budget: float = RECOVERY_LIMIT) -> None:
        """A recovery that began at `since` (`time.monotonic()`) is complete now."""
        seconds = time.monotonic() - since
        self.figures.recoveries.append(seconds)
        if seconds > budget:
            self.problem(f"a recovery took {seconds:.1f} s, over {budget:g} s")

    @contextlib.asynccontextmanager
    async def goes_on(
        self, publisher: Publisher, exchange: str, routing_key: str, budget: float = RECOVERY_LIMIT
    ) -> AsyncIterator[None]:
        """From the end of this block on, a new message must go all the way within the budget."""
        yield
        since = time.monotonic()
        key = await self.publish(publisher, exchange, routing_key)
        await self.applied(key)
        self.recovered(since, budget)

    # --- the judgement -----------------------------------------------------------------------

    def _unfinished(self) -> set[str]:
        unfinished = self.journal.unfinished()
        return unfinished - set(self.effects()) if unfinished else unfinished

    async def judge(self) -> None:
        """Draw up the account: L, X, D, S, and that nothing is left running in this process."""
        figures, journal = self.figures, self.journal
        effects, dead = Counter(self.effects()), journal.dead()
        lost = sorted(self._unfinished())
        figures.messages = journal.count()
        figures.unknown = len(journal.keys("unknown"))
        figures.lost = len(lost)
        twice = {key for key, count in effects.items() if count > 1} | (set(effects) & set(dead))
        figures.twice = len(twice)
        figures.together = len(journal.together())
        self._tell("lost", set(lost))
        self._tell("applied twice, or applied and dead-lettered", twice)
        self._tell("refused, and arrived all the same", journal.keys("refused") & set(effects))
        if figures.faults < self.faults:
            self.problem(f"only {figures.faults} of {self.faults} faults were injected")
        await self._judge_queues()
        await self._judge_tasks()
        self._judge_logs()

    def _tell(self, what: str, keys: set[str]) -> None:
        if keys:
            self.problem(f"{len(keys)} messages {what}: {', '.join(sorted(keys)[:5])}")

    async def _judge_queues(self) -> None:
        """All services have stopped, so that what was unacknowledged is ready again."""
        names = await asyncio.to_thread(self.room.queues)
        deadline = time.monotonic() + EMPTY_WITHIN
        async with self.client() as client:
            while True:
                found = {name: await client.messages(name) for name in names}
                wrong = {q: n for q, n in found.items() if n != self.left.get(q, 0)}
                if not wrong or time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.05)
        if wrong:
            self.problem(f"messages are left in queues: {wrong}")

    async def _judge_tasks(self) -> None:
        def others() -> list[asyncio.Task[Any]]:
            return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

        deadline = time.monotonic() + TASKS_END_WITHIN
        while (left := others()) and time.monotonic() < deadline:
            await asyncio.wait(left, timeout=0.1)
        if left:
            self.problem(f"{len(left)} tasks are left: {left[0]!r}")

    def _judge_logs(self) -> None:
        for log in sorted(self.logs.iterdir()):
            for name in self.secrets.found_in(log.read_text(errors="replace")):
                self.problem(f"the planted {name} is in {log.name}")


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Log all of this process to a file, at DEBUG, but for what starts the brokers."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter(TEXT_FORMAT))
    # They log what they send to the engine, which is where the planted password is made.
    handler.addFilter(lambda r: not r.name.startswith(("docker", "urllib3", "testcontainers")))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()


def tail(logs: Path, lines: int = 30) -> str:
    """The ends of all logs, for who looks into a failure."""
    parts = [
        f"--- {log.name}{os.linesep}"
        + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
        for log in sorted(logs.iterdir())
    ]
    return "\n".join(parts)
