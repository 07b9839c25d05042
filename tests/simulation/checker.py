"""Judges a schedule by what mqkit promises."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.simulation.history import CONFIRMED, REFUSED
from tests.simulation.simulated.broker import EVENTS
from tests.simulation.simulated.loop import PROCESS, Process
from tests.simulation.workload import saga
from tests.simulation.workload.messages import DependencyDownError
from tests.simulation.workload.plan import (
    ATTEMPTS,
    ENDS_DEAD,
    HARMLESS,
    OF_STORE,
    STORED,
    TWINS,
    WAIT,
    Send,
)
from tests.simulation.workload.services import reply_to

if TYPE_CHECKING:
    from tests.simulation.world import World


LATE = {"partition", "one way", "slow", "clock jumps"}
"""Faults with which a delivery comes late."""


OF_BROKER = {"kill broker", "stop broker"}
"""Faults by which the broker is away for a while, with what waits in it."""


def judge(world: World) -> None:
    """Put what must not be into the history."""
    _ends(world)
    _strangers(world)
    _attempts(world)
    _delays(world)
    _expiries(world)
    _order(world)
    _at_once(world)
    _replies(world)
    for each in left(world):
        world.history.problem(f"left: {each}")


def _dead(world: World) -> Counter[str]:
    """Count the dead letters of each message."""
    assert world.broker.server is not None
    found: Counter[str] = Counter()
    for queue in world.broker.server.queues():
        name, _, suffix = queue.name.rpartition(".")
        for message in world.broker.server.messages(queue.name) if suffix == "dead" else ():
            own = f" of {name}" if name in TWINS else ""
            # The timeout of a saga has no name of its own.
            found[json.loads(message.body).get("name", name) + own] += 1
    return found


def _ends(world: World) -> None:
    """Every confirmed message has one end, the one that its script says."""
    history, dead, done = world.history, _dead(world), world.history.done
    _effects(world, done)
    _sagas(world, done)
    explained = set(history.faults) - {*HARMLESS, *OF_STORE}
    if history.cut_short:
        explained.add("stop service")
    with_store = explained | set(history.faults) & {*OF_STORE}
    ran = {run.name for run in history.runs}
    for send, name in _each(world):
        how = history.published.get(send.name, "")
        ends = f"{name} ({send.script}, {how}) was done {done[name]} and dead {dead[name]} times"
        if how == REFUSED and (name in ran or dead[name]):
            history.problem(f"{name} was said to be not stored, and came")
        if send.name in history.excused:
            continue
        if how == CONFIRMED and not done[name] and not dead[name]:
            history.problem(f"lost: {ends}")
        if send.script == "unsettled":
            done[name] = 0  # it was, and then could not be settled
        # Its time may be over when it comes again, though its effect is committed.
        late = send.expires is not None and (explained or "answer lost" in with_store)
        if done[name] and dead[name] and not late:
            history.problem(f"two ends: {ends}")
        ends_dead = send.script in ENDS_DEAD and send.feature != "saga"
        if (done[name] if ends_dead else dead[name] and send.expires is None) > 0:
            history.problem(f"wrong end: {ends}")
        why = with_store if send.feature in (*STORED, "saga") else explained
        if not why and done[name] + dead[name] > (1 if send.again is None else 2):
            history.problem(f"twice, without a fault that explains it: {ends}")


def _strangers(world: World) -> None:
    """What no message of the plan became is dead: a saga's timeout, say."""
    known = {name for _, name in _each(world)} | world.history.excused
    for name in sorted(_dead(world).keys() - known):
        world.history.problem(f"a message of {name} is dead")


def _gain(world: World) -> float:
    """Return what the broker's wall clock may gain in a second; one that jumps gains all there is.

    Over a restart of the broker times are kept by it.
    """
    if world.broker.host in world.clocks.ahead:
        return 1.0
    return max(0.0, world.clocks.drift.get(world.broker.host, 0.0))


