"""Holds an open store: its database, and the tasks that run beside the handlers."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine, Sequence
from datetime import datetime
from typing import Any

from mqkit.errors import StatementError, StoreError, StoreUnavailableError
from mqkit.logging.error_reports import log_error
from mqkit.logging.shown import shown
from mqkit.publishing.outgoing import MessageIds
from mqkit.store import inbox
from mqkit.store.database.pool import Database
from mqkit.store.log_throttle import LogThrottle
from mqkit.store.notify import Notifier, listen
from mqkit.store.relay import Relay
from mqkit.store.running.transient import MAX_UNCOUNTED, Key, TransientFailures, wait_after
from mqkit.store.sagas import purge_sagas
from mqkit.store.states import StateRecorder
from mqkit.system.machine import MACHINE, Machine

logger = logging.getLogger(__name__)


class OpenStore:
    """Holds the database of an open store, and runs its relay, notifier and state recorder."""

    def __init__(
        self, database: Database, recorder: StateRecorder, machine: Machine = MACHINE
    ) -> None:
        self.database = database
        self.recorder = recorder
        self.relay: Relay | None = None
        self.with_inbox: set[str] = set()
        """Handlers that ask for a transaction: their successes are in the inbox."""
        self.transient = TransientFailures()
        self.new_id = MessageIds(machine.random_bytes)
        """Of this process: a store is opened anew after a fork."""
        self._throttle = LogThrottle()
        self._notifier: Notifier | None = None
        if database.dialect.has_notify:
            self._notifier = Notifier(database)
        self._tasks: list[asyncio.Task[None]] = []
        self._groups: dict[asyncio.Task[None], None] = {}
        self._relaying: asyncio.Task[None] | None = None
        self._spawn(self.recorder.run(), "states")
        if self._notifier is not None:
            self._spawn(self._notifier.run(), "notifier")

    def spawn_group(self, work: Coroutine[Any, Any, None], context: contextvars.Context) -> None:
        """Run groups of messages in a task, which ends before the database is closed."""
        task = asyncio.create_task(work, name="mqkit store group", context=context)
        self._groups[task] = None
        task.add_done_callback(self._groups.pop)
        task.add_done_callback(_log_failure)

    async def purge(self, now: datetime) -> int:
        """Delete some of what is kept no longer, and return how many rows."""
        async with self.database.transaction(beside=True) as connection:
            deleted = await inbox.purge(connection, self.database.dialect, now)
            if not self.database.lacks_of_sagas:
                deleted += await purge_sagas(connection, self.database.dialect, now)
            return deleted

    def committed(self) -> None:
        """Wake this process's relay, or else all others, after a commit to the outbox."""
        if self.relay is not None:
            self.relay.wake()
        elif self._notifier is not None:
            self._notifier.notify()

    async def judge(self, key: Key, error: StoreUnavailableError | StatementError) -> StoreError:
        """Ask the database how it is, and return what a failure of a message's transaction is.

        Where it answers, a statement that took too long counts; and so does what is not counted
        otherwise, if one message meets it again and again.
        """
        (judged,) = await self.judge_many([key], error)
        return judged

    async def judge_many(
        self, keys: Sequence[Key], error: StoreUnavailableError | StatementError
    ) -> list[StoreError]:
        """Judge the failure of a transaction that was for several messages; see `judge`."""
        counted = await self._of_all(error)
        if counted is not None:
            if isinstance(counted, StatementError):
                for key in keys:
                    self.transient.ended(key)
            return [counted] * len(keys)
        assert isinstance(error, StoreUnavailableError)
        return [self._uncounted(key, _another(error) if i else error) for i, key in enumerate(keys)]

    async def _of_all(self, error: StoreUnavailableError | StatementError) -> StoreError | None:
        """Return what a failure is for whatever message; None if it is counted by message."""
        if not await self.database.answers():
            is_same = isinstance(error, StoreUnavailableError)
            return error if is_same else StoreUnavailableError(str(error))
        if isinstance(error, StatementError):
            return error
        if await self._was_too_slow(error):
            return StatementError(
                f"{error}; the transaction went on for {error.lost_after:.1f} s, and the server "
                "closes one that idles, or goes on, for so long"
            )
        return None

    def _uncounted(self, key: Key, error: StoreUnavailableError) -> StoreError:
        failures = self.transient.failed(key)
        handler, _, message_id = key
        if failures > MAX_UNCOUNTED and not error.lasting:
            self.transient.ended(key)
            return StatementError(
                f"{error}; this message met such failures {failures} times while the database "
                "answers, and this one counts for its handler's policy"
            )
        error.wait = wait_after(failures)
        if count := self._throttle.due((handler, str(error))):
            logger.warning(
                "%s: %d failures of the store's that cost no attempt; message %s (failure %d of "
                "it) is tried again in %.1f s: %s",
                handler,
                count,
                shown(message_id),
                failures,
                error.wait,
                error,
            )
        return error

    async def _was_too_slow(self, error: StoreUnavailableError) -> bool:
        if error.lost_after is None:
            return False
        limit = await self.database.closes_after()
        return limit is not None and error.lost_after >= limit

    def start_relay(self, relay: Relay) -> asyncio.Task[None]:
        """Start a relay, and listen for commits of other processes."""
        self.relay = relay
        if self.database.dialect.has_listen:
            self._spawn(listen(self.database, relay.wake), "listener")
        self._relaying = asyncio.create_task(relay.run(), name="mqkit store relay")
        return self._relaying

    async def stop_relay(self, *, within: float) -> None:
        """End the relay; its round gets so many seconds to end."""
        if self.relay is not None and self._relaying is not None:
            self.relay.stop()
            await asyncio.wait([self._relaying], timeout=within)
            if not self._relaying.done():
                logger.warning("the relay did not end its round within %g s", within)
                self._relaying.cancel()
                await asyncio.wait([self._relaying])
            self.relay = self._relaying = None

    async def close(self, *, within: float) -> None:
        """End the tasks, write what was noted, and disconnect."""
        await self.stop_relay(within=within)
        tasks = [*self._tasks, *self._groups]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self.recorder.flush()
        finally:
            await self.database.close()

    def _spawn(self, work: Coroutine[Any, Any, None], what: str) -> None:
        task = asyncio.create_task(work, name=f"mqkit store {what}")
        task.add_done_callback(_log_failure)
        self._tasks.append(task)


def _another(error: StoreUnavailableError) -> StoreUnavailableError:
    """Make the same error for another message, which waits for a time of its own."""
    return StoreUnavailableError(str(error), lasting=error.lasting)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log_error(logger, logging.CRITICAL, "%s ended", task.get_name(), error=error)
