"""One run of the fuzz: publish, serve, wait for the end of everything, look at what is left."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from mqkit import BrokerUrl, drivers
from mqkit.broker.delays import UNDELIVERABLE, level_name
from mqkit.consuming import failures
from mqkit.message import Header
from mqkit.outcome import DELAY_LEVELS, DeathReason
from mqkit.pause import Status
from mqkit.runtime import Runtime
from mqkit.topology import DEAD_SUFFIX
from tests.faults.fuzz.account import BY_THE_BROKER, Account
from tests.faults.fuzz.acts import Acting
from tests.faults.fuzz.handlers import Hostile, Raising
from tests.faults.fuzz.messages import Fuzzed, generated, number_of
from tests.faults.fuzz.plans import LANES
from tests.faults.fuzz.tables import meaning
from tests.faults.fuzz.tap import Tap
from tests.faults.fuzz.watch import IDLE, Watch, processor_time
from tests.faults.fuzz.wire import PROPERTIES, Peer, Raw, RefusedError

RATE = 5
"""Messages that end in a second at the least, on a machine that runs five other tests, too."""

GRACE = 5.0
"""Seconds; nothing is in flight any more when the service is told to stop."""

CONNECTIONS = 2

KEPT = frozenset(PROPERTIES) - {"headers", "delivery_mode", "expiration", "user_id", "cluster_id"}
"""Properties that a dead letter has as its message had them."""

LAST_RESORT_WAITS = (0.1, 0.1, 0.2, 0.4)
"""Seconds, in the place of mqkit's own, which take a quarter of a minute."""


@dataclass
class Report:
    """What a run has shown."""

    messages: Sequence[Fuzzed]
    account: Account
    faults: list[str] = field(default_factory=list)
    critical: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    unwritten: int = 0
    seconds: float = 0.0
    processor: float = 0.0
    """Seconds of it that a second and a half took in which there was nothing to do."""

    @property
    def holds(self) -> bool:
        """Whether all is as promised."""
        return not self.faults and not self.account.problems()


def fuzz(
    url: str, *, driver: str, seed: int, count: int, prefix: str, patience: float = 8.0
) -> Report:
    """Run it in a loop of its own, which goes on where a handler's interrupt rises to it.

    :param url: a virtual host where nobody else is
    :param patience: seconds in which nothing happens, after which what is open never ends
    """
    with Peer(url) as peer:
        modest = not peer.is_rabbitmq
    messages = [generated(seed, number, prefix, modest=modest) for number in range(count)]
    report = Report(messages, Account(messages))
    assert failures.LAST_RESORT_WAITS, "they have another name"
    failures.LAST_RESORT_WAITS = LAST_RESORT_WAITS
    watch = Watch()
    with watch.watching():
        _run(_fuzz(url, driver, prefix, report, patience), report)
    report.faults += report.account.faults
    report.faults += [f"{text} ({times} times)" for text, times in watch.faults.items()]
    report.critical, report.lost, report.unwritten = watch.critical, watch.lost, watch.unwritten
    if report.lost or report.account.connections != CONNECTIONS:
        report.faults.append(
            f"connections lost: {report.lost}, opened: {report.account.connections}"
        )
    return report


def _run(work: Coroutine[Any, Any, None], report: Report) -> None:
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(work)
        while not task.done():
            try:
                loop.run_until_complete(task)
            except BaseException as error:
                if task.done():
                    raise
                report.faults.append(f"{type(error).__name__} rose to the event loop")
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


async def _fuzz(url: str, driver: str, prefix: str, report: Report, patience: float) -> None:
    account, messages = report.account, report.messages
    service = Hostile(prefix, Acting(messages, account)).service
    runtime = Runtime(
        service,
        BrokerUrl.parse(url),
        driver=Tap(drivers.named(driver), account),
        grace=GRACE,
        observer=Raising(),
    )
    before = asyncio.all_tasks()
    async with runtime:
        began = time.monotonic()
        await asyncio.to_thread(_publish, url, [each.raw for each in messages])
        await _ended(report, began + patience + len(messages) / RATE, patience)
        report.seconds = time.monotonic() - began
        await asyncio.sleep(0.3)
        report.processor = await processor_time()
        if report.processor > IDLE:
            report.faults.append(f"{report.processor:.2f} s of processor time, with nothing to do")
        _look_at(runtime, report)
        stopping = time.monotonic()
    took = time.monotonic() - stopping
    if runtime.abandoned or took > GRACE:
        report.faults.append(f"the stop took {took:.1f} s, {runtime.abandoned} were given back")
    await asyncio.sleep(0.1)
    left = asyncio.all_tasks() - before
    report.faults += [f"a task is left: {task.get_coro()}" for task in left]
    await asyncio.to_thread(_read_queues, url, prefix, report)


