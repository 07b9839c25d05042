"""What became of each message: noted at once, written soon after."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from mqkit.errors import StoreUnavailableError
from mqkit.outcome import Ack, DeadLetter, DeathReason, Outcome, Requeue, RetryAfter
from mqkit.store import MessageStatus, State, Store, Transaction
from mqkit.store.database.pool import Database
from mqkit.store.schema import states
from mqkit.store.states import MAX_NOTES, StateRecorder
from tests.unit.store.support import NOW, Jumping, delivery, opened, publish


@pytest.mark.parametrize(
    ("outcome", "state", "details"),
    [
        (Ack({"n": 1}), State.SUCCEEDED, {"result": {"n": 1}}),
        (Ack(None), State.SUCCEEDED, {}),
        (
            RetryAfter(30, ValueError("bad")),
            State.RETRYING,
            {
                "retry_at": NOW + timedelta(seconds=30),
                "error_type": "ValueError",
                "error": "bad",
            },
        ),
        (
            DeadLetter(DeathReason.UNDECODABLE, ValueError("x" * 2000)),
            State.DEAD,
            {"error_type": "ValueError", "error": "x" * 1000},
        ),
        (Requeue(), State.RECEIVED, {}),
    ],
)
async def test_a_state_tells_what_became_of_the_message(
    database: str, outcome: Outcome, state: State, details: dict[str, Any]
) -> None:
    """The latest one of each handler, with the error, the next time or the result."""
    async with Store(database, relay=False, clock=Jumping()) as store:
        store.received("h", delivery("m", attempt=2))
        assert (await store.status("m"))[0].state is State.RECEIVED
        store.started("h", delivery("m", attempt=2))
        assert (await store.status("m"))[0].state is State.PROCESSING
        store.settled("h", delivery("m", attempt=2), outcome)
        assert await store.status("m") == [
            MessageStatus(
                message_id="m",
                state=state,
                handler="h",
                queue="q",
                attempt=2,
                updated_at=NOW,
                **details,
            )
        ]


async def test_a_success_in_the_inbox_needs_no_row_of_states(database: str) -> None:
    """Its result is told from there, also where an earlier state was written before."""

    async def run(_: Transaction) -> dict[str, int]:
        return {"total": 3}

    async with Store(database, relay=False, clock=Jumping()) as store:
        for message_id in ("quick", "slow"):
            store.received("h", delivery(message_id))
            if message_id == "slow":
                await store._open().recorder.flush()
            result = await store.run_once("h", delivery(message_id), run)
            store.settled("h", delivery(message_id), Ack(result))
        for message_id in ("quick", "slow"):
            (status,) = await store.status(message_id)
            assert (status.state, status.result) == (State.SUCCEEDED, {"total": 3})
        async with store._open().database.reading() as connection:
            rows = await connection.execute(select(func.count()).select_from(states))
            assert rows.scalar_one() == 1


async def test_a_message_may_be_with_several_handlers_and_in_the_outbox(database: str) -> None:
    """What waits to be published comes first, then handlers in the order of their news."""
    clock = Jumping()
    async with Store(database, relay=False, clock=clock) as store:
        await publish(store, "m")
        for handler in ("b", "a"):
            clock.jump(seconds=1)
            store.received(handler, delivery("m"))
        found = [(s.state, s.handler) for s in await store.status("m")]
        assert found == [(State.OUTGOING, None), (State.RECEIVED, "b"), (State.RECEIVED, "a")]
        assert await store.status("unknown") == []


async def test_a_text_that_the_database_refuses_loses_no_other_state(database: str) -> None:
    """NUL and halves of characters in an error are written in another way; an id is left out."""
    async with Store(database, relay=False) as store:
        error = ValueError("a\0b\ud800")
        store.settled("h", delivery("odd"), DeadLetter(DeathReason.UNDECODABLE, error))
        store.received("h", delivery("id\0\ud800"))
        store.received("h", delivery("fine"))
        (odd,) = await store.status("odd")
        assert odd.error == "a\\0b\\ud800"
        assert [s.state for s in await store.status("fine")] == [State.RECEIVED]
        store.received("h", delivery("later"))
        assert [s.state for s in await store.status("later")] == [State.RECEIVED]


async def test_states_are_written_by_themselves(database: str) -> None:
    """Another store sees them after a moment, and at the latest when this one is closed."""
    async with Store(database, relay=False) as other:
        async with Store(database, relay=False) as store:
            store.received("h", delivery("m"))
            async with asyncio.timeout(10):
                while not await other.status("m"):
                    await asyncio.sleep(0.05)
            store.received("h", delivery("last"))
        assert [s.state for s in await other.status("last")] == [State.RECEIVED]


async def rows_of(db: Database) -> list[tuple[str, str]]:
    """Ids and states that are written."""
    async with db.reading() as connection:
        rows = await connection.execute(select(states.c.message_id, states.c.state))
        return sorted((row.message_id, row.state) for row in rows)


async def test_what_is_done_at_once_is_not_written(sqlite_database: str) -> None:
    """Only a message that is on its way for longer is, by the first of its notes."""
    async with opened(sqlite_database) as db:
        recorder = StateRecorder(db, Jumping(), keep=timedelta(days=1))
        recorder.begun("h", delivery("quick"), State.RECEIVED)
        recorder.begun("h", delivery("slow"), State.RECEIVED)
        assert await recorder.flush_old()
        assert await rows_of(db) == []
        recorder.settled_together("h", [(delivery("quick"), Ack(None))], in_inbox=True)
        recorder.begun("h", delivery("slow"), State.PROCESSING)
        recorder.begun("h", delivery("new"), State.RECEIVED)
        assert await recorder.flush_old()
        assert await rows_of(db) == [("slow", "processing")]
        recorder.begun("h", delivery("slow"), State.RECEIVED)
        assert await recorder.flush_old()
        assert await rows_of(db) == [("new", "received"), ("slow", "processing")]


async def test_who_asks_for_a_message_waits_for_no_other_s_notes(sqlite_database: str) -> None:
    """What was noted of the one that is asked for is written, however new it is."""
    async with Store(sqlite_database, relay=False, clock=Jumping()) as store:
        store.received("h", delivery("asked for"))
        store.received("h", delivery("another"))
        assert [s.state for s in await store.status("asked for")] == [State.RECEIVED]
        assert await rows_of(store._open().database) == [("asked for", "received")]


async def test_while_the_database_is_away_notes_are_kept(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are written when it is back, the newest of each message; it is said how many wait."""
    async with opened(database) as db:
        recorder = StateRecorder(db, Jumping(), keep=timedelta(days=1))
        recorder.begun("h", delivery("m"), State.RECEIVED)
        write = recorder._write

        async def away(batch: Any) -> None:
            recorder.begun("h", delivery("m"), State.PROCESSING)  # meanwhile
            raise StoreUnavailableError("away")

        monkeypatch.setattr(recorder, "_write", away)
        assert not await recorder.flush()
        assert (
            "store: states of messages are not written since 12:00:00: 1 wait, 0 are dropped: away"
            in caplog.text
        )
        monkeypatch.setattr(recorder, "_write", write)
        assert await recorder.flush()
        async with db.reading() as connection:
            rows = await connection.execute(select(states.c.state))
            assert list(rows.scalars()) == ["processing"]
        assert not recorder._notes


