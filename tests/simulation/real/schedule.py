"""Plays one plan in real time: real processes, a proxy before each, a virtual host of its own."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from mqkit import drivers
from mqkit.broker.connection import Connection
from mqkit.broker.declare import declare
from mqkit.errors import MqkitError
from mqkit.settings import BrokerUrl
from mqkit.store import Store
from tests.simulation import checker
from tests.simulation.history import CONFIRMED, History
from tests.simulation.real.child import Disk, run_publisher, run_service
from tests.simulation.real.faults import KINDS
from tests.simulation.real.host import Host
from tests.simulation.real.rabbitmq import VirtualHost
from tests.simulation.simulated import storage
from tests.simulation.simulated.broker import EVENTS
from tests.simulation.workload.plan import OF_PLAIN, SPAN, Fault, Plan
from tests.simulation.workload.services import service

SETTLED_WITHIN = 120.0
"""Seconds from the end of the last fault until everything has ended."""

QUIET = 1.5
"""Seconds in which nothing happens, where all seems to have ended."""

DECLARED_AGAIN = 1.0
"""Seconds between two attempts to declare all there is."""

ATTEMPTS = 5

LONGEST_RUN = 10.0
"""Seconds; no handler's run takes longer."""

LOOK = 0.5
LOOKS = 2
"""So many looks in a row at which all has ended: each takes its time."""


def playable(plan: Plan) -> Plan:
    """Make the plan of what can be played here: without late and torn packets.

    Nor does mqkit itself fail here, as it is made to in the simulation.
    """
    return replace(
        plan,
        faults=tuple(each for each in plan.faults if each.kind in KINDS),
        drift=(),
        # Whether one ends before its time is over is up to the machine.
        sends=tuple(
            replace(each, expires=None) for each in plan.sends if each.script not in OF_PLAIN
        ),
    )


@dataclass
class Outcome:
    """What came of a plan in real time."""

    problems: list[str]
    ends: dict[str, str]
    took: float
    faults: dict[str, int] = field(default_factory=dict)


