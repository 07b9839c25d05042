"""Runs handlers in one transaction with the inbox rows of their messages, and commits it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.errors import ConfigurationError, StoreError, StoreUnavailableError
from mqkit.limits import Limits
from mqkit.logging.shown import shown
from mqkit.message import Delivery
from mqkit.outcome import RetryLater
from mqkit.store import inbox, outbox
from mqkit.store.database.added_rows import AddedRows
from mqkit.store.database.watch import check_going_on, is_aborted, watch_of
from mqkit.store.open_store import OpenStore
from mqkit.store.running.member import Member
from mqkit.store.transaction import Transaction

logger = logging.getLogger(__name__)

RunMany = Callable[[Transaction, Sequence[Delivery]], Awaitable[Sequence[Any]]]
"""Runs a handler for those of a batch that it has not handled; returns a result for each."""


class RunAgainError(Exception):
    """Says that one message's failure rolled back what others of its transaction did."""

    def __init__(self, member: Member, error: BaseException) -> None:
        super().__init__("the transaction is run again without the message that failed")
        self.member = member
        self.error = error


class RowsRefusedError(Exception):
    """Says that rows were refused which several messages of a transaction had added."""


class RunAloneError(Exception):
    """Says that a handler changed the session, which others of its transaction would meet."""


@dataclass(slots=True)
class _Group:
    """What came of the members of a group so far, in one transaction."""

    ended: list[tuple[Member, Any]] = field(default_factory=list)
    failed: list[tuple[Member, BaseException]] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)


