"""The monitoring service, its handlers called directly."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from handlers.invariants import Event
from handlers.messages import Alert, AskSummary, Invariant, JudgeOrders, Summary
from handlers.monitoring import GRACE, JUDGE_EVERY, LATE, summary, watch
from handlers.records import monitoring as records
from mqkit.codec import BodyDecoder
from mqkit.message import Properties
from mqkit.store import Store
from tests.unit.handlers.histories import BROKEN, DEADLINE, NOON, Payment
from tests.unit.handlers.services import HandClock, opened

OVER = NOON + dt.timedelta(seconds=LATE + JUDGE_EVERY)


class Monitor:
    """Gives batches to the handler, each in a transaction, and keeps what it publishes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.alerts: list[Alert] = []
        self.judgements: list[dt.datetime] = []

    async def watch(self, *events: Event | JudgeOrders, now: dt.datetime = NOON) -> None:
        async with self._store.transaction() as transaction:
            await watch(list(events), transaction, HandClock(now))
            for _, message in transaction.messages:
                if message.routing_key.startswith("alert."):
                    self.alerts.append(Alert.model_validate_json(message.body))
                else:
                    judge = JudgeOrders.model_validate_json(message.body)
                    self.judgements.append(judge.at)

    async def over(self) -> None:
        """Let the time of all orders be over."""
        await self.watch(JudgeOrders(at=OVER))

    async def summary(self) -> Summary:
        async with self._store.transaction() as transaction:
            return await summary(AskSummary(), transaction)


@asynccontextmanager
async def monitor_on(database: str) -> AsyncIterator[Monitor]:
    async with opened(database, records.metadata) as store:
        yield Monitor(store)


@pytest.fixture
async def monitor(database: str) -> AsyncIterator[Monitor]:
    async with monitor_on(database) as monitor:
        yield monitor


@pytest.mark.parametrize("what", BROKEN)
async def test_each_broken_history_raises_its_alert_once(tmp_path: Path, what: str) -> None:
    """In whatever order it is heard, also twice, there is one alert that names what it is about."""
    invariant, about, history = BROKEN[what]
    for seed in range(3):
        chance = random.Random(seed)
        events = history()
        # Of two contents under one key, the second one is wrong.
        chance.shuffle(events)
        async with monitor_on(f"sqlite:///{tmp_path / str(seed)}") as monitor:
            for event in events:
                await monitor.watch(event)
            await monitor.over()
            await monitor.watch(*events)
            await monitor.over()
            assert [(a.invariant, a.about) for a in monitor.alerts].count((invariant, about)) == 1


def right_histories() -> list[Event]:
    """Write ten orders with every right end, and refunds."""
    events: list[Event] = []
    for number in range(10):
        payment = Payment(f"o-{number}", Decimal(number + 1), account_id=number % 3)
        if number % 3 == 0:
            events += payment.executed_history(payment.amount / 2, payment.amount / 2)
        elif number % 3 == 1:
            events += payment.released_history()
        else:
            events += payment.refused_history()
    return events


@given(st.randoms(use_true_random=False), st.integers(1, 30))
@settings(max_examples=15, phases=[Phase.explicit, Phase.generate])
def test_no_interleaving_of_right_histories_raises_an_alert(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random, size: int
) -> None:
    """Whichever event comes first, in whatever batches, some of them twice."""
    events = right_histories()
    events += chance.sample(events, 10)
    chance.shuffle(events)

    async def told() -> tuple[list[Alert], Summary]:
        path = tmp_path_factory.mktemp("monitor") / "monitoring.sqlite"
        async with monitor_on(f"sqlite:///{path}") as monitor:
            for start in range(0, len(events), size):
                await monitor.watch(*events[start : start + size])
                # Before its time is over, no order misses anything.
                await monitor.watch(JudgeOrders(at=DEADLINE + dt.timedelta(seconds=GRACE - 1)))
            await monitor.over()
            return monitor.alerts, await monitor.summary()

    alerts, said = asyncio.run(told())
    assert alerts == []
    assert (said.alerts, said.unsettled) == (0, 0)
    (totals,) = said.totals
    assert totals.debits == totals.credits == Decimal("44.00")
    assert totals.held == 0


