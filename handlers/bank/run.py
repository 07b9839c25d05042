"""Posts a statement, has all services pay the standing orders, and reconciles every account."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tenacity import stop_after_attempt, wait_none

from handlers.accounting.rules import ZERO
from handlers.bank.books import End, Report, counted, paid_by_account, read_books
from handlers.demo.services import SERVICES, START_TIMEOUT, Services, queues_of
from handlers.messages import MONITORING, ORDERS, AskSummary, OrderExecuted, OrderRefused, Summary
from handlers.replay.replay import Replay
from handlers.replay.report import Report as Replayed
from handlers.replay.standing_orders import Placed, place_orders
from handlers.replay.statement_file import Statement
from handlers.running.progress import Progress
from handlers.running.queues import POLL, dead_letters, look
from mqkit import BrokerUrl, Queue, Retry, Runtime, Service
from mqkit.store import Store

ORDERS_DONE = "orders"
"""What progress is shown of, besides the replay's."""

CONNECT_DEADLINE = 15.0
REQUEST_TIMEOUT = 10.0


class BankError(Exception):
    """The run cannot go on; the message says what is missing."""


class Ends:
    """Hears how orders end; a service of its own."""

    def __init__(self) -> None:
        self.ends: dict[str, End] = {}
        self.twice: list[str] = []
        """Orders that had two ends."""
        self.service = Service(
            "bank",
            publishes=[ORDERS, MONITORING],
            retry=Retry(stop=stop_after_attempt(3), wait=wait_none()),
        )
        keys = [ORDERS.key(f"order.{end}") for end in ("executed", "refused")]
        self.service.handler(Queue("bank.ends"), bind=keys, prefetch=300)(self.on_end)

    async def on_end(self, end: OrderExecuted | OrderRefused) -> None:
        """Note the end; the same one may come again."""
        if self.ends.setdefault(end.order_id, end) != end:
            self.twice.append(end.order_id)


class Bank:
    """One run, on services that are started for it, whose databases are empty.

    :param timeout: seconds without any progress after which it is given up
    """

    def __init__(
        self,
        statement: Statement,
        orders: Path,
        url: str,
        services: Services,
        *,
        timeout: float,
        progress: Progress,
    ) -> None:
        self._statement = statement
        self._orders = orders
        self._url = url
        self._services = services
        self._timeout = timeout
        self._progress = progress
        self._known = Ends()

    async def run(self) -> Report:
        """Post, pay, reconcile, and report.

        :raises BankError: no progress for too long
        :raises ReplayError: the same, of the statement
        :raises ProcessError: a service does not start, or not end
        :raises LedgerError: the ledger's database cannot be used
        :raises mqkit.errors.MqkitError: the broker cannot be used
        """
        ledger = self._services.databases["ledger"]
        replay = Replay(
            self._statement, self._url, ledger, timeout=self._timeout, progress=self._progress
        )
        statement = await replay.run()
        runtime = Runtime(
            self._known.service, BrokerUrl.parse(self._url), connect_deadline=CONNECT_DEADLINE
        )
        try:
            await self._services.start()
            async with runtime:
                dead_before = await _dead_letters(runtime)
                await self._until_started(runtime)
                started = time.monotonic()
                placed = await place_orders(self._orders, runtime.publisher, self._progress.tell)
                await self._until(lambda: self._have_ended(placed), "orders have no end")
                seconds = time.monotonic() - started
                monitor = await self._until_quiet(runtime)
                await self._services.stop()
                dead = await _dead_letters(runtime)
        finally:
            await self._services.stop()
        new = {name: n - dead_before.get(name, 0) for name, n in dead.items()}
        return await self._report(statement, placed, monitor, new, seconds)

    async def _until_started(self, runtime: Runtime) -> None:
        waiting = queues_of(SERVICES)

        async def are_consumed() -> bool:
            while waiting and (await look(runtime, waiting[-1])).is_consumed:
                waiting.pop()
            return not waiting

        await self._until(are_consumed, "a queue has no consumer", within=START_TIMEOUT)

    async def _have_ended(self, placed: Placed) -> bool:
        self._progress.show({ORDERS_DONE: len(self._known.ends)})
        return len(self._known.ends) >= placed.placed

    async def _until_quiet(self, runtime: Runtime) -> Summary:
        """Wait until all that was committed is published and handled, the monitor's part too."""
        heard: list[Summary] = []

        async def is_quiet() -> bool:
            for url in self._services.databases.values():
                async with Store(url, relay=False) as store:
                    if await store.pending():
                        return False
            for queue in queues_of(SERVICES):
                if (await look(runtime, queue)).messages:
                    return False
            route = MONITORING.key("monitoring.summary")
            heard.append(
                await runtime.publisher.request(
                    route, AskSummary(), Summary, timeout=REQUEST_TIMEOUT
                )
            )
            return not heard[-1].unsettled and heard[-2:-1] == heard[-1:]

        await self._until(is_quiet, "messages are under way, or orders are not settled")
        return heard[-1]

    async def _until(
        self, is_so: Callable[[], Awaitable[bool]], otherwise: str, *, within: float | None = None
    ) -> None:
        timeout = self._timeout if within is None else within
        ended, moved = len(self._known.ends), time.monotonic()
        while not await is_so():
            self._services.check()
            if len(self._known.ends) != ended:
                ended, moved = len(self._known.ends), time.monotonic()
            elif time.monotonic() - moved > timeout:
                raise BankError(
                    f"nothing moved for {timeout:g} s: {otherwise}; {ended} orders have ended"
                )
            await asyncio.sleep(POLL)

    async def _report(
        self,
        statement: Replayed,
        placed: Placed,
        monitor: Summary,
        dead: dict[str, int],
        seconds: float,
    ) -> Report:
        ends = self._known.ends
        total, wrong = await read_books(self._services.databases["ledger"], statement, ends)
        wrong += [f"order {order_id} has two ends" for order_id in self._known.twice]
        wrong += [f"alert: {each.invariant}: {each.what}" for each in monitor.latest_alerts]
        if placed.failed:
            wrong.append(f"{placed.failed} orders could not be published")
        if total != statement.reconciliation.total - sum(paid_by_account(ends).values()):
            wrong.append("the sum of the balances is not the statement's less what was paid")
        return Report(
            statement=statement,
            placed=placed.placed,
            bad_rows=placed.bad,
            ends=counted(ends),
            compensated=sum(isinstance(e, OrderRefused) and e.compensated for e in ends.values()),
            paid=sum(paid_by_account(ends).values(), ZERO),
            total=total,
            wrong=tuple(wrong),
            dead={name: number for name, number in dead.items() if number},
            seconds=seconds,
        )


async def _dead_letters(runtime: Runtime) -> dict[str, int]:
    return {queue.name: await dead_letters(runtime, queue) for queue in queues_of(SERVICES)}
