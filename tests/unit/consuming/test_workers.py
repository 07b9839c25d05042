"""Work queues, the tasks that run their items, and what each run sees."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.consuming.workers import IDLE, TURN, WorkerPool, WorkQueue, _TaskContext

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


class Source:
    """Items for a pool, so many at a time; notes what runs."""

    def __init__(self, run: Callable[[int], Awaitable[None]], at_a_time: int = 100) -> None:
        self.running = 0
        self.most = 0
        self._work = run
        self.tasks: list[asyncio.Task[None] | None] = []
        self.pool: WorkerPool[int] = WorkerPool(at_a_time, self._run)

    def add(self, *items: int) -> None:
        for item in items:
            self.pool.submit(item, None)

    async def done(self) -> None:
        """Wait until nothing waits and nothing runs."""
        async with asyncio.timeout(10):
            while self.pool.waiting() or self.pool.current:
                await asyncio.sleep(0)

    async def _run(self, item: int) -> None:
        self.tasks.append(asyncio.current_task())
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self._work(item)
        finally:
            self.running -= 1


async def test_runs_that_wait_for_nothing_share_one_task() -> None:
    """A hundred items that never wait are run in their order by a single task."""
    ran: list[int] = []

    async def work(item: int) -> None:
        ran.append(item)

    source = Source(work)
    source.add(*range(50))
    await source.done()
    source.add(*range(50, 100))
    await source.done()
    assert ran == list(range(100))
    assert len(set(source.tasks)) == 1
    source.pool.close()


async def test_runs_that_wait_do_so_at_the_same_time() -> None:
    """Where every run waits, as many as may do so together, and the others take their places."""
    gate = asyncio.Event()

    async def work(_: int) -> None:
        await gate.wait()

    source = Source(work, at_a_time=60)
    source.add(*range(200))
    async with asyncio.timeout(10):
        while source.running < 60:
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert source.running == 60
    gate.set()
    await source.done()
    assert len(source.tasks) == 200
    assert source.most == 60
    assert len(set(source.tasks)) <= 61
    source.pool.close()


async def test_one_that_waits_does_not_hold_what_comes_behind_it() -> None:
    """An item that waits forever in the middle holds neither those before nor those after it."""
    forever = asyncio.Event()
    ran: list[int] = []

    async def work(item: int) -> None:
        if item == 3:
            await forever.wait()
        ran.append(item)

    source = Source(work)
    source.add(*range(10))
    async with asyncio.timeout(10):
        while len(ran) < 9:
            await asyncio.sleep(0)
    source.add(10)
    async with asyncio.timeout(10):
        while len(ran) < 10:
            await asyncio.sleep(0)
    forever.set()
    await source.done()
    assert ran == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 3]
    source.pool.close()


async def test_a_run_sees_no_context_of_another() -> None:
    """A context variable that a run sets is unset in every other run, and the outer one is seen."""
    outer: contextvars.ContextVar[str] = contextvars.ContextVar("outer")
    outer.set("of the beginning")
    seen: list[tuple[str, str]] = []

    async def work(item: int) -> None:
        seen.append((variable.get("unset"), outer.get("unset")))
        if item % 3 == 0:
            variable.set(f"of {item}")
            outer.set("changed")
        if item % 2 == 0:
            await asyncio.sleep(0)

    source = Source(work)
    source.add(*range(30))
    await source.done()
    assert seen == [("unset", "of the beginning")] * 30
    source.pool.close()


async def test_a_value_that_cannot_be_compared_is_no_leak() -> None:
    """A context variable whose value refuses to be compared goes no further, and harms no run."""

    class Odd:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, _: object) -> bool:
            raise RuntimeError("not to be compared")

    odd: contextvars.ContextVar[Odd] = contextvars.ContextVar("odd")
    odd.set(Odd())
    seen = []

    async def work(_: int) -> None:
        seen.append(odd.get())
        odd.set(Odd())

    source = Source(work)
    source.add(1, 2, 3)
    await source.done()
    assert len(seen) == 3
    assert len(set(map(id, seen))) == 1
    source.pool.close()


async def test_a_precision_set_for_one_run_holds_for_no_other() -> None:
    """Each run finds the settings of decimal arithmetic, and its signals, as of the beginning."""
    decimal.setcontext(decimal.Context(prec=30))  # in the test's own task
    assert Decimal(1) / 3
    seen: list[tuple[int, bool, bool]] = []

    async def work(item: int) -> None:
        context = decimal.getcontext()
        inexact = context.flags[decimal.Inexact]
        seen.append((context.prec, context.traps[decimal.FloatOperation], inexact))
        assert Decimal(1) / 3
        if item % 3 == 0:
            context.prec = 4
        if item % 3 == 1:
            context.traps[decimal.FloatOperation] = True
        if item % 4 == 0:
            decimal.setcontext(decimal.Context(prec=5))
        await asyncio.sleep(0)

    source = Source(work)
    source.add(*range(12))
    await source.done()
    source.add(*range(12))
    await source.done()
    assert seen == [(30, False, False)] * 24
    assert decimal.getcontext().prec == 30
    source.pool.close()


async def test_runs_that_calculate_share_a_task() -> None:
    """Decimal arithmetic, also with a precision for a while, is no reason for another task."""

    async def work(item: int) -> None:
        with decimal.localcontext() as context:
            context.prec = 5
            assert Decimal(item) / 7 != Decimal(item) * 7 or not item

    source = Source(work)
    source.add(*range(20))
    await source.done()
    assert len(set(source.tasks)) == 1
    source.pool.close()


async def test_cancelling_a_run_ends_only_that_run() -> None:
    """A cancelled task's run ends, the others go on, and new ones run on tasks of their own."""
    gate = asyncio.Event()
    ended: list[int] = []
    cancelled: list[int] = []

    async def work(item: int) -> None:
        try:
            await gate.wait()
            ended.append(item)
        except asyncio.CancelledError:
            cancelled.append(item)
            if item != 2:  # 2 keeps it to itself
                raise

    source = Source(work)
    source.add(1, 2, 3, 4)
    async with asyncio.timeout(10):
        while source.running < 4:
            await asyncio.sleep(0)
    for task, item in source.pool.current.items():
        if item in (1, 2):
            task.cancel()
    async with asyncio.timeout(10):
        while source.running > 2:
            await asyncio.sleep(0)
    gate.set()
    source.add(5, 6, 7, 8)
    await source.done()
    assert sorted(cancelled) == [1, 2]
    assert sorted(ended) == [3, 4, 5, 6, 7, 8]
    source.pool.close()