def after_deadline(seconds: float) -> JudgeOrders:
    return JudgeOrders(at=DEADLINE + dt.timedelta(seconds=seconds))


async def test_an_end_is_missing_soon_after_the_deadline(monitor: Monitor) -> None:
    """An order is judged after its deadline and a grace for an event that is late, and once."""
    await monitor.watch(*Payment("o-1").executed_history()[:-2])
    for late in (-1.0, GRACE - 1):
        await monitor.watch(after_deadline(late))
        assert monitor.alerts == []
    assert (await monitor.summary()).unsettled == 1
    await monitor.watch(after_deadline(GRACE))
    assert [alert.invariant for alert in monitor.alerts] == [Invariant.ORDER_IN_TIME]
    await monitor.over()
    assert len(monitor.alerts) == 1
    assert (await monitor.summary()).unsettled == 0


async def test_what_else_is_missing_may_be_late(monitor: Monitor) -> None:
    """A service that is away for minutes, and its events with it, is no alert."""
    payment = Payment("o-1")
    events = payment.executed_history()
    await monitor.watch(*(event for event in events if event != payment.paid()))
    await monitor.watch(after_deadline(GRACE))
    await monitor.watch(JudgeOrders(at=NOON + dt.timedelta(seconds=LATE - 1)))
    assert monitor.alerts == []
    await monitor.over()
    found = {alert.invariant for alert in monitor.alerts}
    assert found == {Invariant.HOLDS_ADD_UP, Invariant.ONE_EFFECT}


async def test_orders_are_judged_by_few_messages(monitor: Monitor) -> None:
    """Two times for all orders of some seconds: after their deadline, and when all is late."""
    for number in range(20):
        await monitor.watch(Payment(f"o-{number}").accepted())
    due, late = sorted(monitor.judgements)
    assert GRACE <= (due - DEADLINE).total_seconds() <= GRACE + JUDGE_EVERY
    assert LATE <= (late - NOON).total_seconds() <= LATE + JUDGE_EVERY


async def test_what_comes_after_the_judgement_is_judged_again(monitor: Monitor) -> None:
    """A refund of an order that was settled long ago is heard, and is missing its posting."""
    payment = Payment("o-1")
    await monitor.watch(*payment.executed_history())
    await monitor.over()
    later = DEADLINE + dt.timedelta(days=30)
    await monitor.watch(payment.refunded(1, Decimal("1.00")), now=later)
    late = later + dt.timedelta(seconds=LATE)
    assert monitor.judgements[-1] >= late
    await monitor.watch(JudgeOrders(at=late - dt.timedelta(seconds=1)))
    assert monitor.alerts == []
    await monitor.watch(JudgeOrders(at=late))
    assert [alert.about for alert in monitor.alerts] == ["refund-o-1-1"]


async def test_the_summary_counts_each_event_once(monitor: Monitor) -> None:
    """By kind and currency, with their sums; a copy of an event counts as nothing."""
    events = [event for n in range(3) for event in Payment(f"o-{n}").executed_history()]
    for _ in range(2):
        await monitor.watch(*events)
    said = await monitor.summary()
    counted = {(c.kind, c.detail, c.currency): (c.number, c.amount) for c in said.counts}
    ten = Decimal("30.00")
    assert counted == {
        ("accepted", "accepted", "CZK"): (3, ten),
        ("hold", "placed", "CZK"): (3, ten),
        ("hold-end", "executed", "CZK"): (3, ten),
        ("posting", "execute", "CZK"): (3, ten),
        ("end", "executed", "CZK"): (3, ten),
        ("refund", "refused", "CZK"): (3, 2 * ten),
    }


@pytest.mark.parametrize("events", [right_histories(), *(BROKEN[what][2]() for what in BROKEN)])
def test_each_event_is_read_as_what_it_is(events: Sequence[Event]) -> None:
    """One queue has them all, and no event is a body of another's type."""
    decoder = BodyDecoder(Event | JudgeOrders)
    json = Properties(content_type="application/json")
    for event in events:
        read = decoder.decode(event.model_dump_json().encode(), json)
        assert (type(read), read) == (type(event), event)