def _publish(url: str, messages: Sequence[Raw]) -> None:
    with Peer(url) as peer:
        peer.publish(messages)


async def _ended(report: Report, deadline: float, patience: float) -> None:
    """Wait until all have ended, or it is certain that some never will."""
    account, seen, since = report.account, -1, time.monotonic()
    while (open_ := account.open) and time.monotonic() < deadline:
        events = sum(each.deliveries + each.runs + each.acks for each in account.records)
        if events != seen:
            seen, since = events, time.monotonic()
        quiet = time.monotonic() - since
        expiring = all("expiration" in report.messages[n].raw.properties for n in open_)
        if quiet > (patience / 4 if expiring else patience):
            return
        await asyncio.sleep(0.05)


def _look_at(runtime: Runtime, report: Report) -> None:
    """See that nothing is under way, and that all queues are consumed."""
    if runtime.in_flight:
        report.faults.append(f"{runtime.in_flight} are in flight")
    for queue, state in runtime.states.items():
        if state.status is not Status.CONSUMING:
            report.faults.append(f"queue {queue} is {state.status.value}")


def _read_queues(url: str, prefix: str, report: Report) -> None:
    """See that the queues are empty, and take the dead letters."""
    for lane in LANES:
        queue = f"{prefix}.{lane}"
        parts = [f"{queue}.{n}" for n in range(3)] if lane == "partitioned" else []
        with Peer(url) as peer:
            for name in (queue, *parts):
                if count := peer.messages(name):
                    report.faults.append(f"{count} messages are left in queue {name}")
            for dead in peer.take(f"{queue}{DEAD_SUFFIX}"):
                _take(dead, report)
    _read_ladder(url, report)


def _take(dead: Raw, report: Report) -> None:
    """Enter a dead letter into the books."""
    properties = dead.properties
    number = number_of(*(properties.get(name) for name in ("correlation_id", "type", "app_id")))
    if number is None:
        report.faults.append(f"a dead letter that is nobody's: {properties}"[:300])
        return
    headers = meaning(properties.get("headers", b""))
    reason = headers.get(Header.REASON.encode())
    # What the broker dead-letters has what its publisher wrote there, if anything.
    ours = isinstance(reason, bytes) and reason.decode(errors="replace")
    report.account.expired(number, ours if ours in set(DeathReason) else BY_THE_BROKER)
    original = report.messages[number].raw
    if dead.body != original.body:
        report.faults.append(f"message {number} has another body as a dead letter")
    lacking = _lacking(meaning(original.properties.get("headers", b"")), headers)
    lacking += [
        name.encode()
        for name, value in original.properties.items()
        if name in KEPT and value and properties.get(name) != value
    ]
    if lacking:
        changed = ", ".join(map(repr, lacking))[:200]
        report.faults.append(f"the dead letter of message {number} lacks or has changed {changed}")


def _lacking(before: dict[bytes, Any], after: dict[bytes, Any]) -> list[bytes]:
    """The headers that are gone or changed, but for those that are the broker's, or ours."""
    return [
        name
        for name, value in before.items()
        if not name.startswith((b"x-", b"mqkit-")) and after.get(name, ...) != value
    ]


def _read_ladder(url: str, report: Report) -> None:
    """See that no copy waits but for those that are to. The ladder is there up to a level."""
    found: dict[str, int] = {}
    for name in (UNDELIVERABLE, *map(level_name, range(DELAY_LEVELS))):
        with Peer(url) as peer:
            try:
                found[name] = peer.messages(name)
            except RefusedError:
                break
    held = sum(record.held for record in report.account.records)
    if sum(found.values()) != held:
        report.faults.append(f"{held} copies are to be held, and the delay ladder has {found}")
