"""Runs a service in a test, and tells what became of each message, without a sleep.

    async with harness(service) as h:
        order = await h.publish("payments", "order.accepted", {"id": "o-1", "amount": "5"})
        result = await h.outcome(order)
        assert result.acked
        assert h.published[0].routing_key == "order.posted"

The service is the application's own, unchanged; it runs on a real connection to a broker, in the
test's event loop. Without a broker it is given an embedded one. In pytest the fixture
`mqkit_harness` does the same on the broker that `--mqkit-broker` chooses.

On an embedded broker time passes when the test says so: after `await h.advance(3600)` all that a
service would have retried within the hour has been retried.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from mqkit import drivers
from mqkit.broker.connection import Connection
from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.drivers.base import Driver
from mqkit.middleware import Middleware
from mqkit.publishing.publisher import Publisher
from mqkit.registration.service import Service
from mqkit.runtime import Runtime
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers.broker import Broker
from mqkit.testing.harness.errors import HarnessError, HarnessTimeoutError
from mqkit.testing.harness.journeys import Journey
from mqkit.testing.harness.outbox import Outbox
from mqkit.testing.harness.place import Advance, driver_for, place, without_connection
from mqkit.testing.harness.records import DeadMessage, Result, dead_message
from mqkit.testing.harness.waiting import Waiting
from mqkit.testing.harness.watch import Watch
from mqkit.topology import DEAD_SUFFIX, Exchange, Queue, Source

__all__ = ["Harness", "HarnessError", "HarnessTimeoutError", "harness"]

DEFAULT_WITHIN = 10.0
"""Seconds that a test waits for what it expects; it takes milliseconds."""

DEFAULT_GRACE = 1.0
"""Seconds that handlers which still run at the end of a test get."""

CONNECT_DEADLINE = 10.0
"""Seconds for the connections of a test to open."""


@contextlib.asynccontextmanager
async def harness(
    service: Service,
    on: Broker | str | None = None,
    *,
    url: str | None = None,
    through: str | None = None,
    driver: Driver | str | None = None,
    middleware: Iterable[Middleware] = (),
    grace: Seconds = DEFAULT_GRACE,
    within: Seconds = DEFAULT_WITHIN,
) -> AsyncIterator[Harness]:
    """Run a service for a test; it has drained and disconnected when the block is left.

        async with harness(service) as h:
            order = await h.publish("payments", "order.accepted", {"id": "o-1", "amount": "5"})
            assert (await h.outcome(order)).acked

    Where several services of a test talk to each other, each has a harness, on one virtual host:

        async with harness(orders, url=mqkit_vhost) as o, harness(ledger, url=mqkit_vhost) as h:
            ...

    :param on: a broker, on which the service gets a fresh virtual host; or a URL, which is used
        as it is; or nothing, for an embedded broker of its own
    :param url: on that broker, the URL of a virtual host that the test made itself; services that
        are run on the same one talk to each other
    :param through: the URL by which the service connects instead, such as a `TcpProxy`'s; the
        harness itself does not
    :param driver: the driver, or its name; by default pika, and aio-pika for a service that has an
        aio-pika connection of its own, in whose place it is given the harness's broker
    :param middleware: goes around the service's own
    :param grace: seconds that handlers which still run at the end get; then they are cancelled
    :param within: seconds that each wait may take unless it says otherwise
    :raises mqkit.errors.ConfigurationError: the service has no handlers, or an option cannot be
        what it was given
    :raises mqkit.errors.ConnectError: the broker is not there
    :raises mqkit.errors.TopologyError: the broker refused what the service declares
    """
    grace = checked.seconds(grace, "harness(grace=...)")
    within = checked.seconds(within, "harness(within=...)", over=0)
    async with contextlib.AsyncExitStack() as stack:
        where, advance = await place(stack, on, url)
        h = Harness(service, where, advance, within)
        await stack.enter_async_context(
            h._running(through, driver_for(service, driver), middleware, grace)  # noqa: SLF001
        )
        yield h


class Harness:
    """A service that runs in a test; made by `harness`.

    The lists hold what was seen so far, in its order:

        await h.idle()
        assert [each.message_id for each in h.handled] == [order]
        assert [each.routing_key for each in h.published] == ["order.posted"]

    A message is followed by its `message_id` from its publish to its end in a queue of the service;
    `publish` returns that id, and what the service itself published has it in `published`. Of
    messages that other clients publish the harness knows what the service did with them, and cannot
    wait for them before that.
    """

    def __init__(self, service: Service, url: str, advance: Advance | None, within: float) -> None:
        self.service = service
        self.url = url
        """The broker's URL, with the virtual host; it holds the password."""
        self._offset = 0.0
        self._watch = Watch(service, self._seconds, self.now)
        self._journeys = self._watch.journeys
        self.published = self._watch.published
        """Messages that the service published and the broker confirmed, in the order of that.

        Those of its publisher, its requests, and what its store's relay published. Not what mqkit
        publishes for it: retries, dead letters, copies for partitions, and replies, which are what
        a handler returned. Nor what the test published.
        """
        self.handled = self._watch.handled
        """Deliveries that were acknowledged: their handler returned."""
        self.retried = self._watch.retried
        """Deliveries that failed and come back, each with its `delay` and its `error`."""
        self.dead_lettered = self._watch.dead_lettered
        """Deliveries that failed and went to the dead letter queue, each with its `reason`."""
        self._advance_broker = advance
        self._outbox = Outbox(service.store)
        hint = "let that time pass with `await h.advance(seconds)`"
        if advance is None:
            hint = "wait longer (`within`), or run the test on the embedded broker"
        self._waiting = Waiting(self._journeys, self._outbox, within, hint)
        broker = BrokerUrl.parse(url)
        self._connection = Connection(broker, name=f"{service.name}.test", driver=drivers.named())
        self._publisher = Publisher.on(
            self._connection, on_confirmed=self._watch.on_own_publish, clock=self.now
        )

    async def publish(
        self, exchange: Exchange | str, routing_key: str, body: object, **properties: Any
    ) -> str:
        """Publish a message as another service would; returns its `message_id` once confirmed.

            order = await h.publish(payments, "order.accepted", {"id": "o-1"}, headers={"try": 1})

        `properties` are those of `mqkit.Publisher.publish`, which also says what it raises; the
        exchange `""` takes the name of a queue as the routing key.
        """
        return await self._publisher.publish(exchange, routing_key, body, **properties)

    async def request(
        self, route: Source | Queue, body: object, reply_type: Any, **properties: Any
    ) -> Any:
        """Ask the service as another one would, and return its reply, of type `reply_type`.

            assert await h.request(quotes.key("price"), {"id": "o-1"}, Decimal) == 5

        `properties` are those of `mqkit.Publisher.request`, which also says what it raises.
        """
        return await self._publisher.request(route, body, reply_type, **properties)

    async def listen(self, exchange: Exchange, routing_key: str = "#") -> None:
        """Bind a queue to an exchange, so that what the service publishes to it is routed.

        A publish that no queue gets is an `UnroutableError`, in a test as in production. This
        declares the exchange, and binds a queue of the test's own to it.

            await h.listen(payments, "order.posted")

        :param routing_key: as in a binding; `#` is all, on a topic exchange
        :raises mqkit.errors.ChannelClosedError: the broker has the exchange otherwise
        """
        channel = await self._connection.channel()
        if exchange.declare:
            await channel.declare_exchange(
                exchange.name,
                exchange.type,
                durable=exchange.durable,
                auto_delete=exchange.auto_delete,
                internal=exchange.internal,
                arguments=exchange.arguments,
            )
        # Exclusive: it goes with the harness's connection.
        queue = await channel.declare_queue("", durable=False, exclusive=True)
        await channel.bind_queue(queue.name, exchange.name, routing_key)

    async def outcome(
        self, message_id: str, *, queue: Queue | str | None = None, within: Seconds | None = None
    ) -> Result:
        """Wait until a message has come to its end, acknowledged or dead-lettered, and tell which.

            result = await h.outcome(order)
            assert (result.dead_lettered, result.reason) == (True, "rejected")

        Where it was published several times, it is the last one's end, once all have ended.
        `queue` must be given where several queues of the service got the message.

        :raises HarnessTimeoutError: it did not end within so many seconds, or waits for a retry
            that is due later than that
        :raises HarnessError: it went to several queues of the service, or to none
        """
        name = queue.name if isinstance(queue, Queue) else queue

        def found() -> list[Journey]:
            return self._journeys.find(message_id, name)

        if not found() and message_id in self._watch.nowhere:
            raise HarnessError(self._watch.nowhere[message_id])
        self._check_one_queue(message_id, found())
        await self._waiting.until(
            lambda: bool(found()) and all(journey.has_ended for journey in found()),
            self._waiting.deadline(within),
            f"no outcome of message {message_id}",
            lambda: [journey for journey in found() if not journey.has_ended],
        )
        self._check_one_queue(message_id, found())
        return found()[-1].result()

    async def idle(self, *, within: Seconds | None = None) -> None:
        """Wait until every message that is known here has come to its end.

        What the service published to its own queues counts, and so on; and what its store's outbox
        holds, until it is published and has come to its end, too.

            async with mqkit_harness(service) as h:
                await h.publish("payments", "order.accepted", {"id": "o-1", "amount": "5"})
                await h.idle()
                assert [each.routing_key for each in h.published] == ["order.posted"]

        :raises HarnessTimeoutError: one did not, or waits for a retry that is due too late; it
            names what is left, and where
        :raises mqkit.errors.StoreUnavailableError: the store's database is away
        """
        pending = self._journeys.unended
        deadline = self._waiting.deadline(within)
        await self._waiting.until_none(deadline, "not idle", pending, self._outbox.all)

    async def settled(self, *, within: Seconds | None = None) -> None:
        """Wait until every message has ended or waits for a retry: nothing happens without time.

        A message of the outbox that was refused waits for a retry, too.

        :raises HarnessTimeoutError: something is still under way after so many seconds
        :raises mqkit.errors.StoreUnavailableError: the store's database is away
        """
        pending = self._journeys.under_way
        deadline = self._waiting.deadline(within)
        await self._waiting.until_none(deadline, "not settled", pending, self._outbox.due)

    async def advance(self, seconds: Seconds) -> None:
        """Let time pass at once, for the embedded broker, the service's policies and its store.

            order = await h.publish("payments", "order.accepted", {"id": "o-2", "amount": "5"})
            await h.advance(3600)
            assert (await h.outcome(order)).dead_lettered

        Retries that fall due on the way are made, each at its time, and what comes of them; so
        five retries ten minutes apart are all made by `advance(3600)`. What is under way now is
        waited for first, and so is what is under way in the end. What was published with a `delay`
        that ends on the way comes at its time. A message of the outbox that was
        refused is tried again at its times, too; from its ninth attempt on, once at the end.

        Timers in the service's process are not moved: `asyncio.sleep`, a pause, and the retries of
        a handler with `order_by`, which are held there.

        :raises HarnessError: the broker is not an embedded one, or `seconds` is no time
        :raises HarnessTimeoutError: something is still under way after the default wait
        """
        if self._advance_broker is None:
            raise HarnessError(
                f"cannot advance the time of {BrokerUrl.parse(self.url)}: only the embedded "
                "broker's can be; run this test there (--mqkit-broker=embedded), or wait"
            )
        ahead = checked.as_seconds(seconds)
        if ahead is None or not 0 <= ahead <= checked.MAX_SECONDS:
            raise HarnessError(
                f"time goes forward only, by 0 to {checked.MAX_SECONDS} seconds, a number or a "
                f"timedelta, not by {checked.shown(seconds)} seconds"
            )
        target = self._seconds() + ahead
        await self.settled()
        while (due := await self._next_due()) is not None and due <= target:
            await self._move(due - self._seconds())
            await self.settled()
        await self._move(target - self._seconds())
        await self.settled()

    async def dead_letters(self, queue: Queue | str) -> list[DeadMessage]:
        """Read the dead letter queue of a queue, on the broker; the messages stay in it.

            (letter,) = await h.dead_letters("ledger.post")
            assert letter.error_message == "order o-1 has no amount"

        :raises mqkit.errors.ChannelClosedError: there is no such queue
        """
        name = queue.dead_queue if isinstance(queue, Queue) else f"{queue}{DEAD_SUFFIX}"
        channel = await self._connection.channel()
        found = []
        try:
            while (incoming := await channel.get(name)) is not None:
                found.append(dead_message(incoming))
        finally:
            # Unacknowledged: the broker puts them back in their order.
            await channel.close()
        return found

    def now(self) -> datetime:
        """Return the time by the service's clock: the wall's, and what was advanced."""
        return datetime.now(UTC) + timedelta(seconds=self._offset)

    @contextlib.asynccontextmanager
    async def _running(
        self, through: str | None, driver: Driver, middleware: Iterable[Middleware], grace: float
    ) -> AsyncIterator[None]:
        runtime = Runtime(
            without_connection(self.service),
            BrokerUrl.parse(through or self.url),
            grace=grace,
            middleware=middleware,
            connect_deadline=CONNECT_DEADLINE,
            driver=driver,
            clock=self.now,
            observer=self._watch,
        )
        await self._connection.open(CONNECT_DEADLINE)
        try:
            async with runtime:
                self._waiting.failed = failed = asyncio.create_task(runtime.failed())
                try:
                    yield
                finally:
                    failed.cancel()
                    await asyncio.wait([failed])
            if not failed.cancelled():
                failed.result()
        finally:
            self._outbox.put_back()
            await self._publisher.close(timeout=0)
            await self._connection.close()

    def _seconds(self) -> float:
        return time.monotonic() + self._offset

    async def _move(self, seconds: float) -> None:
        # The service's clock first: a delay that begins in between is then thought to end late
        # rather than early, and no message is waited for that the broker still holds.
        seconds = max(seconds, 0.0)
        self._offset += seconds
        assert self._advance_broker is not None
        await self._advance_broker(seconds)
        self._outbox.advance(seconds)

    async def _next_due(self) -> float | None:
        """Return when something that waits goes on, in seconds of the harness's clock."""
        wait = await self._outbox.next_wait()
        dues = [self._journeys.next_due(), None if wait is None else self._seconds() + wait]
        return min((due for due in dues if due is not None), default=None)

    def _check_one_queue(self, message_id: str, journeys: Sequence[Journey]) -> None:
        queues = sorted({journey.queue for journey in journeys})
        if len(queues) > 1:
            raise HarnessError(
                f"message {message_id} went to {' and '.join(queues)}: say queue=... for one"
            )
