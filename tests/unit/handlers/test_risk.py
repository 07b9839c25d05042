"""The risk service: its rule, and its handlers called directly in a store's transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers import risk
from handlers.messages import (
    LONG,
    CheckRisk,
    Currency,
    Partner,
    RefusePartner,
    RiskAnswered,
    RiskLimitOf,
    SetRiskLimit,
)
from handlers.records import risk as records
from mqkit import Reject
from mqkit.store import Store
from tests.postgres import PostgresServer
from tests.unit.handlers.services import HandClock, emptied, opened

ORDER_PARTNER = Partner(bank="QR", account="13943797")


def order(number: object = 1, amount: str = "10.00", account: int = 576, **more: Any) -> CheckRisk:
    """A check of an order."""
    return CheckRisk(
        order_id=str(number),
        account_id=account,
        partner=more.pop("partner", ORDER_PARTNER),
        amount=Decimal(amount),
        currency=more.pop("currency", Currency.CZK),
    )


def limit(most: str = "100.00", orders: int = 2, window: float = 60.0) -> SetRiskLimit:
    """A limit of the account whose orders `order` makes."""
    return SetRiskLimit(
        account_id=576,
        currency=Currency.CZK,
        most_per_order=Decimal(most),
        most_orders=orders,
        window=window,
    )


class FixedScorer:
    """Scores each order alike."""

    def __init__(self, score: int) -> None:
        self._score = score

    async def score(self, checks: Sequence[CheckRisk]) -> Sequence[int]:
        return [self._score for _ in checks]


async def answered(
    store: Store,
    *batch: CheckRisk,
    clock: HandClock | None = None,
    scorer: risk.Scorer | None = None,
) -> list[RiskAnswered | Reject]:
    """Run the batch, and return what became of each check."""
    async with store.transaction() as transaction:
        results = await risk.check(
            list(batch), transaction, scorer or risk.TrustingScorer(), clock or HandClock()
        )
        published = iter(transaction.messages)
        return [
            each or RiskAnswered.model_validate_json(next(published)[1].body) for each in results
        ]


async def passed(store: Store, *batch: CheckRisk, **more: Any) -> list[bool]:
    """Run the batch, and return whether each of its orders passed."""
    return [
        isinstance(each, RiskAnswered) and each.passed
        for each in await answered(store, *batch, **more)
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"limit": limit("10.00")}, ""),
        ({"limit": limit("9.99")}, "10.00 CZK is over 9.99 CZK an order"),
        ({"limit": limit("9.9")}, "10.00 CZK is over 9.90 CZK an order"),
        ({"passed": 1}, ""),
        ({"passed": 2}, "2 orders passed within 60 s, which is all that may"),
        ({"limit": limit(orders=0)}, "0 orders passed within 60 s, which is all that may"),
        ({"score": 80}, ""),
        ({"score": 81}, "its score of 81 is over 80"),
        ({"refused": ""}, "partner 13943797 at bank QR is refused: "),
        ({"refused": "fraud"}, "partner 13943797 at bank QR is refused: fraud"),
    ],
)
def test_an_order_passes_that_no_rule_refuses(changes: dict[str, Any], reason: str) -> None:
    """Each rule refuses from its bound on, and says what of the order is over it."""
    given_ = {"limit": limit(), "passed": 0, "refused": None, "score": 0, **changes}
    answer = risk.judge(order(), **given_)
    assert (answer.passed, answer.reason) == (not reason, reason)


def test_a_long_reason_is_cut() -> None:
    """A partner's reason of full length fits into the answer, whatever stands before it."""
    answer = risk.judge(order(), limit(), 0, "x" * LONG, 0)
    assert (answer.passed, len(answer.reason)) == (False, LONG)


async def test_an_order_is_judged_once(database: str) -> None:
    """Asked again, in the same batch or later, it gets its first answer and counts no more."""
    async with opened(database, records.metadata) as store:
        async with store.transaction() as transaction:
            await risk.set_limit(limit(orders=2), transaction)
        assert await passed(store, order(1), order(1)) == [True, True]
        assert await passed(store, order(1), order(2), order(3)) == [True, True, False]
        async with store.transaction() as transaction:
            refused = RefusePartner(partner=ORDER_PARTNER, reason="fraud")
            await risk.refuse_partner(refused, transaction)
        assert await passed(store, order(1), order(3), order(4)) == [True, False, False]


