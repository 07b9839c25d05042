"""The inbox: one effect for each handler and message."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text

from mqkit.clock import utc_now
from mqkit.errors import MessageIdError, MessageIdReusedError
from mqkit.outcome import DeadLetter, DeathReason, Requeue
from mqkit.store import State, Store, Transaction
from mqkit.store.inbox import claim, purge, result_text
from mqkit.store.schema import inbox
from mqkit.store.store import CLOCK_MARGIN
from tests.unit.store.support import (
    NOW,
    Jumping,
    delivery,
    grow_old,
    make_work,
    opened,
    work_of,
)


async def test_a_message_is_handled_once_by_each_handler(database: str) -> None:
    """The second run gets the first one's result; another handler and another id run."""
    runs: list[str] = []

    async def run(name: str) -> str:
        runs.append(name)
        return name

    async with Store(database, relay=False) as store:
        first = await store.run_once("h", delivery("m"), lambda _: run("first"))
        again = await store.run_once("h", delivery("m", attempt=2), lambda _: run("again"))
        assert (first, again) == ("first", "first")
        assert await store.run_once("other", delivery("m"), lambda _: run("other")) == "other"
        assert await store.run_once("h", delivery("n"), lambda _: run("n")) == "n"
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
            await store.run_once("h", delivery("m"), fail)
        assert await store.pending() == 0
        assert await store.run_once("h", delivery("m"), succeed) == "done"
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
        one = asyncio.create_task(here.run_once("h", delivery("m"), first))
        await began.wait()
        two = asyncio.create_task(there.run_once("h", delivery("m"), second))
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
        await asyncio.gather(
            *((a, b, c)[i % 3].run_once("h", delivery("m"), run) for i in range(20))
        )
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
        assert await store.run_once("h", delivery("m"), run) is result
        assert await store.run_once("h", delivery("m"), run) == kept


def test_a_result_that_holds_itself_is_named_by_its_type() -> None:
    """It could not be written out."""
    result: list[Any] = []
    result.append(result)
    assert result_text(result) == '"<list>"'


@pytest.mark.parametrize("jump", [-1, 1])
async def test_a_row_outlives_its_window_under_clocks_that_jump_an_hour(
    sqlite_database: str, jump: int
) -> None:
    """No purge within the window deletes it, and one after window and margin does."""
    clock = Jumping()
    runs: list[str] = []

    async def run(_: Transaction) -> None:
        runs.append("run")

    async with Store(
        sqlite_database, relay=False, longest_retry=60, replay_age=60, clock=clock
    ) as store:
        await store.run_once("h", delivery("m"), run)
        clock.jump(hours=jump)
        clock.jump(seconds=store.window)
        assert await store._purge() == 0
        await store.run_once("h", delivery("m"), run)
        assert runs == ["run"]
        clock.jump(hours=-jump, seconds=CLOCK_MARGIN + 1)
        assert await store._purge() == 1
        await store.run_once("h", delivery("m"), run)
        assert runs == ["run", "run"]


@pytest.mark.parametrize("days", [-400, -38, 38, 400])
@pytest.mark.parametrize("who", ["handles", "purges"])
async def test_a_host_with_a_wrong_clock_empties_no_inbox(
    postgres_database: str, who: str, days: int
) -> None:
    """Its rows are kept as long as others', and its purges take none of theirs."""
    wrong = {"clock": Jumping(utc_now() + timedelta(days=days)), "relay": False}
    right = {"relay": False}
    runs: list[str] = []

    async def run(_: Transaction) -> None:
        runs.append("run")

    async with (
        Store(postgres_database, **(wrong if who == "handles" else right)) as handles,
        Store(postgres_database, **(wrong if who == "purges" else right)) as purges,
    ):
        await handles.run_once("h", delivery("m"), run)
        handles.settled("h", delivery("n"), Requeue())
        assert await handles.status("n") != []
        assert await purges._purge() == 0
        await handles.run_once("h", delivery("m"), run)
        assert runs == ["run"]
        assert await handles.status("n") != []
        (status,) = await handles.status("m")
        assert abs(status.updated_at - utc_now()) < timedelta(minutes=5)
        await grow_old(handles, handles.window + CLOCK_MARGIN - 60)
        assert await purges._purge() == 0
        await grow_old(handles, 121)
        assert await purges._purge() == 2


async def test_a_purge_deletes_a_batch_of_what_is_old_and_nothing_else(database: str) -> None:
    """At most `purge_batch` rows of a table in one transaction, the new ones never."""
    old, now = NOW, NOW + timedelta(days=1)
    async with opened(database) as db:
        batch = db.dialect.purge_batch
        async with db.transaction() as connection:
            for i in range(0, batch + 10, 1000):
                rows = [
                    {"handler": "h", "message_id": f"m{j}", "queue": "q", "attempt": 1}
                    | {"handled_at": old, "keep_until": old}
                    for j in range(i, min(i + 1000, batch + 10))
                ]
                await connection.execute(inbox.insert(), rows)
            new = claim(
                connection, db.dialect, "h", delivery("new"), now=now, keep=timedelta(seconds=1)
            )
            assert await new is None
        counts = []
        for _ in range(3):
            async with db.transaction() as connection:
                counts.append(await purge(connection, db.dialect, now))
        assert counts == [batch, 10, 0]
        async with db.reading() as connection:
            left = await connection.execute(select(func.count()).select_from(inbox))
            assert left.scalar_one() == 1


async def test_a_row_is_kept_as_long_as_the_one_who_handled_it_says(database: str) -> None:
    """Whoever purges: a relay of its own knows nothing of the window of each service."""

    async def run(_: Transaction) -> str:
        return "run"

    async with (
        Store(database, relay=False, replay_age=90 * 86_400) as long,
        Store(database, relay=False, longest_retry=60, replay_age=60) as short,
    ):
        await long.run_once("h", delivery("long"), run)
        await short.run_once("h", delivery("short"), run)
        await grow_old(short, 80 * 86_400)
        assert await short._purge() == 1
        assert await short.status("short") == []
        assert await short.status("long") != []