class Schedule:
    """One plan while it is played; it looks as the simulation's world to the checker."""

    def __init__(self, plan: Plan, vhost: VirtualHost, folder: Path, driver: str) -> None:
        self.plan = plan
        self.vhost = vhost
        self.driver = driver
        self.history = History(cast("Any", SimpleNamespace(time=time.monotonic, note=lambda _: 0)))
        self.broker = SimpleNamespace(server=vhost)
        self.disk = Disk(folder / "store.sqlite") if plan.has_store else None
        self.began = 0.0
        self.heard_at = 0.0
        self.is_published = self.is_over = False
        self.services = [
            Host(self, f"service {number}", number, run_service) for number in range(plan.services)
        ]
        self.publisher = Host(self, "publisher", 0, run_publisher)
        self.hosts = [*self.services, self.publisher]
        self.active = 0
        self._working: set[asyncio.Task[None]] = set()

    async def play(self) -> None:
        """Play it to its end, and judge it."""
        for host in self.hosts:
            host.proxy.__enter__()
            if self.plan.fragment:
                host.proxy.split(200)
        try:
            await self._prepared()
            await self._play()
            await self._judge()
        finally:
            self.is_over = True
            for host in self.hosts:
                host.is_wanted = False
                host.kill()
                await host.proxy.__aexit__(None, None, None)

    async def _prepared(self) -> None:
        """Declare all there is; a broker that is busy may close connections now and then."""
        for attempt in range(ATTEMPTS, -1, -1):
            try:
                return await self._prepare()
            except MqkitError:
                if not attempt:
                    raise
                await asyncio.sleep(DECLARED_AGAIN)
        return None

    async def _prepare(self) -> None:
        if self.disk is not None:
            shutil.copyfile(storage.prepare(), self.disk.path)
        store = None if self.disk is None else Store(self.disk.url)
        url = BrokerUrl.parse(self.vhost.url)
        connection = Connection(url, name="schedule", driver=drivers.named(self.driver))
        await connection.open(60)
        try:
            for each in self.services:
                made = service(self.plan, self.history, store, each.number)
                await declare(connection.channel, made.topology)
            channel = await connection.channel()
            await channel.declare_queue(EVENTS, arguments={"x-queue-type": "quorum"})
        finally:
            await connection.close()

    async def _play(self) -> None:
        loop = asyncio.get_running_loop()
        self.began = time.monotonic() + 1.5  # until the processes are there
        if not self.plan.backlog:
            self._start_services()
        else:
            loop.call_later(2.5, self._start_services)
        self.publisher.start()
        for fault in self.plan.faults:
            loop.call_later(1.5 + fault.at, self._begin, fault)
        await asyncio.sleep(1.5 + SPAN + 1.0)
        while self.active:
            await asyncio.sleep(LOOK)
        end = time.monotonic() + SETTLED_WITHIN
        left = "nothing was looked at"
        while left and time.monotonic() < end:
            # What a dead connection held comes back late, and is in its queue only then.
            await self._settle(end)
            for host in self.hosts:
                await host.stop()
            left = await self._in_queues(consumed=False) or self._in_outbox()
        if left:
            self.history.problem(f"in the end {left}")

    def _start_services(self) -> None:
        for each in self.services:
            each.start()

    def _begin(self, fault: Fault) -> None:
        self.active += 1
        task = asyncio.create_task(self._fault(fault))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _fault(self, fault: Fault) -> None:
        try:
            await KINDS[fault.kind](self, fault)
        except Exception as error:  # noqa: BLE001 - it is said, and the schedule goes on
            self.history.problem(f"the fault {fault.kind} failed: {error!r}")
        finally:
            self.active -= 1

    async def _settle(self, end: float) -> None:
        """Wait until all has ended, with everything up."""
        self._start_services()
        if not self.publisher.is_up:
            self.is_published = False
            self.publisher.start()
        waiting, quiet = "nothing was looked at", 0
        while time.monotonic() < end:
            waiting = await self._waiting()
            quiet = 0 if waiting else quiet + 1
            if quiet == LOOKS:
                return
            await asyncio.sleep(LOOK)
        self.history.problem(f"after {SETTLED_WITHIN:.0f} s without a fault: {waiting}")

    async def _waiting(self) -> str:
        """Say what has not ended; '' where all has."""
        return self._at_work() or await self._in_queues() or await self._unended()

    def _at_work(self) -> str:
        history = self.history
        alive = {each.process for each in self.services if each.is_up}
        if not self.is_published:
            return "not all is published"
        if time.monotonic() < self.heard_at + QUIET:
            return "something happens"
        # What the store raised within a handler ends its run without a word.
        since = time.monotonic() - LONGEST_RUN
        if any(r.ended is None and r.process in alive and r.began > since for r in history.runs):
            return "a handler runs"
        return self._in_outbox()

    def _in_outbox(self) -> str:
        rows = self.disk.rows("SELECT id FROM mqkit_outbox") if self.disk is not None else []
        return f"the outbox has {len(rows)} messages" if rows else ""

    async def _in_queues(self, *, consumed: bool = True) -> str:
        for name in await self.vhost.names():
            if name.endswith((".dead", ".undeliverable")) or name == EVENTS:
                continue
            ready, consumers = await self.vhost.state(name)
            if ready:
                return f"queue {name} has {ready} ready"
            if consumed and name in self.plan.queues and not consumers:
                return f"queue {name} has no consumer"
        return ""

    async def _unended(self) -> str:
        """Say which message that is stored has not ended: a dead connection may hold it yet."""
        dead = 0
        for name in await self.vhost.names():
            if name.endswith(".dead"):
                dead += (await self.vhost.state(name))[0]
        done, history = history_done(self), self.history
        open_ = [
            name
            for send, name in checker._each(cast("Any", self))
            if history.published.get(send.name) == CONFIRMED and not done.get(name)
            if send.name not in history.excused
        ]
        return f"{open_} have not ended, and {dead} are dead" if len(open_) > dead else ""

    async def _judge(self) -> None:
        for name in await self.vhost.names():
            if name.endswith(".dead") or name == EVENTS:
                await self.vhost.take_all(name)
        world = cast("Any", self)
        checker._ends(world)
        checker._attempts(world)
        checker._order(world)
        checker._replies(world)


def history_done(schedule: Schedule) -> dict[str, int]:
    """Count the ends of each message so far: a saga's, an effect's, or a run's."""
    done = dict(schedule.history.done)
    if schedule.disk is not None:
        done |= {name: 1 for (name,) in schedule.disk.rows("SELECT name FROM effect")}
        query = "SELECT id FROM mqkit_saga WHERE status = 'completed'"
        done |= {name: 1 for (name,) in schedule.disk.rows(query)}
    return done


def ends(world: Any) -> dict[str, str]:
    """Say how each message ended that was confirmed and that nobody deleted."""
    dead, done = checker._dead(world), history_done(world)
    found = {}
    for send, name in checker._each(world):
        confirmed = world.history.published.get(send.name) == CONFIRMED
        if confirmed and send.name not in world.history.excused:
            found[name] = "dead" if dead[name] else "done" if done.get(name) else "none"
    return found


async def play(plan: Plan, url: str, management: str, driver: str) -> Outcome:
    """Play a plan on a broker, in a virtual host that is deleted after."""
    folder = Path(tempfile.mkdtemp(prefix="mqkit-real-"))
    began = time.monotonic()
    try:
        async with VirtualHost(url, management, f"real-{secrets.token_hex(5)}") as vhost:
            schedule = Schedule(plan, vhost, folder, driver)
            await schedule.play()
            history = schedule.history
            return Outcome(
                history.problems, ends(schedule), time.monotonic() - began, dict(history.faults)
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
