"""Messages of a handler that share a transaction: each has its effect once, whatever others do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from mqkit.errors import MessageIdReusedError, StatementError, StoreError, StoreUnavailableError
from mqkit.store import Store, Transaction
from mqkit.store.running.group_size import GroupSize
from mqkit.store.running.groups import Groups
from tests.support import eventually
from tests.unit.store.support import delivery, make_work, work_of


class Fixed(GroupSize):
    """Groups of up to so many, whatever comes of them."""

    def __init__(self, messages: int = 10, *, transactions: int = 1) -> None:
        super().__init__(at_once=transactions)
        self._sizes = messages, transactions

    @property
    def messages(self) -> int:
        return self._sizes[0]

    @property
    def transactions(self) -> int:
        return self._sizes[1]


class Deadlock(Exception):  # noqa: N818
    """What a driver says to a deadlock's victim."""

    sqlstate = "40P01"


class Work:
    """A handler that writes its message's id, publishes, and notes in which transaction it ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.connections: list[int] = []
        self.fails: dict[str, list[Callable[[Transaction], Awaitable[None]]]] = {}
        self.results: dict[str, Any] = {}

    def of(self, message_id: str) -> Callable[[Transaction], Awaitable[Any]]:
        """Return its run for one message."""

        async def run(transaction: Transaction) -> Any:
            self.ran.append(message_id)
            self.connections.append(id(transaction._connection))
            statement = text("INSERT INTO work VALUES (:id)")
            await transaction.execute(statement, {"id": message_id})
            await transaction.publish("e", "k", b"", key="key", message_id=f"{message_id}.done")
            if self.fails.get(message_id):
                await self.fails[message_id].pop(0)(transaction)
            return self.results.get(message_id)

        return run

    def fail_once(self, message_id: str, error: BaseException) -> None:
        """Let the run of a message raise, the first time."""

        async def fail(_: Transaction) -> None:
            raise error

        self.fails.setdefault(message_id, []).append(fail)

    def transactions(self) -> int:
        """Return how many there were, of those that follow each other."""
        before: int | None = None
        count = 0
        for each in self.connections:
            count += each != before
            before = each
        return count


@contextlib.asynccontextmanager
async def grouping(
    database: str, size: GroupSize | None = None
) -> AsyncIterator[tuple[Store, Groups, Work]]:
    """An open store with groups of one handler."""
    async with Store(database, relay=False) as store:
        await make_work(store)
        yield store, Groups(store._open(), "h", store._once, size or Fixed()), Work()


async def together(groups: Groups, work: Work, *ids: str) -> list[Any]:
    """Let messages come at the same time, and return the result or the error of each."""
    runs = (groups.run(delivery(each), work.of(each)) for each in ids)
    return await asyncio.gather(*runs, return_exceptions=True)


async def published(store: Store) -> list[str]:
    return [each.message_id.removesuffix(".done") for each in await store.unpublished()]


async def test_what_is_ready_at_the_same_time_shares_a_transaction(database: str) -> None:
    """In the order of their coming, and each gets its result."""
    async with grouping(database) as (store, groups, work):
        work.results = {"a": 1, "c": {"n": "é"}}
        assert await together(groups, work, "c", "a", "b") == [{"n": "é"}, 1, None]
        assert work.ran == ["c", "a", "b"]
        assert work.transactions() == 1
        assert await work_of(store) == ["a", "b", "c"]
        assert await published(store) == ["c", "a", "b"]
        statuses = await store.status("c")
        assert [each.result for each in statuses if each.handler == "h"] == [{"n": "é"}]


async def test_what_was_handled_before_is_not_run_again(database: str) -> None:
    """It gets its first result, and the others are run."""
    async with grouping(database) as (store, groups, work):
        work.results = {"a": 1, "b": 2}
        assert await together(groups, work, "a", "x") == [1, None]
        work.results = {"a": 3, "b": 2}
        assert await together(groups, work, "b", "a", "c") == [2, 1, None]
        assert work.ran == ["a", "x", "b", "c"]
        assert await work_of(store) == ["a", "b", "c", "x"]


async def test_one_id_twice_is_run_once(database: str) -> None:
    """The second one waits for the next group, and is found handled there."""
    async with grouping(database) as (store, groups, work):
        work.results = {"a": 1}
        assert await together(groups, work, "a", "b", "a", "a") == [1, None, 1, 1]
        assert work.ran == ["a", "b"]
        other = replace(delivery("a"), body=b"other")
        found = await asyncio.gather(
            groups.run(delivery("c"), work.of("c")),
            groups.run(other, work.of("a")),
            return_exceptions=True,
        )
        assert isinstance(found[1], MessageIdReusedError)
        assert await work_of(store) == ["a", "b", "c"]


@pytest.mark.parametrize("failing", ["a", "c", "e"])
async def test_a_failure_is_its_own_messages_alone(database: str, failing: str) -> None:
    """The others have their effect once, though they ran again; what failed left nothing."""
    async with grouping(database) as (store, groups, work):
        error = LookupError("no")
        work.fail_once(failing, error)
        ids = ["a", "b", "c", "d", "e"]
        found = await together(groups, work, *ids)
        assert found.pop(ids.index(failing)) is error
        assert found == [None] * 4
        others = [each for each in ids if each != failing]
        assert await work_of(store) == others
        assert await published(store) == others
        assert await together(groups, work, failing) == [None]
        assert await work_of(store) == ids


async def test_after_a_failure_another_one_runs_nobody_again(database: str) -> None:
    """Each message has a savepoint for a while: also one whose statement fails."""
    async with grouping(database) as (store, groups, work):
        work.fail_once("a", LookupError())
        await together(groups, work, "a", "b")
        work.ran.clear()
        work.fail_once("d", ValueError())

        async def again(transaction: Transaction) -> None:
            await transaction.execute(text("INSERT INTO work VALUES ('b')"))

        work.fails["e"] = [again]
        found = await together(groups, work, "c", "d", "e", "f")
        assert work.ran == ["c", "d", "e", "f"]
        assert [type(each) for each in found] == [
            type(None),
            ValueError,
            IntegrityError,
            type(None),
        ]
        assert await work_of(store) == ["b", "c", "f"]
        assert await published(store) == ["b", "c", "f"]


async def test_a_failure_before_any_statement_runs_nobody_again(database: str) -> None:
    """There is nothing to take back."""

    async def refuse(_: Transaction) -> None:
        raise LookupError

    async with grouping(database) as (store, groups, work):
        found = await asyncio.gather(
            groups.run(delivery("a"), work.of("a")),
            groups.run(delivery("b"), refuse),
            groups.run(delivery("c"), work.of("c")),
            return_exceptions=True,
        )
        assert [type(each) for each in found] == [type(None), LookupError, type(None)]
        assert work.ran == ["a", "c"]
        assert await together(groups, work, "b") == [None]
        assert await work_of(store) == ["a", "b", "c"]


async def test_a_deadlocks_victim_is_run_again_alone(database: str) -> None:
    """With the others of its group, and none of them fails for it."""
    async with grouping(database) as (store, groups, work):
        work.fail_once("b", OperationalError("UPDATE", {}, Deadlock("deadlock detected")))

        async def victim(transaction: Transaction) -> None:
            connection = transaction.connection.sync_connection
            assert connection is not None
            error = OperationalError("UPDATE", {}, Deadlock("deadlock detected"))
            watch = connection.get_execution_options()["mqkit_watch"]
            watch.saw(error)
            raise error

        work.fails["b"] = [victim]
        assert await together(groups, work, "a", "b", "c") == [None] * 3
        assert work.ran == ["a", "b", "a", "b", "c"]
        assert await work_of(store) == ["a", "b", "c"]
        assert await published(store) == ["a", "b", "c"]


async def test_a_statement_that_failed_and_was_caught_fails_its_message_alone(
    postgres_database: str,
) -> None:
    """Its transaction could not be committed, and the others' are."""

    async def swallow(transaction: Transaction) -> None:
        with contextlib.suppress(IntegrityError):
            await transaction.execute(text("INSERT INTO work VALUES ('a')"))

    async with grouping(postgres_database) as (store, groups, work):
        work.fails["b"] = [swallow]
        found = await together(groups, work, "a", "b", "c")
        assert isinstance(found[1], StoreError)
        assert "went on" in str(found[1])
        assert found[::2] == [None, None]
        assert await work_of(store) == ["a", "c"]