async def test_an_order_of_another_content_is_rejected_alone(database: str) -> None:
    """It gets no answer, and what stands beside it in the batch gets one."""
    async with opened(database, records.metadata) as store:
        first, again, other = await answered(store, order(1), order(1, "11.00"), order(2))
        assert isinstance(first, RiskAnswered)
        assert isinstance(other, RiskAnswered)
        assert isinstance(again, Reject)
        assert str(again) == "order 1 was checked before, with another content"
        assert await passed(store, order(1)) == [True]


async def test_amounts_that_are_equal_are_the_same_content(database: str) -> None:
    """10 and 10.00 are one amount, from a message and from either database."""
    async with opened(database, records.metadata) as store:
        assert await passed(store, order(1, "10")) == [True]
        assert await passed(store, order(1, "10.00"), order(1, "10.0")) == [True, True]


async def test_accounts_and_currencies_have_limits_of_their_own(database: str) -> None:
    """What one account may not, another one may, and the same one in another currency."""
    async with opened(database, records.metadata) as store:
        async with store.transaction() as transaction:
            await risk.set_limit(limit(orders=5), transaction)
            await risk.set_limit(limit(orders=0), transaction)
            asked = RiskLimitOf(account_id=576, currency=Currency.CZK)
            assert await risk.limit_of(asked, transaction) == limit(orders=0)
            other = RiskLimitOf(account_id=576, currency=Currency.EUR)
            assert await risk.limit_of(other, transaction) is None
        batch = order(1), order(2, account=577), order(3, currency=Currency.EUR)
        assert await passed(store, *batch) == [False, True, True]


async def test_without_a_limit_the_default_holds(database: str) -> None:
    """So much an order, and so many orders within a window; then the next one passes."""
    clock = HandClock()
    async with opened(database, records.metadata) as store:
        over = risk.MOST_PER_ORDER + Decimal("0.01")
        assert await passed(store, order(0, str(over)), clock=clock) == [False]
        many = [order(number) for number in range(1, risk.MOST_ORDERS + 2)]
        assert await passed(store, *many, clock=clock) == [True] * risk.MOST_ORDERS + [False]
        clock.advance(risk.WINDOW)
        assert await passed(store, order("later"), clock=clock) == [True]


async def test_an_order_that_scores_high_is_refused(database: str) -> None:
    """The provider's score counts for each order of the batch."""
    async with opened(database, records.metadata) as store:
        assert await passed(store, order(1), order(2), scorer=FixedScorer(81)) == [False, False]


async def test_batches_at_the_same_time_count_each_other(
    postgres: PostgresServer, name: str
) -> None:
    """Of two transactions that both have begun, only one lets the account's one order pass."""
    url = postgres.create_database(name)
    both = asyncio.Barrier(2)

    class Meeting:
        async def score(self, checks: Sequence[CheckRisk]) -> Sequence[int]:
            await both.wait()
            return [0 for _ in checks]

    try:
        async with opened(url, records.metadata) as store:
            async with store.transaction() as transaction:
                await risk.set_limit(limit(orders=1), transaction)
            runs = [passed(store, order(number), scorer=Meeting()) for number in (1, 2)]
            results = await asyncio.gather(*runs)
        assert sorted(results) == [[False], [True]]
    finally:
        postgres.drop_database(name)


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 1.0, 9.5, 10.0, 29.5, 30.0]),  # seconds that pass before it
        st.lists(  # the batch: order, account
            st.tuples(st.integers(1, 12), st.sampled_from([576, 577])), min_size=1, max_size=5
        ),
    ),
    max_size=8,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS, most=st.integers(0, 4), window=st.sampled_from([0.5, 10.0, 30.0]))
async def test_the_window_slides(
    database: str, steps: list[tuple[float, list[tuple[int, int]]]], most: int, window: float
) -> None:
    """An order passes if less than so many others of its account passed in the window before it."""
    clock, seconds = HandClock(), 0.0
    first: dict[str, bool] = {}
    times: dict[int, list[float]] = {576: [], 577: []}
    async with emptied(database, records.metadata) as store:
        async with store.transaction() as transaction:
            for account in times:
                each = limit(orders=most, window=window).model_copy(update={"account_id": account})
                await risk.set_limit(each, transaction)
        for wait, wanted in steps:
            seconds += wait
            clock.advance(wait)
            batch = [order(f"{account}-{n}", account=account) for n, account in wanted]
            results = await passed(store, *batch, clock=clock)
            for asked, result in zip(batch, results, strict=True):
                if asked.order_id not in first:
                    within = [at for at in times[asked.account_id] if seconds - at < window]
                    first[asked.order_id] = len(within) < most
                    if first[asked.order_id]:
                        times[asked.account_id].append(seconds)
                assert result == first[asked.order_id]
