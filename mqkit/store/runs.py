"""Runs handlers in transactions that hold the inbox rows of their messages."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from mqkit.errors import (
    ConfigurationError,
    MessageIdError,
    StatementError,
    StoreError,
    StoreUnavailableError,
)
from mqkit.limits import Limits
from mqkit.logging.shown import shown
from mqkit.message import Delivery
from mqkit.outcome import RetryLater
from mqkit.store import inbox, outbox
from mqkit.store.database.engine import watch_of
from mqkit.store.open_store import OpenStore
from mqkit.store.transaction import Transaction
from mqkit.store.transient import Key

logger = logging.getLogger(__name__)


RunMany = Callable[[Transaction, Sequence[Delivery]], Awaitable[Sequence[Any]]]
"""Runs a handler for those of a batch that it has not handled; returns a result for each."""


class Runs:
    """Runs handlers once for each message, with a store that is open."""

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

    async def once(
        self,
        opened: OpenStore,
        handler: str,
        delivery: Delivery,
        run: Callable[[Transaction], Awaitable[Any]],
    ) -> Any:
        """Run a handler for a message: `Store.run_once`."""
        inbox.check_id(handler, delivery.message_id)
        key = key_of(handler, delivery)
        try:
            result = await self._once(opened, handler, delivery, run)
        except (StoreUnavailableError, StatementError) as error:
            judged = await opened.judge(key, error)
            if judged is error:
                raise
            # Not from the error: a pause looks for it among the causes.
            raise judged from error.__cause__
        opened.transient.ended(key)
        return result

    async def _once(
        self,
        opened: OpenStore,
        handler: str,
        delivery: Delivery,
        run: Callable[[Transaction], Awaitable[Any]],
    ) -> Any:
        opened.with_inbox.add(handler)
        dialect = opened.database.dialect
        async with opened.database.transaction() as connection:
            handled = await inbox.claim(
                connection, dialect, handler, delivery, now=self._clock(), keep=self._keep
            )
            if handled is not None:
                log_handled(handler, delivery)
                return handled.result
            transaction = Transaction(connection, limits=self._limits)
            watch_of(connection).of_handler = True
            try:
                result = await run(transaction)
            except RetryLater as later:
                self._check_retry(handler, later)
                raise
            await self.finish(opened, transaction)
            await inbox.keep_result(connection, dialect, handler, delivery, result)
        if transaction.messages:
            opened.committed()
        return result

    async def batch_once(
        self, opened: OpenStore, handler: str, deliveries: Sequence[Delivery], run: RunMany
    ) -> list[Any]:
        """Run a handler for messages of different ids: `Store.run_batch_once`."""
        results: dict[Delivery, Any] = {}
        for each in deliveries:
            try:
                inbox.check_id(handler, each.message_id)
            except MessageIdError as error:
                results[each] = error
        left = [each for each in deliveries if each not in results]
        try:
            if left:
                await self._many(opened, handler, left, run, results)
        except (StoreUnavailableError, StatementError) as error:
            failed = [each for each in left if each not in results]
            results.update(await _judged(opened, handler, failed, error))
        except Exception as error:
            if not results:
                raise
            # What was handled before stays handled, whatever becomes of the others.
            results = dict.fromkeys(deliveries, error) | results
        for each in left:
            if not isinstance(results[each], StoreUnavailableError):
                opened.transient.ended(key_of(handler, each))
        try:
            return [results[each] for each in deliveries]
        finally:
            results.clear()  # with an error's traceback, which has this frame, it would be a cycle

    async def _many(
        self,
        opened: OpenStore,
        handler: str,
        deliveries: Sequence[Delivery],
        run: RunMany,
        results: dict[Delivery, Any],
    ) -> None:
        """Add to the results: at once what is known of a message, the others' after the commit."""
        opened.with_inbox.add(handler)
        dialect = opened.database.dialect
        async with opened.database.transaction() as connection:
            known = await inbox.claim_many(
                connection, dialect, handler, deliveries, now=self._clock(), keep=self._keep
            )
            for each in deliveries:
                found = known.get(each.message_id or "")
                if isinstance(found, inbox.Handled):
                    log_handled(handler, each)
                    results[each] = found.result
                elif found is not None:
                    results[each] = found
            left = [each for each in deliveries if each not in results]
            if not left:
                return
            transaction = Transaction(connection, limits=self._limits)
            watch_of(connection).of_handler = True
            try:
                returned = await run(transaction, left)
            except RetryLater as later:
                self._check_retry(handler, later)
                raise
            done = [self._checked(handler, result) for result in returned]
            ended = list(zip(left, done, strict=True))
            await self.finish(opened, transaction)
            failed = [each for each, result in ended if isinstance(result, BaseException)]
            await inbox.take_out(connection, dialect, handler, failed)
            succeeded = [pair for pair in ended if not isinstance(pair[1], BaseException)]
            await inbox.keep_results(connection, dialect, handler, succeeded)
        if transaction.messages:
            opened.committed()
        await self._add_results(opened, handler, ended, results)

    async def _add_results(
        self,
        opened: OpenStore,
        handler: str,
        ended: Sequence[tuple[Delivery, Any]],
        results: dict[Delivery, Any],
    ) -> None:
        """Add the results of a run; those that blame the database are judged."""
        for each, result in ended:
            if (error := opened.database.failure(result)) is not None:
                results.update(await _judged(opened, handler, [each], error))
            else:
                results[each] = result

    def _checked(self, handler: str, result: Any) -> Any:
        if isinstance(result, RetryLater):
            try:
                self._check_retry(handler, result)
            except ConfigurationError as error:
                return error
        return result

    async def finish(self, opened: OpenStore, transaction: Transaction) -> None:
        """Write what is left to write right before the commit: the session's rows, the outbox."""
        await transaction.flush()
        watch_of(transaction.connection).of_handler = False
        await outbox.write(
            transaction.connection,
            opened.database.dialect,
            transaction.messages,
            self._clock(),
            transaction.exchanges,
        )

    def _check_retry(self, handler: str, later: RetryLater) -> None:
        if later.seconds > self._longest_retry:
            raise ConfigurationError(
                f"handler {handler} asked to be tried again in {later.seconds:.0f} s, when its "
                f"inbox may have forgotten the message: say Store(longest_retry=...), now "
                f"{self._longest_retry:.0f} s"
            ) from later


async def _judged(
    opened: OpenStore,
    handler: str,
    deliveries: Sequence[Delivery],
    error: StoreUnavailableError | StatementError,
) -> Iterator[tuple[Delivery, StoreError]]:
    judged = await opened.judge_many([key_of(handler, each) for each in deliveries], error)
    for each in judged:
        if each is not error:
            # Not from the error: a pause looks for it among the causes.
            each.__cause__ = error.__cause__
    return zip(deliveries, judged, strict=True)


def key_of(handler: str, delivery: Delivery) -> Key:
    """Return by what failures of a message are counted."""
    return handler, delivery.queue, delivery.message_id or ""


def log_handled(handler: str, delivery: Delivery) -> None:
    """Log that a message is not handled again."""
    logger.info("%s: message %s was handled before", handler, shown(delivery.message_id))