async def test_a_run_that_cancels_its_own_task_harms_no_other() -> None:
    """A run that cancels its own task and then returns is the only one to see it."""
    ran: list[int] = []

    async def work(item: int) -> None:
        if item == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            return
        await asyncio.sleep(0)
        ran.append(item)

    source = Source(work)
    source.add(0, 1, 2, 3)
    await source.done()
    assert sorted(ran) == [0, 2, 3]
    source.pool.close()


async def test_what_a_run_raises_is_logged_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An exception out of a run is logged as critical, and those behind it run all the same."""
    ran: list[int] = []

    async def work(item: int) -> None:
        if item == 1:
            raise ValueError("a defect")
        ran.append(item)

    source = Source(work)
    with caplog.at_level(logging.CRITICAL, logger="mqkit"):
        source.add(0, 1, 2, 3)
        await source.done()
    assert ran == [0, 2, 3]
    assert [r.levelname for r in caplog.records] == ["CRITICAL"]
    assert "a defect" in caplog.text
    source.pool.close()


async def test_the_loop_turns_while_there_is_a_backlog() -> None:
    """Runs that wait for nothing let the loop turn, however many there are."""
    loop = asyncio.get_running_loop()
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        loop.call_later(0, turn)

    async def work(_: int) -> None:
        until = loop.time() + TURN / 2
        while loop.time() < until:
            pass

    source = Source(work)
    loop.call_soon(turn)
    source.add(*range(40))
    await source.done()
    assert turns >= 10
    assert len(set(source.tasks)) == 1
    source.pool.close()


async def test_drained_waits_for_what_runs() -> None:
    """`drained` returns once the last run has ended, and at once where nothing runs."""
    gate = asyncio.Event()
    ended: list[int] = []

    async def work(item: int) -> None:
        await gate.wait()
        ended.append(item)

    source = Source(work)
    async with asyncio.timeout(10):
        await source.pool.drained()
        source.add(1, 2)
        while source.running < 2:
            await asyncio.sleep(0)
        waiting = [asyncio.create_task(source.pool.drained()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting.pop().cancel()  # who waits no longer disturbs nobody
        assert not waiting[0].done()
        gate.set()
        await waiting[0]
    assert sorted(ended) == [1, 2]
    source.pool.close()


async def test_the_limit_may_change_while_items_run() -> None:
    """More begin at once where it rises; where it falls, none begins before enough have ended."""
    gates = [asyncio.Event() for _ in range(10)]

    async def work(item: int) -> None:
        await gates[item].wait()

    async def turns() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    source = Source(work, at_a_time=2)
    source.add(*range(10))
    await turns()
    assert source.running == 2
    source.pool.set_limit(5)
    await turns()
    assert source.running == 5
    source.pool.set_limit(1)
    for ended in range(4):
        gates[ended].set()
        await turns()
        assert source.running == 4 - ended
    gates[4].set()
    await turns()
    assert source.running == 1
    for gate in gates:
        gate.set()
    await source.done()
    assert source.most == 5
    source.pool.close()


async def test_few_workers_are_kept_for_later() -> None:
    """After many runs at the same time, only some of their tasks stay."""
    before = len(asyncio.all_tasks())
    gate = asyncio.Event()

    async def work(_: int) -> None:
        await gate.wait()

    source = Source(work, at_a_time=500)
    source.add(*range(500))
    async with asyncio.timeout(10):
        while source.running < 500:
            await asyncio.sleep(0)
        gate.set()
        await source.done()
        while len(asyncio.all_tasks()) > before + IDLE:
            await asyncio.sleep(0)
    source.pool.close()


async def test_a_closed_pool_leaves_no_task() -> None:
    """After `close` nothing new runs, what runs goes on to its end, and no task is left then."""
    before = asyncio.all_tasks()
    gate = asyncio.Event()
    ended: list[int] = []

    async def work(item: int) -> None:
        if item > 1:
            await gate.wait()
        ended.append(item)

    source = Source(work)
    source.add(*range(4))
    async with asyncio.timeout(10):
        while source.running < 2 or source.pool.waiting():
            await asyncio.sleep(0)
        source.pool.close()
        source.add(4)
        gate.set()
        await source.pool.drained()
        while asyncio.all_tasks() != before:
            await asyncio.sleep(0)
    assert sorted(ended) == [0, 1, 2, 3]
    assert source.pool.waiting() == [4]


async def test_nothing_begins_while_it_is_paused() -> None:
    """What runs goes on, what waits begins once it is resumed, and what was taken out never."""
    gate = asyncio.Event()
    ran: list[int] = []

    async def work(item: int) -> None:
        ran.append(item)
        await gate.wait()

    source = Source(work, at_a_time=1)
    source.add(0, 1, 2)
    async with asyncio.timeout(10):
        while not ran:
            await asyncio.sleep(0)
        source.pool.pause()
        assert source.pool.is_paused
        gate.set()
        await source.pool.drained()
    for _ in range(20):
        await asyncio.sleep(0)
    assert ran == [0]
    assert source.pool.take_waiting() == [1, 2]
    source.add(3)
    source.pool.resume()
    await source.done()
    assert ran == [0, 3]
    source.pool.close()


async def test_items_of_a_key_run_one_after_the_other() -> None:
    """In their order, whatever becomes of the run before; others run beside them."""
    ran: list[int] = []
    gates = [asyncio.Event() for _ in range(4)]

    async def work(item: int) -> None:
        ran.append(item)
        await gates[item].wait()
        if item == 0:
            raise ValueError("a defect")

    pool: WorkerPool[int] = WorkerPool(10, work)
    for item, key in enumerate(("a", "a", "a", "b")):
        pool.submit(item, key)
    async with asyncio.timeout(10):
        for seen in ([0, 3], [0, 3, 1], [0, 3, 1, 2]):
            while ran != seen:
                await asyncio.sleep(0)
            assert pool.longest_line() == (("a", 4 - len(seen)) if len(seen) < 4 else (None, 0))
            gates[seen[-1] if len(seen) > 2 else 0].set()
        gates[3].set()
        await pool.drained()
    pool.close()


async def test_work_beside_the_runs_is_in_flight() -> None:
    """It is waited for by `finished`, not by `drained`, and takes nobody's place."""
    gate = asyncio.Event()
    pool: WorkerPool[int] = WorkerPool(1, lambda _: asyncio.sleep(0))

    async def put_back() -> None:
        await gate.wait()

    pool.run_beside(7, put_back())
    assert [item for _, item in pool.in_flight()] == [7]
    assert not pool.current
    pool.submit(1, None)
    async with asyncio.timeout(10):
        while pool.waiting() or pool.current:
            await asyncio.sleep(0)
        await pool.drained()
        finished = asyncio.create_task(pool.finished())
        await asyncio.sleep(0)
        assert not finished.done()
        gate.set()
        await finished
    assert pool.in_flight() == []
    pool.close()


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["ends", "raises", "sets", "cancelled"])),
        max_size=40,
    ),
    st.integers(1, 6),
)
def test_each_item_is_run_once_in_the_order_of_their_beginnings(
    plan: list[tuple[int, str]], at_a_time: int
) -> None:
    """However long the runs wait, and however they end, each item begins once, in order."""

    async def main() -> None:
        begun: list[int] = []

        async def work(item: int) -> None:
            begun.append(item)
            assert variable.get("unset") == "unset"
            turns, end = plan[item]
            for _ in range(turns):
                await asyncio.sleep(0)
            if end == "sets":
                variable.set("set")
            elif end == "raises":
                raise ValueError(item)
            elif end == "cancelled":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()

        logging.getLogger("mqkit.consuming.workers").disabled = True
        try:
            source = Source(work, at_a_time)
            for item in range(len(plan)):
                source.add(item)
                if item % 7 == 6:
                    await asyncio.sleep(0)
            await source.done()
        finally:
            logging.getLogger("mqkit.consuming.workers").disabled = False
        assert begun == list(range(len(plan)))
        assert source.most <= at_a_time
        assert source.running == 0
        source.pool.close()

    asyncio.run(main())