async def test_a_write_that_is_cancelled_loses_no_note(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the end of a service: the last flush writes what the one before it held."""
    async with opened(database) as db:
        recorder = StateRecorder(db, Jumping(), keep=timedelta(days=1))
        recorder.begun("h", delivery("m"), State.RECEIVED)
        writing = asyncio.Event()

        async def hang(batch: Any) -> None:
            writing.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as patch:
            patch.setattr(recorder, "_write", hang)
            flushing = asyncio.create_task(recorder.flush())
            await writing.wait()
            flushing.cancel()
            await asyncio.wait([flushing])
        assert await recorder.flush()
        async with db.reading() as connection:
            rows = await connection.execute(select(states.c.message_id))
            assert list(rows.scalars()) == ["m"]


async def test_notes_do_not_grow_without_bound(sqlite_database: str) -> None:
    """While the database is away for long, the oldest are dropped."""
    async with opened(sqlite_database) as db:
        recorder = StateRecorder(db, Jumping(), keep=timedelta(days=1))
        for i in range(MAX_NOTES + 5):
            recorder.begun("h", delivery(f"m{i}"), State.RECEIVED)
        assert len(recorder._notes) == MAX_NOTES
        assert recorder._dropped == 5
        assert ("h", "q", "m4") not in recorder._notes


async def test_a_message_without_id_has_no_state(sqlite_database: str) -> None:
    """Nobody could ask for it."""
    async with opened(sqlite_database) as db:
        recorder = StateRecorder(db, Jumping(), keep=timedelta(days=1))
        recorder.begun("h", delivery(""), State.RECEIVED)
        assert not recorder._notes