async def test_purges_side_by_side_do_not_wait_for_each_other(postgres_database: str) -> None:
    """The one that comes second deletes nothing, so that relays never hold each other up."""
    async with Store(postgres_database, relay=False) as store:

        async def run(_: Transaction) -> None: ...

        await store.run_once("h", delivery("m"), run)
        await grow_old(store, 100 * 86_400)
        database = store._open().database
        async with database.transaction() as connection:
            assert await purge(connection, database.dialect, NOW) == 1
            async with asyncio.timeout(5):
                assert await store._purge() == 0


async def test_handlers_of_one_name_on_two_queues_each_have_their_effect(database: str) -> None:
    """Two services of one code base: neither's row hides a message from the other."""

    async def run(name: str) -> str:
        return name

    async with Store(database, relay=False) as eu, Store(database, relay=False) as us:
        for _ in range(2):
            assert await eu.run_once("h", delivery("m", queue="eu"), lambda _: run("eu")) == "eu"
            assert await us.run_once("h", delivery("m", queue="us"), lambda _: run("us")) == "us"
        assert [(s.queue, s.result) for s in await eu.status("m")] == [("eu", "eu"), ("us", "us")]


async def test_states_of_handlers_of_one_name_are_told_apart(database: str) -> None:
    """By their queues, also where one of them succeeded."""

    async def run(_: Transaction) -> None: ...

    async with Store(database, relay=False) as store:
        for queue in ("eu", "us", "ap"):
            store.received("h", delivery("m", queue=queue))
        await store.status("m")
        await store.run_once("h", delivery("m", queue="ap"), run)
        found = {s.queue: s.state for s in await store.status("m")}
        assert found == {"eu": State.RECEIVED, "us": State.RECEIVED, "ap": State.SUCCEEDED}


async def test_another_body_of_a_known_id_is_refused(database: str) -> None:
    """Neither is it run, nor is its sender told what came of the first one; a copy still is."""
    runs: list[bytes] = []

    async def once(body: bytes) -> Any:
        async def run(_: Transaction) -> str:
            runs.append(body)
            return body.decode()

        given = replace(delivery("m"), body=body)
        return await store.run_once("h", given, run)

    async with Store(database, relay=False) as store:
        assert await once(b"5") == "5"
        for other in (b"700", b"", b"5 "):
            with pytest.raises(MessageIdReusedError, match=r"h handled .* 'm' before"):
                await once(other)
        assert await once(b"5") == "5"
    assert runs == [b"5"]


async def test_another_body_that_comes_at_the_same_time_is_refused_after_the_first_one_s_commit(
    database: str,
) -> None:
    """It waits for that, and runs itself where the first one failed."""
    began, end = asyncio.Event(), asyncio.Event()

    async def first(_: Transaction) -> None:
        began.set()
        await end.wait()

    async def second(_: Transaction) -> None:
        raise AssertionError

    async with Store(database, relay=False) as here, Store(database, relay=False) as there:
        one = asyncio.create_task(here.run_once("h", replace(delivery("m"), body=b"1"), first))
        await began.wait()
        two = asyncio.create_task(there.run_once("h", replace(delivery("m"), body=b"2"), second))
        end.set()
        await one
        with pytest.raises(MessageIdReusedError):
            await two


@pytest.mark.parametrize("message_id", ["a\0b", "\0", "a\ud800", "\udcff", "x" * 256, ""])
async def test_an_id_that_no_database_keeps_is_refused_at_once(
    database: str, message_id: str
) -> None:
    """With the reason, and without a run; what the state says of it is found again."""

    async def run(_: Transaction) -> None:
        raise AssertionError

    async with Store(database, relay=False) as store:
        with pytest.raises(MessageIdError, match=r"message_id.*its publisher must give it another"):
            await store.run_once("h", delivery(message_id), run)
        store.settled("h", delivery(message_id), DeadLetter(DeathReason.UNIDENTIFIED, OSError()))
        if 0 < len(message_id) < 256:
            (status,) = await store.status(message_id)
            assert status.state is State.DEAD


async def test_an_attempt_that_no_column_holds_prevents_no_effect(database: str) -> None:
    """A header may say any number."""

    async def run(_: Transaction) -> str:
        return "run"

    async with Store(database, relay=False) as store:
        assert await store.run_once("h", delivery("m", attempt=2**62), run) == "run"
        store.received("other", delivery("m", attempt=2**62))
        assert [s.attempt for s in await store.status("m")] == [2**31 - 1] * 2


async def test_a_row_of_the_inbox_takes_no_more_than_it_must(
    postgres_database: str,
) -> None:
    """Its indexes take no more than half of what its rows do."""
    async with Store(postgres_database, relay=False) as store:
        async with store.transaction() as transaction:
            await transaction.execute(
                text(
                    "INSERT INTO mqkit_inbox "
                    "(message_id, handler, queue, attempt, handled_at, keep_until, body_hash) "
                    "SELECT gen_random_uuid(), 'shop.ledger.post', 'ledger.post', 1, now(), "
                    "date_trunc('minute', now()), n FROM generate_series(1, 20000) n"
                )
            )
            found = await transaction.execute(
                text(
                    "SELECT pg_indexes_size('mqkit_inbox'), pg_table_size('mqkit_inbox'), "
                    "(SELECT count(*) FROM mqkit_inbox)"
                )
            )
            indexes, table, rows = tuple(found.one())
        assert indexes < table / 2
        assert (indexes + table) / rows < 190