async def test_who_commits_by_hand_fails_alone(database: str) -> None:
    """Each of its group is run by itself then."""

    async def commit(transaction: Transaction) -> None:
        await transaction.connection.rollback()

    async with grouping(database) as (store, groups, work):
        work.fails["b"] = [commit, commit]
        found = await together(groups, work, "a", "b", "c")
        assert isinstance(found[1], StoreError)
        assert found[::2] == [None, None]
        assert await work_of(store) == ["a", "c"]


@pytest.mark.parametrize("when", ["before", "in", "after"])
async def test_a_cancelled_run_leaves_nothing_unless_it_was_over(database: str, when: str) -> None:
    """Before its turn, and in its turn; after it, it is committed with the others."""
    async with grouping(database) as (store, groups, work):
        tasks: dict[str, asyncio.Task[Any]] = {}
        cancelled_at = {"before": "a", "in": "b", "after": "c"}[when]

        async def cancel(_: Transaction) -> None:
            tasks["b"].cancel()
            await asyncio.sleep(0)

        work.fails[cancelled_at] = [cancel]
        for each in ("a", "b", "c"):
            tasks[each] = asyncio.create_task(groups.run(delivery(each), work.of(each)))
        await asyncio.wait(tasks.values())
        assert tasks["b"].cancelled()
        assert not tasks["a"].exception()
        assert not tasks["c"].exception()
        await asyncio.sleep(0)
        expected = ["a", "b", "c"] if when == "after" else ["a", "c"]
        assert await work_of(store) == expected
        assert await together(groups, work, "b") == [None]
        assert await work_of(store) == ["a", "b", "c"]


