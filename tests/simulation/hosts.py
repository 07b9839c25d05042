"""The hosts of a schedule whose processes run mqkit: services and publishers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mqkit import Exchange, Outgoing, Publisher, PublishError, Queue, Runtime
from mqkit.errors import (
    ChannelClosedError,
    MqkitError,
    ReplyLostError,
    RequestFailedError,
    RequestRejectedError,
    RequestTimeoutError,
    StoreUnavailableError,
    TopologyError,
)
from mqkit.store import Store
from tests.simulation import history as known
from tests.simulation.simulated.loop import Process, ended
from tests.simulation.simulated.machine import machine
from tests.simulation.workload.messages import Work
from tests.simulation.workload.plan import Send
from tests.simulation.workload.services import TWINS_EXCHANGE, service

if TYPE_CHECKING:
    from tests.simulation.world import World

PUBLISH_TIMEOUT = 8.0
GRACE = 3.0

SWEEP = 3.0
"""Seconds between two looks of a relay that nobody hinted at."""

KEEP = 60.0
"""Seconds for which an inbox is to know a message, twice, and some hours for wrong clocks."""

MANY = "many"
"""The chain of those that are published together."""

MORE = (known.REFUSED, known.UNKNOWN, known.CONFIRMED)
"""What is known of a message of which two copies were published is what is known of the better."""

ILL = {"disk full", "database locked", "answer lost", "commit fails"}
"""Faults of the database after which a service may end by itself."""

SILENT = {"partition", "one way", "slow", "alarm", "kill broker"}
"""Faults with which a broker may say nothing, so that a stop takes too long: a host without power
says nothing either."""

RESTART = 1.0
"""Seconds until whoever looks after a service starts one again that ended by itself."""


class ServiceHost:
    """A host that runs one process of the service, which is killed, stopped and started again."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._number = number
        self.host = f"127.0.1.{number}"
        self.process: Process | None = None
        self.runtime: Runtime | None = None
        self._stop: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._asked_at = math.inf
        self.wanted = False

    @property
    def is_up(self) -> bool:
        """Whether its process lives."""
        return self._task is not None and not self._task.done() and self._is_alive

    @property
    def _is_started(self) -> bool:
        return self.runtime is not None and self.runtime._watch.is_started

    @property
    def _is_alive(self) -> bool:
        return self.process is not None and self.process.alive

    def start(self) -> None:
        """Start a process, unless one runs."""
        self.wanted = True
        if self.is_up:
            return
        world, loop = self._world, self._world.loop
        process = self.process = loop.new_process(self.host)
        self._asked_at = math.inf
        with loop.inside(process):
            self._stop = asyncio.Event()
            own = machine(loop, process, world.locks, world.disk)
            store = None
            if world.disk is not None:
                store = Store(
                    world.disk.url,
                    clock=world.clocks.utc,
                    machine=own,
                    sweep=SWEEP,
                    longest_retry=KEEP,
                    replay_age=KEEP,
                    create_tables=False,  # the file has them, and to look for each takes its time
                )
            made = service(world.plan, world.history, store, self._number)
            self.runtime = Runtime(
                made,
                world.broker.url,
                driver=world.driver,
                clock=world.clocks.utc,
                grace=GRACE,
                machine=own,
            )
            process.keep += [made, self.runtime]
            self._task = loop.create_task(self.runtime.run(self._stop), name=str(process))
        self._task.add_done_callback(self._ended)
        loop.note(f"{process} starts")

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        world = self._world
        world.loop.note(f"{self.process} ended: {type(error).__name__} {error}")
        if error is not None and not self._is_excused(error):
            world.ended_badly(self, error)
        if world.loop.time() - self._asked_at >= GRACE:
            world.history.cut_short = True
        if self.wanted:
            world.loop.call_later(RESTART, self._again)

    def _is_excused(self, error: BaseException) -> bool:
        """Tell whether it may end so: only where there has been what leaves it no other way."""
        faults = self._world.history.faults.keys()
        if isinstance(error, StoreUnavailableError):
            # It does not start on a database that is not well.
            return bool(faults & ILL)
        if isinstance(error, TopologyError) or (
            isinstance(error, ChannelClosedError) and not self._is_started
        ):
            # What it declares, or may do, is refused, and not by anything that is declared.
            return "close channel" in faults and "PRECONDITION_FAILED - on purpose" in str(error)
        # Asked to stop, it may not be done with a broker that says nothing in its time. Whether it
        # is wanted does not tell: it may be again, before its end, after another fault's.
        # Nor with an SQLite that a slow handler of another process has for all that time.
        asked = self._stop is not None and self._stop.is_set()
        waits = self._world.disk is not None and self._world.plan.is_slow
        return isinstance(error, TimeoutError) and asked and (waits or bool(faults & SILENT))

    def _again(self) -> None:
        if self.wanted and not self.is_up:
            self.start()

    def kill(self, *, power: bool = False) -> None:
        """Kill it without a word; with `power`, its host is gone as well."""
        if self.process is None or not self.process.alive:
            return
        network = self._world.network
        (network.cut_power if power else network.die)(self.process)
        self._world.loop.kill(self.process)

    def ask_to_stop(self) -> None:
        """Ask it to stop, as SIGTERM does."""
        self.wanted = False
        if self._stop is not None and self._is_alive and not self._stop.is_set():
            self._stop.set()
            self._asked_at = self._world.loop.time()

    async def stopped(self) -> None:
        """Wait until it has stopped."""
        if self._task is not None and self.process is not None:
            await ended(self.process, self._task)