KEYS = st.lists(st.one_of(st.none(), st.integers(0, 4)), max_size=20)


@given(KEYS, st.integers(1, 6), st.data())
def test_each_key_takes_its_turns_in_order_and_one_at_a_time(
    keys: list[int | None], at_a_time: int, data: st.DataObject
) -> None:
    """Whatever ends when: all run, no more than may, never two of a key, none before its turn."""
    queue: WorkQueue[int] = WorkQueue(at_a_time)
    running: list[tuple[int, Any]] = []
    ran: dict[Any, list[int]] = defaultdict(list)
    coming = list(enumerate(keys))
    key: Hashable
    while coming or running or len(queue):
        draws: Any = data.draw(st.booleans())
        comes = bool(coming) and (draws or not (running or len(queue)))
        if comes:
            item, key = coming.pop(0)
            queue.add(item, key)
        while (turn := queue.next()) is not None:
            started, turn_key = turn
            assert turn_key is None or turn_key not in [other for _, other in running]
            running.append((started, turn_key))
            ran[turn_key].append(started)
        assert len(running) <= at_a_time
        ends: Any = data.draw(st.booleans())
        if running and (ends or not comes):  # each turn of this loop does something
            _, ended = running.pop(data.draw(st.integers(0, len(running) - 1)))
            queue.done(ended)
    assert sorted(item for items in ran.values() for item in items) == list(range(len(keys)))
    assert all(items == sorted(items) for items in ran.values())


