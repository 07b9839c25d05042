"""Tells relays in other processes of commits to the outbox, by PostgreSQL's LISTEN and NOTIFY.

They are hints: sent after the commit and not within it, since a NOTIFY in a transaction makes all
commits of the database wait for each other. One that is lost costs a sweep's time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from mqkit.logging.error_reports import describe
from mqkit.store.database.dialects import NOTIFY_CHANNEL
from mqkit.store.database.pool import Database

logger = logging.getLogger(__name__)

NOTIFY_EVERY = 0.01
"""Seconds; commits within this time are told of together."""

LISTEN_AGAIN = 5.0
"""Seconds until a lost listener comes back."""


class Notifier:
    """Notifies relays in other processes of commits, several commits at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due = asyncio.Event()

    def notify(self) -> None:
        """Notify them soon."""
        self._due.set()

    async def run(self) -> None:
        """Notify them whenever something is due, until cancelled."""
        while True:
            await self._due.wait()
            await asyncio.sleep(NOTIFY_EVERY)
            self._due.clear()
            try:
                async with self._database.reading() as connection:
                    raw = await connection.get_raw_connection()
                    driver: Any = raw.driver_connection
                    # By itself, and one round trip, where a transaction would be three.
                    await driver.execute(f"NOTIFY {NOTIFY_CHANNEL}")
            except Exception as error:  # noqa: BLE001 - the driver's own errors too, as below
                logger.debug(
                    "relays were not notified of a commit, and find it by a sweep: %s",
                    describe(error),
                )


async def listen(database: Database, wake: Callable[[], None]) -> None:
    """Call `wake` at each notification of a commit, until cancelled."""

    def on_notify(*_: Any) -> None:
        wake()

    while True:
        try:
            async with database.reading() as connection:
                raw = await connection.get_raw_connection()
                driver: Any = raw.driver_connection
                await connection.rollback()
                await driver.add_listener(NOTIFY_CHANNEL, on_notify)
                lost = asyncio.Event()
                driver.add_termination_listener(lambda *_, lost=lost: lost.set())
                try:
                    wake()  # for what was told of before
                    await lost.wait()
                finally:
                    if not driver.is_closed():
                        await driver.remove_listener(NOTIFY_CHANNEL, on_notify)
        except Exception as error:  # noqa: BLE001 - the driver's own errors too: it is but a hint
            logger.debug("no notifications of commits for a while: %s", describe(error))
        await asyncio.sleep(LISTEN_AGAIN)
