"""`mqkit relay`: runs the relay of a store's outbox in a process of its own."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

import typer

from mqkit import drivers
from mqkit.broker.connection import Connection
from mqkit.cli.log_setup import log_to_stderr
from mqkit.cli.loop import runner, tune_collector
from mqkit.cli.options import (
    DriverOption,
    LogLevelOption,
    StoreOption,
    broker_url,
    log_level_number,
    store_option,
)
from mqkit.cli.watchdog import ShutdownWatchdog
from mqkit.drivers.base import Driver
from mqkit.publishing.publisher import Publisher
from mqkit.settings import BrokerUrl
from mqkit.system.signals import STOPPING, on_signal

logger = logging.getLogger(__name__)

NAME = "mqkit.relay"
"""What the connection is called in the broker's lists."""

GRACE = 20.0
"""Seconds for the confirms of what it has written, and 5 more until the process is gone."""


def relay(
    store: StoreOption = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="The broker: amqp[s]://user:password@host[,host]/vhost. "
            "Default: the environment's MQKIT_URL, which other users cannot see.",
            show_default=False,
        ),
    ] = None,
    driver: DriverOption = None,
    log_level: LogLevelOption = "info",
) -> None:
    """Publish what is committed to a store's outbox, until SIGTERM or SIGINT.

    Any number of relays may run, here and within services (Store(relay=False) has none); on an
    SQLite file one of them works at a time. On a signal it waits some seconds for the confirms of
    what it has written, on a second one no longer. Where the broker is away, or the database after
    it was opened, it tries again until they are back.

    What the broker refuses stays in the outbox with what has its key, and is tried again. What no
    publish can ever write stays there by itself.

    Exit code 0: stopped; 1: it failed, or the store could not be opened; 2: called wrongly.
    """
    level = log_level_number(log_level)
    broker = broker_url(url)
    chosen = drivers.named(driver)
    database = store_option(store)
    log_to_stderr(level)
    tune_collector()
    with runner(None) as on_loop:
        on_loop.run(_relay(database, broker, chosen))


async def _relay(database: str, broker: BrokerUrl, driver: Driver) -> None:
    stop = asyncio.Event()
    for number in STOPPING:
        on_signal(number, stop.set)
    with ShutdownWatchdog(GRACE):
        await _relay_until(stop, database, broker, driver)


async def _relay_until(
    stop: asyncio.Event, database: str, broker: BrokerUrl, driver: Driver
) -> None:
    from mqkit.store import Store  # noqa: PLC0415 - SQLAlchemy would slow down all other commands

    connection = Connection(broker, name=NAME, driver=driver)
    # Without an app_id: each message has the one that it was written with.
    publisher = Publisher.on(connection)
    stopped = asyncio.create_task(stop.wait())
    try:
        async with Store(database) as store:
            if not await _until(stopped, asyncio.create_task(connection.open(None))):
                return
            relaying = store.start(publisher.send)
            assert relaying is not None
            logger.info("relay: publishing the outbox to %s at %s", connection.server, broker)
            await asyncio.wait([stopped, relaying], return_when=asyncio.FIRST_COMPLETED)
            logger.info("relay: stopping")
            await store.stop()
            relaying.result()
    finally:
        stopped.cancel()
        await publisher.close(timeout=0)
        await connection.close()
    logger.info("relay: stopped")


async def _until(stopped: asyncio.Task[bool], work: asyncio.Task[None]) -> bool:
    """Wait for the work or the signal; tell whether it was done first, else it is cancelled."""
    await asyncio.wait([stopped, work], return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        work.result()
        return True
    work.cancel()
    await asyncio.wait([work])
    return False