class Once:
    """Runs a handler where the inbox has no row of its message, in a store that is open."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        keep: timedelta,
        limits: Limits,
        longest_retry: float,
    ) -> None:
        """Run nothing yet.

        :param keep: how long the inbox remembers a message
        :param limits: those of what the transactions publish
        :param longest_retry: seconds, which no wait that a handler asks for may be over
        """
        self._clock = clock
        self._keep = keep
        self._limits = limits
        self._longest_retry = longest_retry

    def transaction(
        self, opened: OpenStore, connection: AsyncConnection, app_id: str | None = None
    ) -> Transaction:
        """Begin what a handler, or an application, is given of a transaction of the database."""
        return Transaction(
            connection,
            app_id=app_id,
            limits=self._limits,
            new_id=opened.new_id,
            clock=self._clock,
            dialect=opened.database.dialect,
        )

    async def one(
        self,
        opened: OpenStore,
        handler: str,
        delivery: Delivery,
        run: Callable[[Transaction], Awaitable[Any]],
    ) -> Any:
        """Run a handler for one message, in a transaction of its own."""
        opened.with_inbox.add(handler)
        dialect = opened.database.dialect
        async with opened.database.transaction() as connection:
            handled = await inbox.claim(
                connection, dialect, handler, delivery, now=self._clock(), keep=self._keep
            )
            if handled is not None:
                _log_handled(handler, delivery)
                return handled.result
            transaction = self.transaction(opened, connection)
            watch_of(connection).of_handler = True
            try:
                result = await run(transaction)
            except BaseException as raised:
                transaction.end()
                if isinstance(raised, RetryLater):
                    self._check_retry(handler, raised)
                raise
            await self.finish(opened, connection, [transaction])
            await inbox.keep_result(connection, dialect, handler, delivery, result)
        if transaction.messages:
            opened.committed()
        return result

    async def many(
        self,
        opened: OpenStore,
        handler: str,
        deliveries: Sequence[Delivery],
        run: RunMany,
        results: dict[Delivery, Any],
    ) -> None:
        """Run a handler once for a batch.

        :param results: is added to: at once what is known of a message, the others' after the
            commit
        """
        opened.with_inbox.add(handler)
        dialect = opened.database.dialect
        async with opened.database.transaction() as connection:
            results |= await self._known(opened, connection, handler, deliveries)
            left = [each for each in deliveries if each not in results]
            if not left:
                return
            transaction = self.transaction(opened, connection)
            watch_of(connection).of_handler = True
            try:
                returned = await run(transaction, left)
            except BaseException as raised:
                transaction.end()
                if isinstance(raised, RetryLater):
                    self._check_retry(handler, raised)
                raise
            done = [self._checked(handler, result) for result in returned]
            ended = list(zip(left, done, strict=True))
            await self.finish(opened, connection, [transaction])
            failed = [each for each, result in ended if isinstance(result, BaseException)]
            await inbox.take_out(connection, dialect, handler, failed)
            succeeded = [pair for pair in ended if not isinstance(pair[1], BaseException)]
            await inbox.keep_results(connection, dialect, handler, succeeded)
        if transaction.messages:
            opened.committed()
        results.update(ended)

    async def group(
        self, opened: OpenStore, handler: str, members: Sequence[Member], *, savepoints: bool
    ) -> None:
        """Run a handler for one message after the other, and commit all of it together.

        What is known of a message is told to it: at once that it was handled before, all else after
        the commit.

        :param savepoints: give each message one, so that its failure costs no other one anything
        :raises RunAgainError: a message failed, and what the others did is rolled back with it
        :raises RowsRefusedError: a row was refused, of whichever; with savepoints it is known whose
        :raises RunAloneError: a message's run changed the session; nothing is committed
        """
        opened.with_inbox.add(handler)
        database = opened.database
        group = _Group()
        async with database.transaction() as connection:
            deliveries = [each.delivery for each in members]
            known = await self._known(opened, connection, handler, deliveries)
            for member in members:
                if member.delivery in known:
                    _tell(member, known[member.delivery])
                    continue
                if savepoints:
                    await database.dialect.set_savepoint(connection)
                await self._turn(opened, connection, handler, member, group, savepoints=savepoints)
                is_done = bool(group.ended) and group.ended[-1][0] is member
                if is_done and len(members) > 1 and watch_of(connection).changed_in_turn:
                    raise RunAloneError
            await self._write_added(opened, connection)
            await self.finish(opened, connection, group.transactions)
            failed = [each.delivery for each, _ in group.failed]
            await inbox.take_out(connection, database.dialect, handler, failed)
            results = [(each.delivery, result) for each, result in group.ended]
            await inbox.keep_results(connection, database.dialect, handler, results)
        if any(each.messages for each in group.transactions):
            opened.committed()
        for member, result in group.ended:
            member.end(result)
        for member, error in group.failed:
            member.fail(error)
        group.failed.clear()  # an error's traceback has this frame: it would be a cycle

    async def _turn(
        self,
        opened: OpenStore,
        connection: AsyncConnection,
        handler: str,
        member: Member,
        group: _Group,
        *,
        savepoints: bool,
    ) -> None:
        """Run the handler for one member; where it fails, keep what the others did if it can be."""
        watch = watch_of(connection)
        watch.begin_turn()
        rows: AddedRows = watch.rows
        transaction = self.transaction(opened, connection)
        try:
            result = await member.turn(transaction)
            watch.of_handler = False
            if savepoints:
                await rows.write_on(connection, watch)
            rows.check()
            check_going_on(connection.sync_connection, watch)
            if watch.error is not None:  # which the handler has caught
                await opened.database.dialect.check_alive(connection)
        except Exception as raised:
            watch.of_handler = False
            if is_aborted(raised) and watch.error is None:
                raise  # by another one's statement, which asyncpg's connection did not tell of
            error = self._checked(handler, opened.database.judged(watch, raised))
            if isinstance(error, StoreUnavailableError) and error is not raised:
                raise  # by which the whole transaction is judged
            rows.forget(transaction)
            if rows.failure is not None and not savepoints:
                raise RowsRefusedError from None
            if transaction.was_used or rows.were_written:
                otherwise = RunAgainError(member, error)
                if not savepoints:
                    raise otherwise from None
                await self._take_back(opened, connection, otherwise)
            group.failed.append((member, error))
        else:
            group.ended.append((member, result))
            group.transactions.append(transaction)

    async def _write_added(self, opened: OpenStore, connection: AsyncConnection) -> None:
        """Write what the members added and no statement has written before.

        :raises RowsRefusedError: the database refused it
        """
        watch = watch_of(connection)
        try:
            await watch.rows.write_on(connection, watch)
        except Exception as raised:
            if isinstance(opened.database.judged(watch, raised), StoreUnavailableError):
                raise
            raise RowsRefusedError from None

    async def _take_back(
        self, opened: OpenStore, connection: AsyncConnection, otherwise: RunAgainError
    ) -> None:
        """Undo what the latest member did.

        :raises RunAgainError: the one that is given: only all members' work can be undone
        """
        try:
            await opened.database.dialect.roll_back(connection)
            watch_of(connection).rows.undo()
        except Exception:  # noqa: BLE001 - the connection is gone, say, with a statement that hung
            raise otherwise from None

    async def _known(
        self,
        opened: OpenStore,
        connection: AsyncConnection,
        handler: str,
        deliveries: Sequence[Delivery],
    ) -> dict[Delivery, Any]:
        """Insert inbox rows, and return of whom there is one: its result, or its error."""
        known = await inbox.claim_many(
            connection,
            opened.database.dialect,
            handler,
            deliveries,
            now=self._clock(),
            keep=self._keep,
        )
        return self._told(handler, deliveries, known)

    def _told(
        self,
        handler: str,
        deliveries: Sequence[Delivery],
        known: Mapping[str, inbox.Handled | StoreError],
    ) -> dict[Delivery, Any]:
        """Return of messages that are known what their handler returned, or the error of each."""
        results: dict[Delivery, Any] = {}
        for each in deliveries if known else ():
            found = known.get(each.message_id or "")
            if isinstance(found, inbox.Handled):
                _log_handled(handler, each)
                results[each] = found.result
            elif found is not None:
                results[each] = found
        return results

    async def finish(
        self, opened: OpenStore, connection: AsyncConnection, transactions: Sequence[Transaction]
    ) -> None:
        """Write what is left before the commit: rows of sessions, added ones, and the outbox."""
        watch = watch_of(connection)
        for each in transactions:
            await each.flush_session()
            each.end()
        await watch.rows.write_on(connection, watch)
        watch.rows.check()
        watch.of_handler = False
        if watch.changed_settings:
            await opened.database.dialect.restore(connection)
        messages = [message for each in transactions for message in each.messages]
        exchanges = {k: v for each in transactions for k, v in each.exchanges.items()}
        await outbox.write(connection, opened.database.dialect, messages, self._clock(), exchanges)

    def _checked(self, handler: str, result: Any) -> Any:
        if isinstance(result, RetryLater):
            try:
                self._check_retry(handler, result)
            except ConfigurationError as error:
                return error
        return result

    def _check_retry(self, handler: str, later: RetryLater) -> None:
        if later.seconds > self._longest_retry:
            raise ConfigurationError(
                f"handler {handler} asked to be tried again in {later.seconds:.0f} s, when its "
                f"inbox may have forgotten the message: say Store(longest_retry=...), now "
                f"{self._longest_retry:.0f} s"
            ) from later


def _tell(member: Member, known: Any) -> None:
    if isinstance(known, BaseException):
        member.fail(known)
    else:
        member.end(known)


def _log_handled(handler: str, delivery: Delivery) -> None:
    logger.info("%s: message %s was handled before", handler, shown(delivery.message_id))