def _delays(world: World) -> None:
    """Nothing comes before its delay is over."""
    history = world.history
    gain = _gain(world)
    for send, name in _each(world):
        began = min((run.began for run in history.runs if run.name == name), default=math.inf)
        due = history.given_at.get(send.name, 0.0) + send.delay
        if began < due - 0.001 - gain * send.delay:
            history.problem(f"{name} came {due - began:.3f} s before its delay was over")


def _expiries(world: World) -> None:
    """Nothing is handled first when its time is over, which counts again once mqkit has it."""
    history = world.history
    came = history.faults.keys()
    # A retry of a message whose store was away does not count, and stands in a queue of the broker.
    store, broker = bool(came & {*OF_STORE}), bool(came & OF_BROKER)
    if came & LATE or (store and broker):
        return
    counts = 3 if store else 2
    for send in world.plan.sends:
        known = history.known_at.get(send.name)
        if send.expires is None or known is None or history.published[send.name] != CONFIRMED:
            continue
        latest = known + counts * send.expires + 0.1 + 10 * world.plan.latency[1]
        for run in history.runs:
            if run.name == send.name and run.attempt == 1 and run.began > latest:
                over = run.began - latest
                history.problem(f"{send.name} was handled {over:.3f} s after its time was over")
            if run.name == send.name and run.how == DependencyDownError.__name__:
                break  # a retry, though its attempt is the same: that does not count, as above


def _each(world: World) -> Iterator[tuple[Send, str]]:
    """Return each message that was sent with its name, and of twins with either one's."""
    for send in world.plan.sends:
        if send.feature == "twins":
            yield from ((send, f"{send.name} of {name}") for name in TWINS)
        else:
            yield send, send.name


def _sagas(world: World, done: Counter[str]) -> None:
    """Each saga that was started ends once: it is done, or undone."""
    if world.disk is None or "saga" not in world.plan.features:
        return
    history = world.history
    assert world.broker.server is not None
    told: dict[str, set[str]] = {}
    for message in world.broker.server.messages(EVENTS):
        how = str(message.properties.get("type", ""))
        if how in (saga.DONE, saga.UNDONE):
            name = json.loads(message.body)["name"]
            told.setdefault(name, set()).add(f"{how} {message.properties['message_id']}")
    rows = world.disk.rows("SELECT id, status FROM mqkit_saga")
    for name, status in rows:
        ends = sorted(told.get(name, ()))
        if name not in history.excused and (status != "completed" or len(ends) != 1):
            history.problem(f"saga {name} is {status}, and ended {ends}")
        done[name] = 1
    scripts = {send.name: send.script for send in world.plan.sends}
    for name, said in told.items():
        if any(each.startswith(saga.DONE) for each in said) and scripts[name] in ("reject", "dead"):
            history.problem(f"saga {name} ({scripts[name]}) ended {sorted(said)}")


def _effects(world: World, done: Counter[str]) -> None:
    """With the store each message has one effect, and each effect its event, in order by key.

    What has no effect is not done, whatever its handler said: its transaction was not committed.
    """
    if world.disk is None:
        return
    history = world.history
    effects = world.disk.rows("SELECT name, key, event FROM effect ORDER BY id")
    times = Counter(name for name, _, _ in effects)
    for send, name in _each(world):
        if send.feature in STORED:
            done[name] = times[name]
    history.problem_of_each(
        f"{name} had its effect {count} times" for name, count in times.items() if count > 1
    )
    assert world.broker.server is not None
    came = [
        str(message.properties["message_id"])
        for message in world.broker.server.messages(EVENTS)
        if not message.properties.get("type")
    ]
    first = {event: place for place, event in reversed(list(enumerate(came)))}
    of_effects = [event for _, _, event in effects]
    history.problem_of_each(
        f"the event of {name} was not published" for name, _, e in effects if e not in first
    )
    history.problem_of_each(
        f"event {event} was published without its commit"
        for event in first
        if event not in of_effects
    )
    for key in sorted({key for _, key, _ in effects}):
        events = [event for _, each, event in effects if each == key and event in first]
        if sorted(events, key=lambda event: first[event]) != events:
            history.problem(f"the events of key {key} were not published in order")


