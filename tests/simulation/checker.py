"""Judges a schedule by what mqkit promises."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from tests.simulation.history import CONFIRMED, REFUSED
from tests.simulation.loop import PROCESS
from tests.simulation.plan import ATTEMPTS, ENDS_DEAD, WAIT

if TYPE_CHECKING:
    from tests.simulation.world import World


def judge(world: World) -> None:
    """Put what must not be into the history."""
    _ends(world)
    _attempts(world)
    _leaks(world)


def _dead(world: World) -> Counter[str]:
    """Count the dead letters of each message."""
    assert world.broker.server is not None
    return Counter(
        json.loads(message.body)["name"]
        for queue in world.broker.server.queues()
        if queue.name.endswith(".dead")
        for message in world.broker.server.messages(queue.name)
    )


def _ends(world: World) -> None:
    """Every confirmed message has one end, the one that its script says."""
    history, dead, done = world.history, _dead(world), world.history.done
    ran = {run.name for run in history.runs}
    for send in world.plan.sends:
        how, name = history.published.get(send.name, ""), send.name
        ends = f"{name} ({send.script}, {how}) was done {done[name]} and dead {dead[name]} times"
        if how == REFUSED and (name in ran or dead[name]):
            history.problem(f"{name} was said to be not stored, and came")
        if name in history.excused:
            continue
        if how == CONFIRMED and not done[name] and not dead[name]:
            history.problem(f"lost: {ends}")
        if done[name] and dead[name]:
            history.problem(f"two ends: {ends}")
        if (dead[name] if send.script not in ENDS_DEAD else done[name]) > 0:
            history.problem(f"wrong end: {ends}")
        if not history.faults and done[name] + dead[name] > 1:
            history.problem(f"twice, without any fault: {ends}")


def _attempts(world: World) -> None:
    """No run has an attempt too many, and none comes before its wait is over."""
    failed: dict[tuple[str, int], float] = {}
    for run in world.history.runs:
        if run.attempt > ATTEMPTS:
            world.history.problem(f"{run.name} ran with attempt {run.attempt} of {ATTEMPTS}")
        before = failed.get((run.name, run.attempt - 1))
        if run.attempt > 1 and (before is None or run.began < before + WAIT - 0.001):
            world.history.problem(f"{run.name}: attempt {run.attempt} came without its wait")
        if run.ended is not None and run.how != "done":
            # The first one's: where its ack was lost, the same attempt is made once more.
            failed.setdefault((run.name, run.attempt), run.ended)


def _leaks(world: World) -> None:
    """After everything was stopped nothing of it is left."""
    loop, history = world.loop, world.history
    broker = world.broker.process
    for task in loop.tasks:
        context = task.get_context() if hasattr(task, "get_context") else None
        process = context.get(PROCESS) if context is not None else _process_of(world, task)
        if task.done() or process is None or process is broker or not process.alive:
            continue
        history.problem(f"task {task.get_name()} of {process} is left: {task.get_coro()!r}")
    for _, _, timer in loop._timers:
        process = timer._context.get(PROCESS)  # type: ignore[attr-defined]
        if "Deadlines._look" in repr(timer):
            continue
        if timer._cancelled or process is None or process is broker or not process.alive:  # type: ignore[attr-defined]
            continue
        history.problem(f"timer {timer!r} of {process} is left")
    for connection in world.network.of(world.broker.host):
        # One whose client is gone with its host is the broker's to find out.
        if not connection.client._closed:
            history.problem(f"connection {connection.client.sockname} is left")


def _process_of(world: World, task: object) -> object:
    for process in world.loop.processes:
        if task in process.tasks:
            return process
    return None
