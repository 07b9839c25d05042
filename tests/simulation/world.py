"""A world in a seed: hosts, network, broker and faults, played in virtual time, then judged."""

from __future__ import annotations

import asyncio
import contextvars
import random
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.checker import judge, left
from tests.simulation.faults import begin
from tests.simulation.history import PENDING, History
from tests.simulation.hosts import PublisherHost, ServiceHost
from tests.simulation.simulated import network
from tests.simulation.simulated.broker import EVENTS, BrokerHost
from tests.simulation.simulated.environment import Clocks, virtual
from tests.simulation.simulated.loop import START, EndlessError, Loop
from tests.simulation.simulated.machine import Locks
from tests.simulation.simulated.storage import Disk
from tests.simulation.workload.plan import SPAN, Plan

SETTLED_WITHIN = 90.0
"""Virtual seconds from the end of the last fault until everything has ended."""

GONE_WITHIN = 15.0
"""Virtual seconds from the end of a service until nothing of it is left: timeouts of its own."""

LOOK = 0.5
"""Seconds between two looks whether it has."""


@dataclass
class Result:
    """What came of a schedule."""

    plan: Plan
    digest: int
    problems: list[str]
    steps: int
    seconds: float
    """Of virtual time."""
    messages: int
    faults: Counter[str]
    met: Counter[tuple[str, str]]
    trace: list[str] = field(default_factory=list)