@given(KEYS, st.integers(1, 6))
def test_what_waits_can_be_taken_out(keys: list[int | None], at_a_time: int) -> None:
    """All that does not run is given, each key's in order; what comes then waits for who runs."""
    queue: WorkQueue[int] = WorkQueue(at_a_time)
    key: Hashable
    for item, key in enumerate(keys):
        queue.add(item, key)
    running = list(iter(queue.next, None))
    waiting = queue.take_waiting()
    assert sorted([item for item, _ in running] + waiting) == list(range(len(keys)))
    for wanted in set(keys):
        of_key = [item for item in waiting if keys[item] == wanted]
        assert of_key == sorted(of_key)
    assert len(queue) == 0
    for _, ran_key in running:
        if ran_key is not None:
            queue.add(-1, ran_key)
    assert queue.next() is None or at_a_time > len(running)
    for _, ran_key in running:
        queue.done(ran_key)
    again = [key for _, key in iter(queue.next, None)]
    assert sorted(again, key=str) == sorted((k for _, k in running if k is not None), key=str)


def changed_by(change: Callable[[], object]) -> bool:
    """Whether the change is seen, in a context of its own."""

    def run() -> bool:
        surroundings = _TaskContext()
        assert surroundings.are_unchanged()
        change()
        return not surroundings.are_unchanged()

    return contextvars.copy_context().run(run)


