"""Runs the demo: starts everything, sends what is planned, kills services, and adds up."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

from handlers.demo.audit import checks, is_all_done, read_books
from handlers.demo.customers import Customers
from handlers.demo.plan import Fate, Plan
from handlers.demo.report import Report
from handlers.demo.services import (
    SERVICES,
    START_TIMEOUT,
    Services,
    databases_in,
    queues_of,
    running_broker,
)
from handlers.messages import (
    BILLING,
    LEDGER,
    MONITORING,
    ORDERS,
    REFUNDS,
    RISK,
    AccountBalance,
    AskSummary,
    BalanceOf,
    CloseMonth,
    OrderExecuted,
    OrderRefused,
    RefundExecuted,
    RiskLimitOf,
    SetRiskLimit,
    Summary,
)
from handlers.running.progress import Progress
from handlers.running.queues import POLL, dead_letters, look
from mqkit import BrokerError, BrokerUrl, Outgoing, Queue, RequestError, Runtime

JSON = "application/json"

CONNECT_DEADLINE = 15.0

REQUEST_TIMEOUT = 5.0

ORDERS_DONE = "orders"
REFUNDS_DONE = "refunds"
"""What progress is shown of."""

QUIET = 1.0
"""Seconds in which nothing may move before the services are stopped."""


class DemoError(Exception):
    """The demo cannot go on; the message says what is missing."""


class Demo:
    """One run of what is planned.

    :param kill: names of services, which are killed on the way, after equal parts of the orders
    :param timeout: seconds without any progress after which it is given up
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        *,
        port: int,
        kill: Iterable[str],
        timeout: float,
        progress: Progress,
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._port = port
        self._kill = list(kill)
        self._timeout = timeout
        self._progress = progress
        self._customers = Customers(plan)
        self._databases = databases_in(folder)
        self._refunds = sum(len(planned.refunds) for planned in plan.orders)
        self._refunds += len(plan.strange_refunds)

    async def run(self) -> Report:
        """Run it, add everything up, and report.

        :raises DemoError: no progress for too long
        :raises ProcessError: the broker or a service does not start, or not end
        :raises mqkit.errors.MqkitError: the broker cannot be used
        """
        tell = self._progress.tell
        async with running_broker(self._folder, self._port, tell) as url:
            services = Services(url, self._databases, self._folder, tell)
            runtime = Runtime(
                self._customers.service, BrokerUrl.parse(url), connect_deadline=CONNECT_DEADLINE
            )
            try:
                await services.start()
                async with runtime:
                    await self._until_started(services, runtime)
                    tell(f"{len(SERVICES)} services run; their logs are in {self._folder}")
                    await self._set_up(services, runtime)
                    seconds = await self._send_orders(services, runtime)
                    await self._close_month(services, runtime)
                    monitor = await self._until_quiet(services, runtime)
                    await services.stop()
                    dead = await self._dead_letters(runtime)
            finally:
                await services.stop()
            return await self._report(monitor, services, dead, seconds)

    async def _until_started(self, services: Services, runtime: Runtime) -> None:
        for queue in queues_of(SERVICES):
            await self._until(
                services,
                lambda queue=queue: _is_consumed(runtime, queue),  # type: ignore[misc]
                f"{queue.name} has no consumer",
                within=START_TIMEOUT,
            )

    async def _set_up(self, services: Services, runtime: Runtime) -> None:
        """Open the accounts, pay in, and tell risk its limits; wait until all of it is done."""
        plan = self._plan
        await _publish(
            runtime,
            [
                *(Outgoing(LEDGER, "ledger.command.open", each) for each in plan.accounts),
                *(Outgoing(LEDGER, "ledger.command.deposit", each) for each in plan.deposits),
                *(Outgoing(RISK, "risk.limit", each) for each in plan.limits),
                *(Outgoing(RISK, "risk.refuse-partner", each) for each in plan.refused_partners),
            ],
        )
        # A request of each kind, of what came last; the queues keep their order by account.
        for account, limit in zip(plan.accounts, plan.limits, strict=True):
            of = {"account_id": account.account_id, "currency": account.currency}
            paid_in = sum(d.amount for d in plan.deposits if d.account_id == account.account_id)

            async def is_done(
                of: dict[str, object] = of, limit: SetRiskLimit = limit, paid_in: object = paid_in
            ) -> bool:
                ask = runtime.publisher.request
                balance = await ask(
                    LEDGER.key("ledger.balance"),
                    BalanceOf.model_validate(of),
                    AccountBalance,
                    timeout=REQUEST_TIMEOUT,
                )
                known = await ask(
                    RISK.key("risk.limits"),
                    RiskLimitOf.model_validate(of),
                    SetRiskLimit | None,
                    timeout=REQUEST_TIMEOUT,
                )
                return (balance.balance, known) == (paid_in, limit)

            await self._until(services, is_done, f"account {account.account_id} is not set up")

    async def _send_orders(self, services: Services, runtime: Runtime) -> float:
        """Publish all orders, kill services on the way, and return the seconds until all ended."""
        started = time.monotonic()
        publishing = asyncio.create_task(_publish(runtime, self._messages()))
        kills = self._kills()
        try:
            await self._until(
                services,
                lambda: self._have_ended(services, publishing, kills),
                "orders or refunds have no end",
            )
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
        return time.monotonic() - started

    def _messages(self) -> Iterator[Outgoing]:
        plan = self._plan
        for refund in plan.strange_refunds:
            yield Outgoing(REFUNDS, "refund.request", refund)
        for planned in plan.orders:
            yield Outgoing(ORDERS, "order.place", planned.order)
        # Under new message ids: that they are copies, only their content tells.
        for order in plan.copies:
            yield Outgoing(ORDERS, "order.place", order)
        for body in plan.bad_orders:
            yield Outgoing(ORDERS, "order.place", body, content_type=JSON)
        for body in plan.bad_refunds:
            yield Outgoing(REFUNDS, "refund.request", body, content_type=JSON)

    def _kills(self) -> list[tuple[int, str]]:
        """Say after how many ends which service is killed."""
        parts = len(self._kill) + 1
        total = len(self._plan.orders)
        return [(total * (n + 1) // parts, name) for n, name in enumerate(self._kill)]

    async def _have_ended(
        self, services: Services, publishing: asyncio.Task[None], kills: list[tuple[int, str]]
    ) -> bool:
        if publishing.done():
            publishing.result()
        ended, orders = len(self._customers.ends), len(self._plan.orders)
        refunds = len(self._customers.refund_ends)
        self._progress.show({ORDERS_DONE: ended, REFUNDS_DONE: refunds})
        if kills and ended >= kills[0][0]:
            _, name = kills.pop(0)
            await services.kill(name, f"after {ended:,} of {orders:,} orders")
        return publishing.done() and ended >= orders and refunds >= self._refunds

    async def _close_month(self, services: Services, runtime: Runtime) -> None:
        """Let billing close this month, by hand, for its fees, interest and statements."""
        month = f"{dt.datetime.now(dt.UTC):%Y-%m}"
        await runtime.publisher.publish(BILLING, "billing.close-month", CloseMonth(month=month))

        async def is_closed() -> bool:
            return bool(self._customers.months)

        await self._until(services, is_closed, f"{month} is not closed")

    async def _until_quiet(self, services: Services, runtime: Runtime) -> Summary:
        """Wait until the monitoring service hears no more, and return what it has heard."""
        seen: list[tuple[float, Summary]] = []

        async def is_quiet() -> bool:
            said = await runtime.publisher.request(
                MONITORING.key("monitoring.summary"), AskSummary(), Summary, timeout=REQUEST_TIMEOUT
            )
            if not seen or seen[-1][1] != said:
                seen.append((time.monotonic(), said))
            waiting = [await look(runtime, queue) for queue in queues_of(SERVICES)]
            if said.unsettled or any(queue.messages for queue in waiting):
                return False
            return (
                await is_all_done(self._databases, said) and time.monotonic() - seen[-1][0] >= QUIET
            )

        await self._until(services, is_quiet, "events still come, or orders are not settled")
        return seen[-1][1]

    async def _dead_letters(self, runtime: Runtime) -> dict[str, int]:
        found = {q.name: await dead_letters(runtime, q) for q in queues_of(SERVICES)}
        return {name: number for name, number in sorted(found.items()) if number}

    async def _until(
        self,
        services: Services,
        is_so: Callable[[], Awaitable[bool]],
        otherwise: str,
        *,
        within: float | None = None,
    ) -> None:
        """Wait until something is so, as long as anything moves.

        :raises DemoError: nothing moved for too long
        :raises ProcessError: a service has ended
        """
        timeout = self._timeout if within is None else within
        state, moved = self._state(), time.monotonic()
        while True:
            services.check()
            with contextlib.suppress(RequestError, BrokerError):  # one that was just killed
                if await is_so():
                    return
            now = time.monotonic()
            if self._state() != state:
                state, moved = self._state(), now
            elif now - moved > timeout:
                raise DemoError(f"nothing moved for {timeout:g} s: {otherwise}")
            await asyncio.sleep(POLL)

    def _state(self) -> tuple[int, ...]:
        known = self._customers
        return len(known.ends), len(known.refund_ends), len(known.months)

    async def _report(
        self, monitor: Summary, services: Services, dead: dict[str, int], seconds: float
    ) -> Report:
        plan, customers = self._plan, self._customers
        books = await read_books(self._databases)
        bad = len(plan.bad_orders) + len(plan.bad_refunds)
        refunds = Counter(
            "executed" if isinstance(end, RefundExecuted) else "refused"
            for end in customers.refund_ends.values()
        )
        return Report(
            orders=len(plan.orders),
            seconds=seconds,
            ends=dict(_ends(plan, customers)),
            refunds=refunds,
            copies=len(plan.copies),
            bad=bad,
            dead_letters=dead,
            killed=tuple(services.killed),
            books=books,
            checks=tuple(checks(plan, customers, books, monitor, dead)),
            events=sum(count.number for count in monitor.counts),
        )


async def _is_consumed(runtime: Runtime, queue: Queue) -> bool:
    return (await look(runtime, queue)).is_consumed


async def _publish(runtime: Runtime, messages: Iterable[Outgoing]) -> None:
    async for result in runtime.publisher.publish_many(messages):
        if result.error is not None:
            raise DemoError(f"a message could not be published: {result.error}")


def _ends(plan: Plan, customers: Customers) -> Counter[str]:
    """Count how orders ended; of those that are refused, why they were planned to be."""
    ends: Counter[str] = Counter()
    for planned in plan.orders:
        end = customers.ends.get(planned.order.order_id)
        if isinstance(end, OrderExecuted):
            ends["executed"] += 1
        elif isinstance(end, OrderRefused) and planned.fate is Fate.SOME_OF_MANY:
            ends["refused: too many within the window"] += 1
        elif isinstance(end, OrderRefused):
            ends[f"refused{'' if planned.fate is Fate.EXECUTED else planned.fate[7:]}"] += 1
        else:
            ends["without an end"] += 1
    return Counter(dict(ends.most_common()))
