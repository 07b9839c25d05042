"""The outbox: committed messages, in the order of their commits within a key."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest
from sqlalchemy import select, text, update

from mqkit.errors import StoreError, UnroutableError
from mqkit.message import Message, Properties
from mqkit.store import outbox
from mqkit.store.database.dialects import key_hash
from mqkit.store.database.pool import Database
from mqkit.store.outbox import MAX_RETRY_WAIT, Outbox, retry_wait
from mqkit.store.schema import outbox as table
from tests.unit.store.support import NOW, claimed, opened, refusal


def message(message_id: str) -> Message:
    """A message with that id."""
    return Message("e", "k", b"body", Properties(message_id=message_id))


async def write(database: Database, *ids: str, key: str | None = None) -> None:
    """Commit messages."""
    async with database.transaction() as connection:
        await outbox.write(
            connection, database.dialect, [(key, message(message_id)) for message_id in ids], NOW
        )


async def test_messages_of_one_transaction_keep_their_order(database: str) -> None:
    """Also where they are more than the parameters of one statement could hold."""
    ids = [f"m{i}" for i in range(7000)]
    async with opened(database) as db:
        await write(db, *ids, key="acc")
        assert await claimed(Outbox(db), NOW, limit=8000) == ids


async def test_an_early_transaction_that_commits_late_is_not_skipped(
    postgres_database: str,
) -> None:
    """Its messages have lower numbers than what was published meanwhile, and come all the same."""
    async with opened(postgres_database) as db:
        box = Outbox(db)
        async with db.transaction() as early:
            await outbox.write(early, db.dialect, [("a", message("early"))], NOW)
            await write(db, "late", key="b")
            async with box.claim(range(box.shards), 500, NOW) as claim:
                assert [entry.message_id for entry in claim.entries] == ["late"]
                await claim.mark(claim.entries)
        assert await claimed(box, NOW) == ["early"]


async def test_numbers_within_a_key_are_in_the_order_of_the_commits(
    postgres_database: str,
) -> None:
    """A second transaction gets none before the first with that key is committed."""
    async with opened(postgres_database) as db:
        async with db.transaction() as early:
            await outbox.write(early, db.dialect, [("a", message("first"))], NOW)
            late = asyncio.create_task(write(db, "second", key="a"))
            await write(db, "of another key", key="b")
            done, _ = await asyncio.wait([late], timeout=0.3)
            assert not done
        await late
        async with db.reading() as connection:
            rows = await connection.execute(
                select(table.c.message_id).where(table.c.order_key == "a").order_by(table.c.id)
            )
            assert list(rows.scalars()) == ["first", "second"]


async def test_the_empty_text_is_a_key_too(postgres_database: str) -> None:
    """It is locked as any other."""
    async with opened(postgres_database) as db:
        async with db.transaction() as early:
            await outbox.write(early, db.dialect, [("", message("first"))], NOW)
            late = asyncio.create_task(write(db, "second", key=""))
            done, _ = await asyncio.wait([late], timeout=0.3)
            assert not done
        await late


async def test_two_transactions_with_the_same_keys_do_not_deadlock(postgres_database: str) -> None:
    """Keys are locked in one order, whatever order they were published in."""
    async with opened(postgres_database) as db:

        async def write_both(i: int) -> None:
            keys = ["a", "b", "c", "d"]
            messages = [(key, message(f"{key}{i}")) for key in (keys if i % 2 else keys[::-1])]
            async with db.transaction() as connection:
                await outbox.write(connection, db.dialect, messages, NOW)

        await asyncio.gather(*(write_both(i) for i in range(40)))
        assert await Outbox(db).count() == 160


async def test_claims_side_by_side_share_no_message(postgres_database: str) -> None:
    """Five relays that ask for all shards at once get each message once between them."""
    ids = [f"m{i}" for i in range(300)]
    async with opened(postgres_database) as db:
        for i in range(0, 300, 50):
            await write(db, *ids[i : i + 50])
        box = Outbox(db)
        got: list[str] = []
        async with contextlib.AsyncExitStack() as stack:
            for start in range(5):
                shards = range(start * 13, min(start * 13 + 20, 64))  # they overlap
                claim = await stack.enter_async_context(box.claim(shards, 500, NOW))
                got += [entry.message_id for entry in claim.entries]
        assert sorted(got) == sorted(ids)


async def test_a_claim_ends_with_its_block_however_it_ends(database: str) -> None:
    """What was not marked is there for the next one."""
    async with opened(database) as db:
        await write(db, "m", key="a")
        box = Outbox(db)

        async def fail() -> None:
            async with box.claim(range(box.shards), 500, NOW) as claim:
                assert len(claim.entries) == 1
                raise LookupError

        with pytest.raises(LookupError):
            await fail()
        assert await claimed(box, NOW) == ["m"]


async def test_what_is_marked_is_gone(database: str) -> None:
    """And nothing else is."""
    async with opened(database) as db:
        await write(db, "a", "b", "c")
        box = Outbox(db)
        async with box.claim(range(box.shards), 500, NOW) as claim:
            by_id = {entry.message_id: entry for entry in claim.entries}
            await claim.mark([by_id["a"], by_id["c"]])
            await claim.mark([])
        assert await claimed(box, NOW) == ["b"]
        assert len(await box.waiting()) == 1


async def test_a_refused_message_holds_its_key_and_no_other(database: str) -> None:
    """What comes after it in its key waits with it; the rest goes on; then all go on in order."""
    async with opened(database) as db:
        await write(db, "a1", "a2", key="a")
        await write(db, "b1", key="b")
        await write(db, "free")
        box = Outbox(db)
        async with box.claim(range(box.shards), 500, NOW) as claim:
            (refused,) = (entry for entry in claim.entries if entry.message_id == "a1")
            await claim.hold([(refused, refusal(UnroutableError, "no queue: \0\ud800"))], NOW)
        assert sorted(await claimed(box, NOW)) == ["b1", "free"]
        later = NOW + timedelta(seconds=retry_wait(0))
        assert sorted(await claimed(box, later)) == ["a1", "a2", "b1", "free"]
        assert [i for i in await claimed(box, later) if i[0] == "a"] == ["a1", "a2"]


@pytest.mark.parametrize("jump", [-1, 1])
async def test_a_clock_that_jumps_an_hour_holds_nothing_for_longer(
    database: str, jump: int
) -> None:
    """A time further ahead than any wait was written by another clock, and is not waited for."""
    async with opened(database) as db:
        await write(db, "a1", "a2", key="a")
        box = Outbox(db)
        async with box.claim(range(box.shards), 500, NOW) as claim:
            await claim.hold([(claim.entries[0], refusal(UnroutableError))], NOW)
        assert await claimed(box, NOW + timedelta(hours=jump)) == ["a1", "a2"]


def test_waits_double_up_to_a_minute() -> None:
    """None is longer, however often a message was refused."""
    assert [retry_wait(n) for n in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert retry_wait(7) == retry_wait(10_000) == MAX_RETRY_WAIT


async def test_some_of_each_shard_are_claimed(postgres_database: str) -> None:
    """In order; a long queue of one key leaves room for the others'."""
    keys = ["a", "b", "c"]
    async with opened(postgres_database) as db:
        assert len({key_hash(key) % db.dialect.shards for key in keys}) == 3
        for key in keys:
            await write(db, *(f"{key}{i}" for i in range(5)), key=key)
        found = await claimed(Outbox(db), NOW, limit=2)
        assert found == ["a0", "a1", "b0", "b1", "c0", "c1"]


