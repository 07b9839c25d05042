"""Watches a whole system: what its processes say, and what is in the broker's queues."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Self

from mqkit import drivers
from mqkit.broker.connection import Connection
from mqkit.broker.declare import CONNECTION_FORCED
from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.clock import Clock, monotonic, utc_now
from mqkit.drivers.base import Driver
from mqkit.errors import ChannelClosedError, ConnectError, ManagementError
from mqkit.logging.error_reports import log_error
from mqkit.management.api import ManagementApi
from mqkit.observability.states.collecting import Collector
from mqkit.overview.joining import Known, services_of
from mqkit.overview.passive import PassiveListing
from mqkit.overview.queues import Listed, listed_by_management, names_of, views_of
from mqkit.overview.rates import History
from mqkit.overview.values import Overview, ServiceView
from mqkit.settings import BrokerUrl

logger = logging.getLogger(__name__)

NAME = "mqkit.watcher"
"""What its connection is called in the broker's list."""

EVERY = 2.0
"""Seconds between two looks, as between two words of a process."""

FRESH = 2.0
"""Seconds that an overview is as good as a new one."""

FRESH_AT_MOST = 10.0
"""The same, of a system that is so large that looks at it would take much of the time."""

LOOKS_SHARE = 0.01
"""The share of the time that looks which `fresh` takes may take."""

QUEUES_SHARE = 0.01
"""The share of the time in which the broker lists its queues at most; many of them cost it much."""

QUEUES_WITHIN = 30.0
"""Seconds after which they are listed again all the same."""

QUEUES_WAIT = 0.05
"""Seconds that a look waits for a listing; one that takes longer is seen by the next look."""

CONNECT_DEADLINE = 10.0
"""Seconds in which the first connection must be there."""