async def test_each_run_has_the_context_of_its_own_task(database: str) -> None:
    """It is its task that runs the handler, with its middleware around it."""
    tasks: list[asyncio.Task[Any] | None] = []

    async def run(_: Transaction) -> None:
        tasks.append(asyncio.current_task())

    async with grouping(database) as (_, groups, _work):
        mine = [asyncio.create_task(groups.run(delivery(each), run)) for each in "abc"]
        await asyncio.gather(*mine)
    assert tasks == mine


async def test_a_transaction_is_over_when_its_handler_returns(database: str) -> None:
    """A statement would be another message's, and a message would be lost."""
    kept: list[Transaction] = []

    async def keep(transaction: Transaction) -> None:
        kept.append(transaction)

    async with grouping(database) as (_, groups, _work):
        await asyncio.gather(*(groups.run(delivery(each), keep) for each in "ab"))
        for each in kept:
            with pytest.raises(StoreError, match="over"):
                await each.execute(text("SELECT 1"))
            with pytest.raises(StoreError, match="not published"):
                await each.publish("e", "k", b"")


async def test_a_slow_handler_has_a_transaction_for_each(postgres_database: str) -> None:
    """As many at a time as it has runs, and none waits for another one."""
    async with Store(postgres_database, relay=False) as store:
        running, most, started = 0, 0, asyncio.Event()

        async def run(_: Transaction) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if running == 4:
                started.set()
            async with asyncio.timeout(30):
                await started.wait()
            running -= 1

        async def one(number: int) -> None:
            await store.run_once("h", delivery(str(number)), run, at_once=4)

        await asyncio.gather(*(one(each) for each in range(4)))
        assert most == 4
        await asyncio.gather(*(one(each) for each in range(4, 40)))
        assert most == 4


async def test_who_is_held_up_after_a_deadlock_holds_up_nobody(postgres_database: str) -> None:
    """Transactions go on one at a time then; one that waits for its commit, say, lets others go on.

    Else no message of the handler would be handled for as long as another program has a lock.
    """
    size = GroupSize(at_once=4)
    async with grouping(postgres_database, size) as (store, groups, work):
        await together(groups, work, "before")
        size.conflicted()
        release = asyncio.Event()

        async def wait(_: Transaction) -> None:
            await release.wait()

        work.fails = {"held": [wait]}
        held = asyncio.create_task(together(groups, work, "held"))
        await eventually(lambda: "held" in work.ran, what="its run")
        async with asyncio.timeout(20):
            assert await together(groups, work, "other") == [None]
        assert not held.done()
        release.set()
        assert await held == [None]
        assert await work_of(store) == ["before", "held", "other"]


