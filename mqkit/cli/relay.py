"""`mqkit relay`: runs the relay of a store's outbox in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Annotated

import typer

from mqkit import drivers
from mqkit.broker.connection import Connection
from mqkit.cli.log_setup import log_to_stderr
from mqkit.cli.loop import runner, tune_collector
from mqkit.cli.options import (
    DriverOption,
    HttpOption,
    LogLevelOption,
    StoreOption,
    broker_url,
    http_address,
    log_level_number,
    store_option,
)
from mqkit.cli.watchdog import ShutdownWatchdog
from mqkit.drivers.base import Driver
from mqkit.lifecycle.watching import StoreWatch, connection_reading
from mqkit.logging.error_reports import REPORTS
from mqkit.middleware import ServiceReading
from mqkit.observability.health import problems_of
from mqkit.observability.http_server import HttpServer, Pages
from mqkit.observability.metrics.metrics import Metrics
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
    http: HttpOption = None,
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
    listen = http_address(http)
    log_to_stderr(level)
    tune_collector()
    with runner(None) as on_loop:
        on_loop.run(_relay(database, broker, chosen, listen))


async def _relay(
    database: str, broker: BrokerUrl, driver: Driver, listen: tuple[str, int] | None
) -> None:
    stop = asyncio.Event()
    for number in STOPPING:
        on_signal(number, stop.set)
    watch = RelayWatch(Connection(broker, name=NAME, driver=driver))
    async with watch.answering(listen):
        with ShutdownWatchdog(GRACE):
            await _relay_until(stop, database, broker, watch)


class RelayWatch:
    """Reads how a relay is, for its metrics and health, as a service's is read."""

    def __init__(self, connection: Connection) -> None:
        """Read nothing yet.

        :param connection: what it publishes on
        """
        self.connection = connection
        self.metrics: Metrics | None = None
        """None where no one can ask for them: they cost each message a little."""
        self.store = StoreWatch(NAME, REPORTS)
        self.is_started = self.is_stopping = False

    @contextlib.asynccontextmanager
    async def answering(self, listen: tuple[str, int] | None) -> AsyncIterator[None]:
        """Answer for the relay during the block; nothing where there is no address.

        :raises HttpServerError: it cannot be listened on
        """
        if listen is None:
            yield
            return
        self.metrics = Metrics()
        self.metrics.running(self.read)
        pages = Pages(
            metrics=self.metrics.text,
            alive=lambda: (),  # who answers turns
            ready=lambda: problems_of(self.read()),
        )
        async with HttpServer(pages, *listen):
            yield

    def read(self) -> ServiceReading:
        """Return how it is now."""
        return ServiceReading(
            service=NAME,
            is_started=self.is_started,
            is_stopping=self.is_stopping,
            connections=(connection_reading("publish", self.connection),),
            has_store=True,
            store=self.store.reading,
        )


async def _relay_until(
    stop: asyncio.Event, database: str, broker: BrokerUrl, watch: RelayWatch
) -> None:
    from mqkit.store import Store  # noqa: PLC0415 - SQLAlchemy would slow down all other commands

    connection = watch.connection
    # Without an app_id: each message has the one that it was written with.
    ended = None if watch.metrics is None else watch.metrics.publish_ended
    publisher = Publisher.on(connection, on_ended=ended)
    stopped = asyncio.create_task(stop.wait())
    looking: asyncio.Task[None] | None = None
    try:
        async with Store(database) as store:
            if watch.metrics is not None:
                looking = asyncio.create_task(watch.store.run(store), name="mqkit store watch")
            if not await _until(stopped, asyncio.create_task(connection.open(None))):
                return
            relaying = store.start(publisher.send)
            assert relaying is not None
            watch.is_started = True
            logger.info("relay: publishing the outbox to %s at %s", connection.server, broker)
            await asyncio.wait([stopped, relaying], return_when=asyncio.FIRST_COMPLETED)
            watch.is_stopping = True
            logger.info("relay: stopping")
            await store.stop()
            relaying.result()
    finally:
        stopped.cancel()
        if looking is not None:
            looking.cancel()
            await asyncio.wait([looking])
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