class PublisherHost:
    """A host whose process publishes what the plan says; killed, it goes on with what is left."""

    def __init__(self, world: World, sends: Sequence[Send]) -> None:
        self._world = world
        self.host = "127.0.2.1"
        self.process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._sends = list(sends)
        self._stop: asyncio.Event | None = None
        self._is_through = False

    @property
    def is_up(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.alive

    @property
    def is_done(self) -> bool:
        """Whether all is published, as far as it can be."""
        published = self._world.history.published
        return self._is_through and all(
            published.get(each.name, known.PENDING) != known.PENDING for each in self._sends
        )

    def start(self) -> None:
        """Start a process, for what no process before has tried to publish."""
        if self.is_up:
            return
        loop = self._world.loop
        self._is_through = False
        process = self.process = loop.new_process(self.host)
        with loop.inside(process):
            self._stop = asyncio.Event()
            self._task = loop.create_task(self._run(self._stop), name="publisher")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._world.history.problem(f"the publisher ended: {error!r}")

    def kill(self, *, power: bool = False) -> None:
        """Kill it; what is on its way then is unknown to it."""
        if self.process is None or not self.process.alive:
            return
        network = self._world.network
        (network.cut_power if power else network.die)(self.process)
        self._world.loop.kill(self.process)
        for name, how in self._world.history.published.items():
            if how == known.PENDING:
                self._world.history.publish(name, known.UNKNOWN)

    async def stop(self) -> None:
        """Let it close its publisher and end."""
        if self._task is not None and self._stop is not None and self.is_up:
            self._stop.set()
            assert self.process is not None
            await ended(self.process, self._task)

    async def _run(self, stop: asyncio.Event) -> None:
        world = self._world
        assert self.process is not None
        publisher = Publisher(
            world.broker.url,
            driver=world.driver,
            timeout=PUBLISH_TIMEOUT,
            window=100,
            clock=world.clocks.utc,
            machine=machine(world.loop, self.process, world.locks, None),
        )
        chains: dict[str, list[Send]] = {}
        for each in self._sends:
            if each.name not in world.history.published:
                # In a row, where the order counts.
                chain = f"key {hash(each.key)}" if each.feature == "ordered" else each.name
                chain = MANY if each.is_of_many else chain
                chains.setdefault(chain, []).append(each)
        async with asyncio.TaskGroup() as group:
            for name, sends in chains.items():
                publish = self._publish_many if name == MANY else self._publish_chain
                group.create_task(publish(publisher, sends))
        self._is_through = True
        await stop.wait()
        await publisher.close()

    async def _publish_chain(self, publisher: Publisher, sends: Sequence[Send]) -> None:
        loop = self._world.loop
        for each in sends:
            await asyncio.sleep(max(0.0, self._world.began + each.at - loop.time()))
            history = self._world.history
            history.publish(each.name, known.PENDING)
            history.publish(each.name, await self._publish(publisher, each))
            if each.again is not None:
                await asyncio.sleep(each.again)
                both = history.published[each.name], await self._publish(publisher, each)
                history.publish(each.name, max(both, key=MORE.index))

    async def _publish_many(self, publisher: Publisher, sends: Sequence[Send]) -> None:
        world, history = self._world, self._world.history
        await asyncio.sleep(max(0.0, world.began + sends[0].at - world.loop.time()))

        def messages() -> Iterator[Outgoing]:
            for each in sends:
                history.publish(each.name, known.PENDING)
                yield Outgoing(
                    *_to(each),
                    _work(each),
                    message_id=each.name,
                    delay=each.delay or None,
                    expiration=each.expires,
                )

        async for result in publisher.publish_many(messages(), window=3):
            name, error = sends[result.index].name, result.error
            if error is not None and not isinstance(error, PublishError):
                history.problem(f"publishing {name} gave {error!r}")
            history.publish(name, known.CONFIRMED if error is None else _known_by(error))

    async def _publish(self, publisher: Publisher, send: Send) -> str:
        work, delay = _work(send), send.delay or None
        history = self._world.history
        try:
            if send.feature == "request":
                queue = Queue("request")
                history.replies[send.name] = await publisher.request(
                    queue, work, str, message_id=send.name
                )
            else:
                await publisher.publish(
                    *_to(send),
                    work,
                    message_id=send.name,
                    delay=delay,
                    expiration=send.expires,
                )
        except (RequestRejectedError, RequestFailedError) as error:
            history.replies[send.name] = type(error).__name__
        except RequestTimeoutError:
            return known.CONFIRMED
        except ReplyLostError:
            return known.UNKNOWN
        except PublishError as error:
            return _known_by(error)
        except MqkitError as error:
            history.problem(f"publishing {send.name} raised {error!r}")
            return known.UNKNOWN
        return known.CONFIRMED


def _work(send: Send) -> Work:
    return Work(name=send.name, script=send.script, key=send.key, duration=send.duration)


def _to(send: Send) -> tuple[Exchange | str, str]:
    return (TWINS_EXCHANGE, "") if send.feature == "twins" else ("", send.feature)


def _known_by(error: MqkitError) -> str:
    refused = isinstance(error, PublishError) and not error.may_be_stored
    return known.REFUSED if refused else known.UNKNOWN