async def test_a_quick_handler_shares_commits_by_itself(database: str) -> None:
    """After its first runs; `max_group` is the most, and `under_way` says what is of use."""
    async with Store(database, relay=False, max_group=8) as store:
        await make_work(store)
        work = Work()
        assert store.under_way("h") == 0

        async def one(number: int) -> None:
            await store.run_once("h", delivery(f"{number:03}"), work.of(f"{number:03}"), at_once=4)

        for start in range(0, 200, 50):
            await asyncio.gather(*(one(each) for each in range(start, start + 50)))
        assert len(await work_of(store)) == 200
        assert store.under_way("h") > 4
        assert await store.pending() == 200


async def test_a_store_that_is_away_is_so_for_all_of_a_group(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And costs none of them an attempt."""
    async with grouping(database) as (store, groups, work):

        def away() -> Any:
            raise StoreUnavailableError("gone")

        opened = store._open()

        async def no() -> bool:
            return False

        with monkeypatch.context() as patched:
            patched.setattr(opened.database, "transaction", away)
            patched.setattr(opened.database, "answers", no)
            found = await together(groups, work, "a", "b", "c")
        assert [type(each) for each in found] == [StoreUnavailableError] * 3
        assert work.ran == []
        assert await together(groups, work, "a", "b", "c") == [None] * 3


async def test_a_statement_that_takes_too_long_fails_its_message_alone(
    postgres_database: str,
) -> None:
    """It counts for its policy, and its connection is not the others' end."""
    async with Store(postgres_database, relay=False, statement_timeout=0.5) as store:
        await make_work(store)
        groups, work = Groups(store._open(), "h", store._once, Fixed()), Work()

        async def sleep(transaction: Transaction) -> None:
            await transaction.execute(text("SELECT pg_sleep(5)"))

        work.fails["b"] = [sleep]
        found = await together(groups, work, "a", "b", "c")
        assert isinstance(found[1], StatementError)
        assert found[::2] == [None, None]
        assert await work_of(store) == ["a", "c"]


async def test_closing_tells_those_that_wait(database: str) -> None:
    """Nobody waits for ever for a group that does not come."""
    store = Store(database, relay=False)
    await store.open()
    hold = asyncio.Event()

    async def wait(_: Transaction) -> None:
        await hold.wait()

    groups = Groups(store._open(), "h", store._once, Fixed())
    waiting = asyncio.create_task(groups.run(delivery("a"), wait))
    other = asyncio.create_task(groups.run(delivery("b"), wait))
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(store.close())
    async with asyncio.timeout(30):
        with pytest.raises(StoreError):
            await other
        hold.set()
        with pytest.raises(StoreError):
            await waiting
        await closing


async def test_a_fault_of_ours_ends_its_group_alone(
    sqlite_database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told to each of them and logged, and the messages behind them are handled."""
    async with grouping(sqlite_database, Fixed(2)) as (store, groups, work):
        taken = groups._run

        async def fail_once(members: Any) -> None:
            monkeypatch.setattr(groups, "_run", taken)
            raise LookupError("ours")

        monkeypatch.setattr(groups, "_run", fail_once)
        found = await together(groups, work, "a", "b", "c")
        assert [type(each) for each in found] == [StoreError, StoreError, type(None)]
        assert await work_of(store) == ["c"]
    assert "error of mqkit's own" in caplog.text


async def test_nobody_waits_in_turn_for_what_one_waited_for_in_vain(
    sqlite_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that stays locked holds up a group for one timeout, and not for one a message."""
    tried: list[str | None] = []
    async with grouping(sqlite_database) as (_, groups, work):

        async def locked(*_: Any, **__: Any) -> None:
            raise StoreUnavailableError("locked")

        async def one(_: Any, __: str, alone: Any, ___: Any) -> None:
            tried.append(alone.message_id)
            raise StoreUnavailableError("locked")

        monkeypatch.setattr(groups._once, "group", locked)
        monkeypatch.setattr(groups._once, "one", one)
        monkeypatch.setattr("mqkit.store.running.groups.IN_VAIN", -1.0)
        found = await together(groups, work, "a", "b", "c")
    assert [type(each) for each in found] == [StoreUnavailableError] * 3
    assert tried == ["a"]