async def test_a_row_that_cannot_be_read_says_so(database: str) -> None:
    """It is an error of the one message, named by its row."""
    async with opened(database) as db:
        await write(db, "a")
        async with db.transaction() as connection:
            await connection.execute(update(table).values(properties='{"of_tomorrow": 1}'))
        box = Outbox(db)
        async with box.claim(range(box.shards), 500, NOW) as claim:
            (entry,) = claim.entries
            with pytest.raises(StoreError, match=f"row {entry.id} of the outbox is not readable"):
                entry.read()


async def test_a_claim_reads_nothing_older_than_its_locks(postgres_database: str) -> None:
    """Even where the database's own default would keep the snapshot of the first statement."""
    async with opened(postgres_database) as db, db.reading() as connection:
        isolation = await connection.execute(text("SHOW transaction_isolation"))
        assert isolation.scalar_one() == "read committed"


async def test_the_first_of_a_shard_are_found_by_their_own_index(postgres_database: str) -> None:
    """Also where all rows are in one shard: another's would else be sought in the whole table."""
    async with opened(postgres_database) as db:
        async with db.transaction() as connection:
            await connection.execute(
                text(
                    "INSERT INTO mqkit_outbox (shard, message_id, exchange, routing_key, mandatory,"
                    " properties, body, written_at, attempts) SELECT 7, 'm' || i, 'e', 'k', true,"
                    " '{}', '', now(), 0 FROM generate_series(1, 20000) AS i"
                )
            )
            await connection.execute(text("ANALYZE mqkit_outbox"))
        dialect, engine = db.dialect, db._engine
        assert engine is not None
        for statement in (
            dialect.of_shards(table, table.c.retry_at.is_(None)).params(
                shards=[1, 7, 9], limit=500
            ),
            dialect.filled_shards(table),
        ):
            compiled = statement.compile(engine.sync_engine, compile_kwargs={"literal_binds": True})
            async with db.reading() as connection:
                rows = await connection.execute(text(f"EXPLAIN {compiled}"))
                plan = "\n".join(rows.scalars())
            assert "mqkit_outbox_order" in plan
            assert "mqkit_outbox_pkey" not in plan
            assert "Seq Scan" not in plan


async def test_one_key_and_several_are_locked_alike(postgres_database: str) -> None:
    """The lock comes with the rows where there is one key, and before them where there are more."""
    async with opened(postgres_database) as db:
        async with db.transaction() as early:
            both = [("a", message("a1")), ("b", message("b1")), (None, message("free"))]
            await outbox.write(early, db.dialect, both, NOW)
            late = [asyncio.create_task(write(db, f"{key}2", key=key)) for key in "ab"]
            done, _ = await asyncio.wait(late, timeout=0.3)
            assert not done
        await asyncio.gather(*late)
        async with db.transaction() as early:
            await outbox.write(early, db.dialect, [("a", message("a3"))], NOW)
            several = asyncio.create_task(_write_both(db))
            done, _ = await asyncio.wait([several], timeout=0.3)
            assert not done
        await several
        found = await claimed(Outbox(db), NOW)
        assert [i for i in found if i[0] == "a"] == ["a1", "a2", "a3", "a4"]


async def _write_both(db: Database) -> None:
    async with db.transaction() as connection:
        both = [("b", message("b4")), ("a", message("a4"))]
        await outbox.write(connection, db.dialect, both, NOW)