class World:
    """One schedule while it is played."""

    def __init__(self, plan: Plan, *, traced: bool = False) -> None:
        self.plan = plan
        self.loop = Loop(random.Random(f"steps {plan.seed}"), late=plan.late)
        self.loop.trace = [] if traced else None
        self.network = network.install(self.loop, latency=plan.latency, fragment=plan.fragment)
        self.clocks = Clocks(self.loop)
        self.history = History(self.loop)
        self.broker = BrokerHost(self.loop, self.network, self.clocks, plan.heartbeat)
        self.disk = Disk() if plan.has_store else None
        self.locks = Locks()
        self.driver = plan.driver
        self.services = [ServiceHost(self, number) for number in range(plan.services)]
        self.publisher = PublisherHost(self, plan.sends)
        hosts = [self.broker.host, *(each.host for each in self.services)]
        self.clocks.drift = dict(zip(hosts, plan.drift, strict=False))
        if plan.drift and self.disk is not None:
            # They have a file in common, and so are on one host.
            self.clocks.drift |= dict.fromkeys(hosts[1:], plan.drift[1])
        self.began = START
        self.context = contextvars.copy_context()
        self.active = 0
        """Faults that have begun and go on."""

    def play(self) -> Result:
        """Play it to its end, and judge it."""
        loop = self.loop
        loop.until = START + 600.0
        with virtual(loop, self.clocks, self.disk):
            main = loop.create_task(self._main(), name="world")
            try:
                loop.run_until_complete(main)
            except EndlessError as error:
                self.history.problem(f"endless: {error}")
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this seed's
                self.history.problem(f"the world ended: {error!r}")
            for complaint in loop.dispose():
                self.history.problem(complaint)
        self.broker.disk.close()
        if self.disk is not None:
            self.disk.close()
        return Result(
            self.plan,
            loop.digest,
            self.history.problems,
            loop.steps,
            loop.time() - START,
            len(self.history.published),
            self.history.faults,
            self.history.met,
            loop.trace or [],
        )

    def ended_badly(self, host: ServiceHost, error: BaseException) -> None:
        """Note a service that ended by itself."""
        self.history.problem(f"{host.process} ended by itself: {error!r}")

    async def start_again(self, host: str) -> None:
        """Start what runs on a host, if it does not run."""
        if host == self.publisher.host:
            self.publisher.start()
        elif host == self.broker.host:
            await self.broker.start()
        for each in self.services:
            if each.host == host:
                each.start()

    def states(self) -> list[str]:
        """Say what goes on now, for the table of what met what."""
        found = []
        published = self.history.published.values()
        if PENDING in published:
            found.append("publishing")
        if any(run.ended is None and run.process in self._alive() for run in self.history.runs):
            found.append("handling")
        if not self.broker.is_up:
            found.append("no broker")
        else:
            queues = self.broker.vhost.queues.values()
            if any(queue.ready for queue in queues if queue.name in self.plan.queues):
                found.append("backlog")
            if any(queue.ready for queue in queues if queue.name.startswith("mqkit.delay")):
                found.append("retrying")
            if not any(queue.consumers for queue in queues):
                found.append("starting")
        return found or ["idle"]

    def _alive(self) -> set[str]:
        return {str(each.process) for each in self.services if each.is_up}

    async def _main(self) -> None:
        await self.broker.start()
        self.began = self.loop.time()
        self._start_services()
        if self.plan.backlog or "twins" in self.plan.features:
            # The queues must be there for what is published before their consumers.
            await self._declared()
        if self.plan.backlog:
            for each in self.services:
                each.ask_to_stop()
            await asyncio.gather(*(each.stopped() for each in self.services))
            self.loop.call_later(1.0, self._start_services)
        self.began = self.loop.time()
        self.publisher.start()
        for fault in self.plan.faults:
            self.loop.call_later(fault.at, begin, self, fault)
        await asyncio.sleep(SPAN + 1.0)
        while self.active:
            await asyncio.sleep(LOOK)
        await self._settle()
        await self._stop()
        judge(self)

    def _start_services(self) -> None:
        for each in self.services:
            each.start()

    async def _declared(self) -> None:
        assert self.broker.server is not None
        while True:
            found = {each.name for each in self.broker.server.queues() if each.consumers}
            if self.plan.queues <= found:
                return
            await asyncio.sleep(0.05)

    async def _settle(self) -> None:
        """Wait until all has ended, with everything up."""
        last = self.loop.time()
        self.loop.note("the last fault is over")
        await self.broker.start()
        self._start_services()
        self.publisher.start()
        waiting = ""
        while self.loop.time() < last + SETTLED_WITHIN:
            waiting = self._waiting()
            if not waiting:
                self.history.quiet_after = self.loop.time() - last
                return
            await asyncio.sleep(LOOK)
        self.history.problem(f"after {SETTLED_WITHIN:.0f} s without a fault: {waiting}")

    def _waiting(self) -> str:
        if not self.publisher.is_done:
            return "not all is published"
        assert self.broker.server is not None
        for queue in self.broker.server.queues():
            if queue.name.endswith((".dead", ".undeliverable")) or queue.name == EVENTS:
                continue
            if queue.ready or queue.unacked:
                return f"queue {queue.name} has {queue.ready} ready and {queue.unacked} unacked"
            if queue.name in self.plan.queues and not queue.consumers:
                return f"queue {queue.name} has no consumer"
        if self.disk is not None and (rows := self.disk.rows("SELECT id FROM mqkit_outbox")):
            return f"the outbox has {len(rows)} messages"
        return ""

    async def _stop(self) -> None:
        for each in self.services:
            each.ask_to_stop()
        await asyncio.gather(self.publisher.stop(), *(each.stopped() for each in self.services))
        for _ in range(int(GONE_WITHIN)):
            await asyncio.sleep(0.2 + 2 * self.plan.latency[1])
            if not left(self):
                return
            await asyncio.sleep(1.0)


def play(plan: Plan, *, traced: bool = False) -> Result:
    """Play a plan."""
    hook = sys.unraisablehook
    with warnings.catch_warnings():
        # What killed processes leave unfinished is dropped with the world, and of no interest.
        warnings.simplefilter("ignore")
        sys.unraisablehook = _pass_over
        try:
            return World(plan, traced=traced).play()
        finally:
            sys.unraisablehook = hook


def _pass_over(_: object) -> None:
    """Say nothing."""