def _attempts(world: World) -> None:
    """No run has an attempt too many, and none comes before its wait is over."""
    failed: dict[tuple[str, int], float] = {}
    gain = _gain(world)
    of_sagas = {each.name for each in world.plan.sends if each.feature == "saga"}
    for run in world.history.runs:
        if run.name in of_sagas:
            continue
        if run.attempt > ATTEMPTS:
            world.history.problem(f"{run.name} ran with attempt {run.attempt} of {ATTEMPTS}")
        before = failed.get((run.name, run.attempt - 1))
        waited = WAIT * (1 - gain) - 0.001
        if run.attempt > 1 and (before is None or run.began < before + waited):
            world.history.problem(f"{run.name}: attempt {run.attempt} came without its wait")
        if run.ended is not None and run.how != "done":
            # The first to end: where its ack was lost the same attempt is made once more, and of
            # two copies each has its own.
            key = run.name, run.attempt
            failed[key] = min(run.ended, failed.get(key, run.ended))


def _order(world: World) -> None:
    """Messages of a key are done in the order in which they were published, one at a time."""
    history = world.history
    ordered = [each for each in world.plan.sends if each.feature == "ordered"]
    first: dict[str, int] = {}
    for place, run in enumerate(history.runs):
        if run.how == "done":
            first.setdefault(run.name, place)
    for key in sorted({each.key for each in ordered}, key=str):
        # What nobody knows may have come whenever it liked.
        names = [
            each.name
            for each in ordered
            if each.key == key
            and history.published.get(each.name) == CONFIRMED
            and each.name in first
            and each.name not in history.excused
        ]
        came = sorted(names, key=lambda name: first[name])
        if came != names:
            history.problem(f"order of key {key}: published {names}, done {came}")
    running: dict[tuple[str, str | float], float] = {}
    for run in history.runs:
        if not run.key:
            continue
        until = running.get((run.process, run.key), 0.0)
        if run.began < until:
            history.problem(f"{run.name} ran while another one of key {run.key} did")
        running[run.process, run.key] = run.ended if run.ended is not None else math.inf


def _at_once(world: World) -> None:
    """A message that comes again waits for its run that goes on; what was given back is not run."""
    running: dict[tuple[str, str], float] = {}
    features = {name: send.feature for send, name in _each(world)}
    for run in world.history.runs:
        if features[run.name] == "saga":
            continue
        if run.began < running.get((run.process, run.name), 0.0):
            world.history.problem(f"{run.name} ran while an earlier run of it did")
        running[run.process, run.name] = run.ended if run.ended is not None else math.inf
        if run.lost and features[run.name] not in STORED:
            world.history.problem(f"{run.name} was run though it had been given back")


def _replies(world: World) -> None:
    """A request gets the answer that its script says, or none."""
    expected = {"reject": "RequestRejectedError", "dead": "RequestFailedError"}
    for send in world.plan.sends:
        reply = world.history.replies.get(send.name)
        if reply is not None and reply != expected.get(send.script, reply_to(send.name)):
            world.history.problem(f"{send.name} ({send.script}) was answered {reply!r}")


def left(world: World) -> list[str]:
    """Find what there is still of processes that have stopped."""
    loop, broker = world.loop, world.broker.process
    found = []

    def is_over(process: object) -> bool:
        return isinstance(process, Process) and process is not broker and process.alive

    for process in loop.processes:
        if is_over(process):
            found += [
                f"task {task.get_name()} of {process}: {task.get_coro()!r}"
                for task in process.tasks
                if not task.done()
            ]
    for _, _, timer in loop._timers:
        process = timer._context.get(PROCESS)  # type: ignore[attr-defined]
        if not timer._cancelled and is_over(process):
            found.append(f"timer {timer!r} of {process}")
    found += [
        f"connection {each.client.sockname}"
        for each in world.network.of(world.broker.host)
        # One whose client is gone with its host is the broker's to find out.
        if not each.client._closed
    ]
    return found
