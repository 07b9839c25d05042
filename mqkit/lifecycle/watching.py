"""Reads how a running service is, for observers that ask: metrics and health."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from mqkit.broker.connection import Connection
from mqkit.checks import checked
from mqkit.consuming.consumer import Consumer
from mqkit.errors import ConfigurationError, StoreError
from mqkit.logging.error_reports import ErrorReports
from mqkit.middleware import ConnectionReading, Observer, ServiceReading, StoreReading
from mqkit.pause import ConsumerState
from mqkit.registration.service import Service
from mqkit.registration.transactions import TransactionalStore

logger = logging.getLogger(__name__)

STORE_EVERY = 10.0
"""Seconds between two looks at the store: a reading of it is as old as that at most."""

STORE_TIMEOUT = 5.0
"""Seconds after which a store that has not answered is taken to be away."""


class StoreWatch:
    """Looks at a store now and then, and holds what it has said last."""

    def __init__(self, name: str, reports: ErrorReports) -> None:
        """Look at nothing yet.

        :param name: whose store it is, for the log
        """
        self._name = name
        self._reports = reports
        self._met: set[type[BaseException]] = set()
        self.reading: StoreReading | None = None
        """As of the last look; None: there was none, or it did not answer."""

    async def run(self, store: TransactionalStore) -> None:
        """Look at the store again and again, until cancelled."""
        while True:
            self.reading = await self._look(store)
            await asyncio.sleep(STORE_EVERY)

    async def _look(self, store: TransactionalStore) -> StoreReading | None:
        """Return how the store is; None: it does not answer, of which its own log lines tell."""
        backlog = getattr(store, "backlog", None)
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                if backlog is not None:
                    reading: StoreReading = await backlog()
                    return reading
                await store.ping()  # a store of the application's own
                return StoreReading()
        except (StoreError, TimeoutError) as error:
            logger.debug("%s: the store does not answer: %s", self._name, error)
        except Exception as error:  # noqa: BLE001 - whatever a store of the application's raises
            level = logging.DEBUG if type(error) in self._met else logging.ERROR
            self._met.add(type(error))
            text = "%s: looking at the store failed"
            self._reports.log(logger, level, text, self._name, error=error)
        return None


class ServiceWatch:
    """Reads how a service is, and looks at its store now and then while it runs."""

    def __init__(
        self,
        service: Service,
        connections: tuple[Connection, Connection],
        consumers: Sequence[Consumer],
        states: Callable[[], Mapping[str, ConsumerState]],
    ) -> None:
        """Read nothing yet.

        :param connections: the one that consumes, the one that publishes
        :param consumers: those of the service, also those that come later
        :param states: says what the consumer of each queue does
        """
        self._service = service.name
        self._connections = dict(zip(("consume", "publish"), connections, strict=True))
        self._consumers = consumers
        self._store = service.store
        self._states = states
        self._of_store = StoreWatch(service.name, service.error_reports)
        self.is_started = self.is_stopping = False

    def read(self) -> ServiceReading:
        """Return how it is now; any thread may ask."""
        states = self._states()
        readings = [each.reading for each in list(self._consumers)]
        return ServiceReading(
            service=self._service,
            is_started=self.is_started,
            is_stopping=self.is_stopping,
            connections=tuple(
                connection_reading(does, each) for does, each in self._connections.items()
            ),
            consumers=tuple(
                replace(each, state=states.get(each.consumed, each.state)) for each in readings
            ),
            has_store=self._store is not None,
            store=self._of_store.reading,
        )

    async def run(self, store: TransactionalStore) -> None:
        """Look at the store again and again, until cancelled."""
        await self._of_store.run(store)


def connection_reading(does: str, connection: Connection) -> ConnectionReading:
    """Return how a connection is; `does` is what it is there for: consume, publish."""
    return ConnectionReading(
        does, connection.is_up, connection.generation, connection.blocked_seconds
    )


def checked_observers(given: Observer | Sequence[Observer] | None) -> tuple[Observer, ...]:
    """Return the observers that were given.

    :raises ConfigurationError: one of them is none
    """
    if given is None:
        return ()
    observers = tuple(given) if isinstance(given, list | tuple) else (given,)
    for each in observers:
        if not isinstance(each, Observer):
            raise ConfigurationError(
                "Runtime(observer=...) takes an object with the methods of "
                f"mqkit.middleware.Observer, or several of them, not {checked.shown(each)}"
            )
    return observers