def _set_and_reset() -> None:
    variable.reset(variable.set("for a while"))


def _calculate() -> None:
    with decimal.localcontext() as context:
        context.prec = 3
        assert Decimal(1) / 3 == Decimal("0.333")
    assert Decimal(2) / 3


@pytest.mark.parametrize(
    "change",
    [
        lambda: variable.set("set"),
        lambda: setattr(decimal.getcontext(), "prec", 5),
        lambda: setattr(decimal.getcontext(), "rounding", decimal.ROUND_UP),
        lambda: setattr(decimal.getcontext(), "Emax", 999),
        lambda: setattr(decimal.getcontext(), "clamp", 1),
        lambda: decimal.getcontext().traps.__setitem__(decimal.Inexact, True),
        lambda: decimal.setcontext(decimal.Context(prec=5)),
    ],
    ids=["variable", "precision", "rounding", "Emax", "clamp", "trap", "context"],
)
def test_a_change_is_seen(change: Callable[[], object]) -> None:
    """A variable that is set, and each setting of decimal arithmetic, is a change."""
    assert changed_by(change)


@pytest.mark.parametrize(
    "harmless",
    [_set_and_reset, _calculate, lambda: decimal.getcontext().copy().clear_traps()],
    ids=["reset", "calculation", "copy"],
)
def test_what_is_put_back_is_no_change(harmless: Callable[[], object]) -> None:
    """A variable that was set and reset, and arithmetic in a context of its own, change nothing."""
    if harmless is _set_and_reset:
        variable.set("before")
    assert not changed_by(harmless)


def test_the_decimal_context_of_others_is_left_alone() -> None:
    """It has the settings that were found, and to change it changes nobody else's."""
    outer = decimal.getcontext()
    outer.prec = 17

    def run() -> None:
        _TaskContext()
        assert decimal.getcontext().prec == 17
        decimal.getcontext().prec = 5

    contextvars.copy_context().run(run)
    assert outer.prec == 17
    outer.prec = 28