class Watcher:
    """Keeps an `Overview` of all services on a broker, which may be looked at as often as needed.

        async with Watcher("amqp://user:password@host/vhost") as watcher:
            watcher.overview()

    It changes nothing: it has an exclusive queue of its own, to which processes' states come
    (`mqkit run` publishes them, and a `Runtime` with `states=True`). A lost connection is opened
    again; meanwhile the overview is as it was, and names the problem.

    :param url: the broker, as `BrokerUrl.parse` takes it
    :param management: the URL of the broker's management API; without it the queues of services are
        asked for by AMQP, and there are no rates of queues
    :param every: seconds between two looks that are taken by themselves; `fresh` takes others
    :param driver: 'pika' or 'aio-pika', or what `mqkit.drivers.named` returns
    :raises ConfigurationError: a URL is malformed, or an option cannot be what it was given
    """

    def __init__(
        self,
        url: str | BrokerUrl,
        management: str | None = None,
        *,
        every: Seconds = EVERY,
        connect_deadline: Seconds = CONNECT_DEADLINE,
        driver: Driver | str | None = None,
        clock: Clock = utc_now,
    ) -> None:
        to = url if isinstance(url, BrokerUrl) else BrokerUrl.parse(url)
        self._every = checked.seconds(every, "Watcher(every=...)", over=0)
        option = "Watcher(connect_deadline=...)"
        self._deadline = checked.seconds(connect_deadline, option, over=0)
        self._clock = clock
        self._where = ", ".join(map(str, to.hosts))
        self._connection = Connection(to, name=NAME, driver=drivers.given(driver, "Watcher"))
        self._api = None if management is None else ManagementApi(management, to.vhost)
        self._history = History()
        self._collector = Collector(self._connection, on_state=self._history.add, clock=clock)
        self._passive = PassiveListing(self._connection)
        self._looking = asyncio.Lock()
        self._looked_at = -math.inf
        """When the last look was, on the monotonic clock."""
        self._took = 0.0
        """Seconds that it took, without what it waited for."""
        self._listed: list[Listed] = []
        self._listing: asyncio.Task[None] | None = None
        self._queues_at = -math.inf
        """When they are listed again, on the monotonic clock."""
        self._problems: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._overview = Overview(clock(), "", (), (), ())

    def overview(self) -> Overview:
        """Return how the system was at the last look; that costs nothing."""
        return self._overview

    @property
    def where(self) -> str:
        """The broker's hosts, without the password."""
        return self._where

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the broker now."""
        return self._connection.is_up

    async def fresh(self) -> Overview:
        """Return an overview that is two seconds old at most; for that it may look now.

        Of a system that takes long to be looked at, thousands of handlers in all processes
        together, it may be ten seconds old. The queues in it may be older, where their broker takes
        long to list them.
        """
        return await self._not_older_than(seconds_between_looks(self._took))

    async def _not_older_than(self, seconds: float) -> Overview:
        if self._is_older(seconds):
            async with self._looking:
                if self._is_older(seconds):  # nobody else has looked meanwhile
                    await self._look_safely()
        return self._overview

    async def look(self) -> Overview:
        """Look now, at the queues too, beside the looks that are taken by themselves."""
        async with self._looking:
            if self._listing is not None:  # of before
                await asyncio.wait([self._listing])
            self._queues_at = -math.inf
            return await self._look(math.inf)

    def _is_older(self, within: float) -> bool:
        return monotonic() - self._looked_at >= within

    async def _look_safely(self) -> None:
        try:
            await self._look()
        except Exception as error:  # noqa: BLE001 - it looks again, whatever it is
            self._looked_at = monotonic()
            self._note_defect("defect", "the overview could not be made", error)
        else:
            self._problems.pop("defect", None)

    async def _look(self, wait: float = QUEUES_WAIT) -> Overview:
        began = monotonic()
        heard = self._collector.heard()
        known = [
            Known(each.state, said, each.seen_at, is_silent=self._collector.is_silent(each))
            for each in heard
            if (said := tuple(self._history.of(each.state.id)))
        ]
        self._history.keep_only([each.state.id for each in heard])
        services = services_of(known)
        self._took = monotonic() - began
        await self._look_at_queues(services, wait)
        queues = views_of(self._listed, services)
        server = self._connection.server if self._connection.generation else ""
        self._overview = Overview(self._clock(), server, self._told(), services, queues)
        self._looked_at = began
        return self._overview

    async def __aenter__(self) -> Self:
        """Connect, and begin to watch.

        :raises AuthenticationError: the broker refused the user name and password
        :raises VirtualHostError: the broker refused the virtual host
        :raises ConnectError: there was no connection within the deadline
        """
        try:
            await self._connection.open(self._deadline)
        except BaseException:
            await self._connection.close()
            raise
        self._tasks = [
            asyncio.create_task(self._collector.run(), name="mqkit collector"),
            asyncio.create_task(self._run(), name="mqkit watcher"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._tasks, self._listing] if self._listing is not None else self._tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._connection.close()

    async def _run(self) -> None:
        while True:
            await self._not_older_than(self._every)
            await asyncio.sleep(max(self._looked_at + self._every - monotonic(), 0))

    async def _look_at_queues(self, services: tuple[ServiceView, ...], wait: float) -> None:
        """List the queues where it is time for that, and wait for it for some seconds."""
        if self._listing is None:
            if monotonic() < self._queues_at:
                return
            listing = self._list_queues(services)
            self._listing = asyncio.create_task(listing, name="mqkit queues")
        await asyncio.wait([self._listing], timeout=None if wait == math.inf else wait)

    async def _list_queues(self, services: tuple[ServiceView, ...]) -> None:
        began = monotonic()
        try:
            if self._api is not None:
                api = self._api
                await self._list("management", lambda: listed_by_management(api))
            elif self._connection.is_up:
                await self._list("queues", lambda: self._passive.look(names_of(services)))
        except Exception as error:  # noqa: BLE001 - they are listed again
            self._note_defect("listing", "the queues could not be listed", error)
        else:
            self._problems.pop("listing", None)
        finally:
            self._queues_at = began + seconds_between_listings(monotonic() - began)
            self._listing = None

    async def _list(self, kind: str, look: Callable[[], Awaitable[list[Listed]]]) -> None:
        try:
            self._listed = await look()
        except ManagementError as error:
            self._note(kind, f"management API: {error}; the queues are as they were before")
        except (ChannelClosedError, ConnectError) as error:
            if not isinstance(error, ChannelClosedError) or error.code not in (
                0,
                CONNECTION_FORCED,
            ):
                self._note(kind, f"the queues cannot be seen: {error}")
        else:
            self._problems.pop(kind, None)

    def _note(self, kind: str, problem: str) -> None:
        if self._problems.get(kind) != problem:
            logger.warning("%s", problem)
        self._problems[kind] = problem

    def _note_defect(self, kind: str, what: str, error: Exception) -> None:
        if kind not in self._problems:
            log_error(logger, logging.ERROR, what, error=error)
        self._problems[kind] = f"{what}: see the log"

    def _told(self) -> tuple[str, ...]:
        found = []
        if not self._connection.is_up:
            why = self._connection.problem
            reason = f": {why}" if why else ""
            found.append(f"not connected to the broker: connecting again{reason}")
        elif self._collector.problem:
            found.append(f"states of processes cannot be read: {self._collector.problem}")
        found += self._problems.values()
        if self._api is None:
            found.append("no management API: rates and unacked messages of queues are not known")
        if ignored := self._collector.ignored:
            found.append(f"{ignored} messages came as states that are none: see the log")
        return tuple(found)


def seconds_between_looks(took: float) -> float:
    """Return how many seconds an overview may be shown, by the seconds that it took to make."""
    return min(max(took / LOOKS_SHARE, FRESH), FRESH_AT_MOST)


def seconds_between_listings(took: float) -> float:
    """Return after how many seconds the queues are listed again, where it took so many."""
    return min(took / QUEUES_SHARE, QUEUES_WITHIN)
