"""Runs the demo: starts everything, sends what is planned, kills services, and adds up."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import time
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable

from handlers.demo.audit import checks, is_all_done, read_books
from handlers.demo.customers import Customers
from handlers.demo.plan import Fate, Plan
from handlers.demo.report import Report
from handlers.demo.services import (
    SERVICES,
    START_TIMEOUT,
    Services,
    queues_of,
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
from mqkit import BrokerError, BrokerUrl, Exchange, Outgoing, RequestError, Runtime

JSON = "application/json"

DEFAULT_WINDOW = 2000

ASKED_AT_ONCE = 50
"""Accounts that are asked about at a time."""

CONNECT_DEADLINE = 15.0

REQUEST_TIMEOUT = 5.0

ORDERS_DONE = "orders"
REFUNDS_DONE = "refunds"
"""What progress is shown of."""

QUIET = 1.0
"""Seconds in which nothing may move before the services are stopped."""


class DemoError(Exception):
    """The demo cannot go on; the message says what is missing."""


Trouble = Callable[[int], Awaitable[None]]
"""Is called again and again while orders end, with how many have; it may kill what it likes."""


class Demo:
    """One run of what is planned, on services that are started for it.

    :param trouble: what goes wrong on the way
    :param timeout: seconds without any progress after which it is given up
    :param window: orders at most that are sent and have no end
    :param most_sent: says how many may be sent until now; None is no limit
    """

    def __init__(
        self,
        plan: Plan,
        url: str,
        services: Services,
        *,
        trouble: Trouble,
        timeout: float,
        progress: Progress,
        window: int = DEFAULT_WINDOW,
        most_sent: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._plan = plan
        self._url = url
        self._services = services
        self._trouble = trouble
        self._timeout = timeout
        self._window = window
        self._most_sent = most_sent
        self._progress = progress
        self._customers = Customers(plan)
        self._refunds = refunds_of(plan)

    async def run(self) -> Report:
        """Run it, add everything up, and report.

        :raises DemoError: no progress for too long
        :raises ProcessError: the broker or a service does not start, or not end
        :raises mqkit.errors.MqkitError: the broker cannot be used
        """
        services = self._services
        runtime = Runtime(
            self._customers.service, BrokerUrl.parse(self._url), connect_deadline=CONNECT_DEADLINE
        )
        try:
            await services.start()
            async with runtime:
                await self._until_started(runtime)
                self._progress.tell(
                    f"{len(SERVICES)} services run; their logs are in {services.folder}"
                )
                await self._set_up(runtime)
                seconds = await self._send_orders(runtime)
                await self._close_month(runtime)
                monitor = await self._until_quiet(runtime)
                await services.stop()
                dead = await _dead_letters(runtime)
        finally:
            await services.stop()
        return await self._report(monitor, dead, seconds)

    async def _until_started(self, runtime: Runtime) -> None:
        waiting = queues_of(SERVICES)

        async def are_consumed() -> bool:
            while waiting and (await look(runtime, waiting[-1])).is_consumed:
                waiting.pop()
            return not waiting

        await self._until(are_consumed, "a queue has no consumer", within=START_TIMEOUT)

    async def _set_up(self, runtime: Runtime) -> None:
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
        waiting = list(plan.limits)
        paid_in: Counter[int] = Counter()
        for deposit in plan.deposits:
            paid_in[deposit.account_id] += int(deposit.amount * 100)

        async def is_set_up(limit: SetRiskLimit) -> bool:
            of = {"account_id": limit.account_id, "currency": limit.currency}
            ask = functools.partial(runtime.publisher.request, timeout=REQUEST_TIMEOUT)
            question = BalanceOf.model_validate(of)
            has = await ask(LEDGER.key("ledger.balance"), question, AccountBalance)
            known = await ask(
                RISK.key("risk.limits"), RiskLimitOf.model_validate(of), SetRiskLimit | None
            )
            return bool(has.balance * 100 == paid_in[limit.account_id] and known == limit)

        async def are_set_up() -> bool:
            some = waiting[-ASKED_AT_ONCE:]
            done = await asyncio.gather(*map(is_set_up, some))
            waiting[-ASKED_AT_ONCE:] = [
                e for e, is_done in zip(some, done, strict=True) if not is_done
            ]
            return not waiting

        await self._until(are_set_up, "accounts are not set up", counts=lambda: len(waiting))

    async def _send_orders(self, runtime: Runtime) -> float:
        """Publish all orders, with trouble on the way; return the seconds until all have ended."""
        started = time.monotonic()
        publishing = asyncio.create_task(_publish(runtime, self._messages()))
        try:
            await self._until(lambda: self._have_ended(publishing), "orders or refunds have no end")
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
        return time.monotonic() - started

    async def _messages(self) -> AsyncIterator[Outgoing]:
        plan = self._plan
        for refund in plan.strange_refunds:
            yield Outgoing(REFUNDS, "refund.request", refund, message_id=refund.refund_id)
        for number, planned in enumerate(plan.orders):
            while not self._may_send(number):
                await self._customers.heard(within=POLL)
            order = planned.order
            yield Outgoing(ORDERS, "order.place", order, message_id=order.order_id)
        # Under other message ids: that they are copies, only their content tells.
        for order in plan.copies:
            yield Outgoing(ORDERS, "order.place", order, message_id=f"copy-of-{order.order_id}")
        for number, body in enumerate(plan.bad_orders):
            yield _bad(ORDERS, "order.place", body, number)
        for number, body in enumerate(plan.bad_refunds):
            yield _bad(REFUNDS, "refund.request", body, number)

    def _may_send(self, number: int) -> bool:
        most = self._most_sent()
        return number - len(self._customers.ends) < self._window and (most is None or number < most)

    async def _have_ended(self, publishing: asyncio.Task[None]) -> bool:
        if publishing.done():
            publishing.result()
        ended, refunds = len(self._customers.ends), len(self._customers.refund_ends)
        self._progress.show({ORDERS_DONE: ended, REFUNDS_DONE: refunds})
        await self._trouble(ended)
        return publishing.done() and ended >= len(self._plan.orders) and refunds >= self._refunds

    async def _close_month(self, runtime: Runtime) -> None:
        """Let billing close this month, by hand, for its fees, interest and statements."""
        month = f"{dt.datetime.now(dt.UTC):%Y-%m}"
        await runtime.publisher.publish(BILLING, "billing.close-month", CloseMonth(month=month))

        async def is_closed() -> bool:
            return bool(self._customers.months)

        await self._until(is_closed, f"{month} is not closed")

    async def _until_quiet(self, runtime: Runtime) -> Summary:
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
                await is_all_done(self._services.databases, said)
                and time.monotonic() - seen[-1][0] >= QUIET
            )

        await self._until(is_quiet, "events still come, or orders are not settled")
        return seen[-1][1]

    async def _until(
        self,
        is_so: Callable[[], Awaitable[bool]],
        otherwise: str,
        *,
        within: float | None = None,
        counts: Callable[[], int] = int,
    ) -> None:
        """Wait until something is so, as long as anything moves.

        :raises DemoError: nothing moved for too long
        :raises ProcessError: a service has ended
        """
        timeout = self._timeout if within is None else within
        state, moved = (*self._state(), counts()), time.monotonic()
        while True:
            self._services.check()
            with contextlib.suppress(RequestError, BrokerError):  # one that was just killed
                if await is_so():
                    return
            now, before = time.monotonic(), state
            state = (*self._state(), counts())
            if state != before:
                moved = now
            elif now - moved > timeout:
                raise DemoError(f"nothing moved for {timeout:g} s: {otherwise}")
            await asyncio.sleep(POLL)

    def _state(self) -> tuple[int, ...]:
        known = self._customers
        return len(known.ends), len(known.refund_ends), len(known.months)

    async def _report(self, monitor: Summary, dead: dict[str, int], seconds: float) -> Report:
        plan, customers = self._plan, self._customers
        books = await read_books(self._services.databases)
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
            killed=tuple(self._services.killed),
            books=books,
            checks=tuple(checks(plan, customers, books, monitor, dead)),
            events=sum(count.number for count in monitor.counts),
        )


def _bad(exchange: Exchange, key: str, body: bytes, number: int) -> Outgoing:
    return Outgoing(exchange, key, body, message_id=f"bad-{key}-{number}", content_type=JSON)


def refunds_of(plan: Plan) -> int:
    """Count the refunds that are asked for."""
    return sum(len(planned.refunds) for planned in plan.orders) + len(plan.strange_refunds)


async def _dead_letters(runtime: Runtime) -> dict[str, int]:
    found = {q.name: await dead_letters(runtime, q) for q in queues_of(SERVICES)}
    return {name: number for name, number in sorted(found.items()) if number}


async def _publish(
    runtime: Runtime, messages: Iterable[Outgoing] | AsyncIterable[Outgoing]
) -> None:
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
