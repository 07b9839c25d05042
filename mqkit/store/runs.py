"""Runs handlers in transactions that hold the inbox rows of their messages."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from mqkit.errors import ConfigurationError, StatementError, StoreUnavailableError
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
        key = _key(handler, delivery)
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
                _log_handled(handler, delivery)
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


def _key(handler: str, delivery: Delivery) -> Key:
    return handler, delivery.queue, delivery.message_id or ""


def _log_handled(handler: str, delivery: Delivery) -> None:
    logger.info("%s: message %s was handled before", handler, shown(delivery.message_id))
