"""The inbox: one effect for each handler and message."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text

from mqkit.store import Store, Transaction
from mqkit.store.inbox import PURGE_BATCH, claim, purge, result_text
from mqkit.store.schema import inbox
from mqkit.store.store import CLOCK_MARGIN
from tests.unit.store.support import NOW, Jumping, delivery, make_work, opened, work_of


async def test_a_message_is_handled_once_by_each_handler(database: str) -> None:
    """The second run gets the first one's result; another handler and another id run."""
    runs: list[str] = []

    async def run(name: str) -> str:
        runs.append(name)
        return name

    async with Store(database, relay=False) as store:
        first = await store.once("h", delivery("m"), lambda _: run("first"))
        again = await store.once("h", delivery("m", attempt=2), lambda _: run("again"))
        assert (first, again) == ("first", "first")
        assert await store.once("other", delivery("m"), lambda _: run("other")) == "other"
        assert await store.once("h", delivery("n"), lambda _: run("n")) == "n"
    assert runs == ["first", "other", "n"]


async def test_a_failed_run_leaves_nothing_and_may_run_again(database: str) -> None:
    """Its work is rolled back together with its inbox row."""

    async def fail(transaction: Transaction) -> None:
        await transaction.execute(text("INSERT INTO work VALUES ('failed')"))
        await transaction.publish("e", "k", b"")
        raise LookupError

    async def succeed(transaction: Transaction) -> str:
        await transaction.execute(text("INSERT INTO work VALUES ('done')"))
        return "done"

    async with Store(database, relay=False) as store:
        await make_work(store)
        with pytest.raises(LookupError):
            await store.once("h", delivery("m"), fail)
        assert await store.pending() == 0
        assert await store.once("h", delivery("m"), succeed) == "done"
        assert await work_of(store) == ["done"]


@pytest.mark.parametrize("first_fails", [False, True])
async def test_a_second_run_waits_for_the_first_one_s_end(
    database: str, *, first_fails: bool
) -> None:
    """It then runs nothing, or runs itself where the first was rolled back: in another process
    as here in another store.
    """  # noqa: D205 - one sentence
    began, end = asyncio.Event(), asyncio.Event()
    runs: list[str] = []

    async def first(_: Transaction) -> str:
        runs.append("first")
        began.set()
        await end.wait()
        if first_fails:
            raise LookupError
        return "first"

    async def second(_: Transaction) -> str:
        runs.append("second")
        return "second"

    async with Store(database, relay=False) as here, Store(database, relay=False) as there:
        one = asyncio.create_task(here.once("h", delivery("m"), first))
        await began.wait()
        two = asyncio.create_task(there.once("h", delivery("m"), second))
        done, _ = await asyncio.wait([two], timeout=0.3)
        assert not done
        assert runs == ["first"]
        end.set()
        if first_fails:
            with pytest.raises(LookupError):
                await one
            assert await two == "second"
        else:
            assert await one == await two == "first"


async def test_of_many_runs_at_once_one_has_an_effect(database: str) -> None:
    """Twenty deliveries of one message over three stores insert one row."""

    async def run(transaction: Transaction) -> None:
        await transaction.execute(text("INSERT INTO work VALUES ('m')"))

    async with (
        Store(database, relay=False) as a,
        Store(database, relay=False) as b,
        Store(database, relay=False, pool=2) as c,
    ):
        await make_work(a)
        await asyncio.gather(*((a, b, c)[i % 3].once("h", delivery("m"), run) for i in range(20)))
        assert await work_of(a) == ["m"]


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        ({"total": 3}, {"total": 3}),
        ([1, None], [1, None]),
        (b"\xff", "_w=="),
        ("\ud800", "<str>"),
        (object(), "<object>"),
        ("a\0b", "a\0b"),
        (0, 0),
    ],
)
async def test_a_result_never_prevents_the_effect(database: str, result: Any, kept: Any) -> None:
    """What JSON cannot hold is kept by its type's name; the handler's own caller gets it as is."""

    async def run(_: Transaction) -> Any:
        return result

    async with Store(database, relay=False) as store:
        assert await store.once("h", delivery("m"), run) is result
        assert await store.once("h", delivery("m"), run) == kept


def test_a_result_that_holds_itself_is_named_by_its_type() -> None:
    """It could not be written out."""
    result: list[Any] = []
    result.append(result)
    assert result_text(result) == '"<list>"'


@pytest.mark.parametrize("jump", [-1, 1])
async def test_a_row_outlives_its_window_under_clocks_that_jump_an_hour(
    database: str, jump: int
) -> None:
    """No purge within the window deletes it, and one after window and margin does."""
    clock = Jumping()
    runs: list[str] = []

    async def run(_: Transaction) -> None:
        runs.append("run")

    async with Store(database, relay=False, longest_retry=60, replay_age=60, clock=clock) as store:
        await store.once("h", delivery("m"), run)
        clock.jump(hours=jump)
        clock.jump(seconds=store.window)
        assert await store._purge() == 0
        await store.once("h", delivery("m"), run)
        assert runs == ["run"]
        clock.jump(hours=-jump, seconds=CLOCK_MARGIN + 1)
        assert await store._purge() == 1
        await store.once("h", delivery("m"), run)
        assert runs == ["run", "run"]


async def test_a_purge_deletes_a_batch_of_what_is_old_and_nothing_else(database: str) -> None:
    """At most PURGE_BATCH rows of a table in one transaction, the new ones never."""
    old, now = NOW, NOW + timedelta(days=1)
    async with opened(database) as db:
        async with db.transaction() as connection:
            for i in range(0, PURGE_BATCH + 10, 1000):
                rows = [
                    {"handler": "h", "message_id": f"m{j}", "queue": "q", "attempt": 1}
                    | {"handled_at": old, "keep_until": old}
                    for j in range(i, min(i + 1000, PURGE_BATCH + 10))
                ]
                await connection.execute(inbox.insert(), rows)
            new = claim(
                connection, db.flavour, "h", delivery("new"), now=now, keep=timedelta(seconds=1)
            )
            assert await new is None
        counts = []
        for _ in range(3):
            async with db.transaction() as connection:
                counts.append(await purge(connection, db.flavour, now))
        assert counts == [PURGE_BATCH, 10, 0]
        async with db.reading() as connection:
            left = await connection.execute(select(func.count()).select_from(inbox))
            assert left.scalar_one() == 1


async def test_a_row_is_kept_as_long_as_the_one_who_handled_it_says(database: str) -> None:
    """Whoever purges: a relay of its own knows nothing of the window of each service."""
    clock = Jumping()

    async def run(_: Transaction) -> str:
        return "run"

    async with (
        Store(database, relay=False, clock=clock, replay_age=90 * 86_400) as long,
        Store(database, relay=False, clock=clock, longest_retry=60, replay_age=60) as short,
    ):
        await long.once("h", delivery("long"), run)
        await short.once("h", delivery("short"), run)
        clock.jump(days=80)
        assert await short._purge() == 1
        assert await short.status("short") == []
        assert await short.status("long") != []


async def test_purges_side_by_side_do_not_wait_for_each_other(postgres_database: str) -> None:
    """The one that comes second deletes nothing, so that relays never hold each other up."""
    clock = Jumping()
    async with Store(postgres_database, relay=False, clock=clock) as store:

        async def run(_: Transaction) -> None: ...

        await store.once("h", delivery("m"), run)
        clock.jump(days=100)
        database = store._open().database
        async with database.transaction() as connection:
            assert await purge(connection, database.flavour, clock.now) == 1
            async with asyncio.timeout(5):
                assert await store._purge() == 0
