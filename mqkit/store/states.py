"""Records the state of each message for people: noted at once, written soon after, together.

Nothing depends on these rows, so they cost no commit of their own: a message that is done within a
second leaves none behind where the inbox tells of it. Most are, so a note is made of what is at
hand, and all else is done when it is written.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice, takewhile
from operator import itemgetter
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from mqkit.errors import StoreError, StoreUnavailableError
from mqkit.logging.error_reports import describe, log_error
from mqkit.logging.error_texts import error_type, masked_text
from mqkit.logging.outages import OutageLog
from mqkit.logging.shown import shown
from mqkit.message import Delivery
from mqkit.outcome import Ack, DeadLetter, Outcome, RetryAfter
from mqkit.store.database.dialects import Dialect
from mqkit.store.database.pool import Database
from mqkit.store.inbox import HIGHEST_ATTEMPT, result_text
from mqkit.store.schema import MAX_ID, states
from mqkit.store.serialization import writable

logger = logging.getLogger(__name__)

FLUSH_AFTER = 1.0
"""Seconds from a message's note until it is written, at least; not twice as many, where the
database is there. It is written together with all others of that time.

With a quarter of them, messages of a queue that was behind were written while they waited for their
turn, which took the ledger 7 % of its time in a replay on PostgreSQL."""

FLUSH_AGAIN = 5.0
"""Seconds until the next write where the database was away."""

FLUSH_BATCH = 500
"""Rows of one statement."""

MAX_NOTES = 50_000
"""Notes that wait for a database which is away; the oldest are dropped, and counted in the log."""

MAX_ERROR_TEXT = 1_000


Key = tuple[str, str, str]
"""Handler, queue and message id."""


class State(StrEnum):
    """The states that a message may be in."""

    OUTGOING = "outgoing"
    """In the outbox: committed, and not confirmed by the broker yet."""
    RECEIVED = "received"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    RETRYING = "retrying"
    DEAD = "dead"


@dataclass(slots=True, eq=False)
class Note:
    """A state of a message that is to be written. It is not changed: another one takes its place.

    It is not frozen, since to make such a one takes three times as long.
    """

    turn: int
    """Counts the writes before the first note of this message that is not written."""
    state: State
    attempt: int
    updated_at: datetime
    retry_at: datetime | None = None
    error_type: str | None = None
    error: str | None = None
    result: str | None = None


class StateRecorder:
    """Notes states of messages, and writes them in the background."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime], *, keep: timedelta
    ) -> None:
        self._database = database
        self._keep = keep
        self._clock = clock
        self._notes: dict[Key, Note] = {}
        """The oldest first: one that replaces another one has its place, and its turn."""
        self._turn = 0
        self._due = asyncio.Event()
        self._writing = asyncio.Lock()
        self._dropped = 0
        self._outage = OutageLog(clock=clock)

    def begun(self, handler: str, delivery: Delivery, state: State) -> None:
        """Note that a message was received, or is being processed."""
        self._note(handler, delivery, Note(self._turn, state, delivery.attempt, self._clock()))

    def settled_together(
        self, handler: str, settled: Iterable[tuple[Delivery, Outcome]], *, in_inbox: bool
    ) -> None:
        """Note the outcomes of deliveries; `in_inbox` says that the inbox tells of a success."""
        notes = self._notes
        for delivery, outcome in settled:
            if in_inbox and isinstance(outcome, Ack):  # nearly all: nothing is left to be told
                notes.pop((handler, delivery.queue, delivery.properties.message_id or ""), None)
            else:
                self.settled(handler, delivery, outcome)

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:
        """Note the outcome of a delivery."""
        turn, now, attempt = self._turn, self._clock(), delivery.attempt
        match outcome:
            case Ack(result):
                text = None if result is None else result_text(result)
                note = Note(turn, State.SUCCEEDED, attempt, now, result=text)
            case RetryAfter(delay, error):
                again = now + timedelta(seconds=delay)
                note = _failed(turn, State.RETRYING, attempt, now, error, retry_at=again)
            case DeadLetter(error=error):
                note = _failed(turn, State.DEAD, attempt, now, error)
            case _:
                note = Note(turn, State.RECEIVED, attempt, now)
        self._note(handler, delivery, note)

    def _note(self, handler: str, delivery: Delivery, note: Note) -> None:
        message_id = delivery.properties.message_id
        if not message_id:
            return
        notes, key = self._notes, (handler, delivery.queue, message_id)
        before = notes.get(key)
        if before is not None:
            note.turn = before.turn
        notes[key] = note
        if before is None:
            self._due.set()
            if len(notes) > MAX_NOTES:
                notes.pop(next(iter(notes)))
                self._dropped += 1

    async def run(self) -> None:
        """Write what was noted, `FLUSH_AFTER` seconds after it was or later, until cancelled."""
        while True:
            await self._due.wait()
            await asyncio.sleep(FLUSH_AFTER)
            if not await self.flush_old():
                await asyncio.sleep(FLUSH_AGAIN)
            elif not self._notes:
                self._due.clear()

    async def flush_old(self) -> bool:
        """Write as `flush`, but only of messages that were noted before the last call of this."""
        turn, self._turn = self._turn, self._turn + 1
        return await self._flush(
            lambda: dict(takewhile(lambda item: item[1].turn < turn, self._notes.items()))
        )

    async def flush(self, message_id: str | None = None) -> bool:
        """Write what was noted, and tell whether it is written; else it is kept for later.

        :param message_id: of the only message whose notes are written; None: of all
        """
        if message_id is None:
            return await self._flush(lambda: dict(self._notes))
        return await self._flush(
            lambda: {key: note for key, note in self._notes.items() if key[2] == message_id}
        )

    async def _flush(self, find: Callable[[], dict[Key, Note]]) -> bool:
        async with self._writing:
            notes = find()
            while notes:
                batch = {key: notes.pop(key) for key in list(islice(notes, FLUSH_BATCH))}
                try:
                    await self._write_all(batch)
                except StoreUnavailableError as error:
                    why = f"{len(self._notes)} wait, {self._dropped} are dropped: {error}"
                    self._outage.down("store", "states of messages are not written", why)
                    return False
                self._outage.up("store", "writing states of messages again")
                for key, note in batch.items():
                    # Not one that came meanwhile; and what a cancelled write held stays noted.
                    if self._notes.get(key) is note:
                        del self._notes[key]
        return True

    async def _write_all(self, batch: dict[Key, Note]) -> None:
        try:
            await self._write(batch)
        except StoreUnavailableError:
            raise
        except (StoreError, SQLAlchemyError, ValueError) as error:
            if len(batch) == 1:
                text = "the state of message %s cannot be written"
                log_error(logger, logging.ERROR, text, shown(next(iter(batch))), error=error)
                return
            logger.warning("states of messages are written one by one: %s", describe(error))
            for key, note in batch.items():
                await self._write_all({key: note})

    async def _write(self, batch: dict[Key, Note]) -> None:
        dialect = self._database.dialect
        rows: list[dict[str, Any]] = [
            {
                **_written(key),
                "state": note.state.value,
                "attempt": min(note.attempt, HIGHEST_ATTEMPT),
                "updated_at": note.updated_at,
                **dialect.kept(states, self._keep, note.updated_at),
                "retry_at": note.retry_at,
                "error_type": note.error_type,
                "error": note.error,
                "result": note.result,
            }
            for key, note in batch.items()
        ]
        # In one order for everybody, so that two writers do not wait for each other.
        rows.sort(key=itemgetter("handler", "queue", "message_id"))
        async with self._database.transaction(beside=True) as connection:
            # One statement for however many: one of all rows would be compiled anew for each count.
            await connection.execute(_upsert(dialect), rows)


@functools.lru_cache(maxsize=16)
def _upsert(dialect: Dialect) -> Any:
    """Make an INSERT that replaces the row that is there."""
    insert = dialect.insert(states).values(**dialect.kept_columns(states))
    return insert.on_conflict_do_update(
        index_elements=[states.c.handler, states.c.queue, states.c.message_id],
        set_={
            column.name: insert.excluded[column.name]
            for column in states.c
            if not column.primary_key
        },
    )


def _written(key: Key) -> dict[str, str]:
    """Return the columns of a key; what no database takes in a text is escaped."""
    names = ("handler", "queue", "message_id")
    return {name: writable(text)[:MAX_ID] for name, text in zip(names, key, strict=True)}


def _failed(
    turn: int,
    state: State,
    attempt: int,
    now: datetime,
    error: BaseException,
    *,
    retry_at: datetime | None = None,
) -> Note:
    return Note(
        turn,
        state,
        attempt,
        now,
        retry_at=retry_at,
        error_type=writable(error_type(error)),
        error=writable(masked_text(error)[:MAX_ERROR_TEXT]),
    )
