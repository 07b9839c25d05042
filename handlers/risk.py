"""The risk service: answers whether an order may be executed, and why not.

It answers a hundred checks in one transaction, as they share a commit and one call of the provider
that scores them. An order is judged once: who asks again, and under whatever message id, gets the
first answer, and the order counts once towards its account's velocity.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol

from tenacity import retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from handlers.clock import Clock
from handlers.databases import configured, keep_tables
from handlers.messages import (
    LONG,
    RISK,
    CheckRisk,
    Currency,
    RefusePartner,
    RiskAnswered,
    RiskLimitOf,
    SetRiskLimit,
)
from handlers.records import risk as records
from mqkit import Pause, Queue, Reject, Retry, Service
from mqkit.errors import StatementError
from mqkit.store import Store, Transaction

MOST_PER_ORDER = Decimal("100000.00")
MOST_ORDERS = 100
WINDOW = 60.0
"""The limit of an account that none was set for: so much in one order, in any currency, and so many
orders within so many seconds."""

HIGHEST_SCORE = 80
"""An order that scores higher is refused."""


class ScorerDownError(Exception):
    """The provider that scores orders does not answer."""


class Scorer(Protocol):
    """Scores orders by how likely they are fraud, from 0 to 100: a provider's API, say."""

    async def score(self, checks: Sequence[CheckRisk]) -> Sequence[int]:
        """Return a score for each order.

        :raises ScorerDownError: it does not answer; the messages wait until it does
        """
        ...


class TrustingScorer:
    """Stands in for a provider: never fails, and suspects nobody."""

    async def score(self, checks: Sequence[CheckRisk]) -> Sequence[int]:
        """Return 0 for each order."""
        return [0 for _ in checks]


def make_scorer() -> Scorer:
    """Make the client of the provider, once for the service's life."""
    return TrustingScorer()


store = Store(configured("risk"))
service = Service(
    "risk",
    store=store,
    publishes=[RISK.carries("risk.answered", RiskAnswered)],
    retry=Retry(
        stop=stop_after_attempt(10),
        wait=wait_exponential_jitter(multiplier=0.5, max=60),
        retry=retry_if_exception_type((StatementError, ScorerDownError)),
    ),
)
keep_tables(service, store, records.metadata)
service.provide(Clock, Clock, scope="service")
service.provide(Scorer, make_scorer, scope="service")


@service.batch(
    Queue("risk.check"),
    size=100,
    within=0.02,
    bind=[RISK.key("risk.check")],
    # While the provider is down no check is taken; one is tried every few seconds.
    pause=Pause(on=ScorerDownError, every=2),
)
async def check(
    batch: list[CheckRisk], transaction: Transaction, scorer: Scorer, clock: Clock
) -> list[Reject | None]:
    """Answer each check of a batch; those of one account count each other."""
    scores = await scorer.score(batch)
    connection = transaction.connection
    await records.take_turn(connection)
    answers = await records.find_answered(connection, batch)
    refused = await records.find_refused(connection, [each.partner for each in batch])
    accounts = [(each.account_id, each.currency) for each in batch]
    limits = {account: default_limit(*account) for account in accounts}
    limits |= await records.find_limits(connection, accounts)
    windows = {account: limit.window for account, limit in limits.items()}
    now = clock.now().timestamp()
    passed = await records.count_passed(connection, windows, now=now)
    new, results = [], []
    for each, account, score in zip(batch, accounts, scores, strict=True):
        if each.order_id not in answers:
            refusal = refused.get(each.partner)
            answer = judge(each, limits[account], passed[account], refusal, score)
            passed[account] += answer.passed
            answers[each.order_id] = (each, answer)
            new.append((each, answer))
        results.append(await publish_answer(each, *answers[each.order_id], transaction))
    await records.keep(connection, new, now=now)
    return results


async def publish_answer(
    order: CheckRisk, asked: CheckRisk, answer: RiskAnswered, transaction: Transaction
) -> Reject | None:
    """Publish the answer that was given when this order was asked about first."""
    if order != asked:
        return Reject(f"order {order.order_id} was checked before, with another content")
    message_id = f"risk-{order.order_id}"
    await transaction.publish(RISK, "risk.answered", answer, message_id=message_id)
    return None


def judge(
    order: CheckRisk, limit: SetRiskLimit, passed: int, refused: str | None, score: int
) -> RiskAnswered:
    """Answer a check by the first rule that refuses its order.

    :param passed: orders of its account that passed within the limit's window
    :param refused: why its partner is refused; None if he is not
    """
    partner, currency = order.partner, order.currency
    reason = ""
    if refused is not None:
        reason = f"partner {partner.account} at bank {partner.bank} is refused: {refused}"
    elif order.amount > limit.most_per_order:
        most = f"{limit.most_per_order:.2f} {currency}"
        reason = f"{order.amount:.2f} {currency} is over {most} an order"
    elif passed >= limit.most_orders:
        reason = f"{passed} orders passed within {limit.window:g} s, which is all that may"
    elif score > HIGHEST_SCORE:
        reason = f"its score of {score} is over {HIGHEST_SCORE}"
    return RiskAnswered(order_id=order.order_id, passed=not reason, reason=reason[:LONG])


def default_limit(account_id: int, currency: Currency) -> SetRiskLimit:
    """Return the limit of an account that none was set for."""
    return SetRiskLimit(
        account_id=account_id,
        currency=currency,
        most_per_order=MOST_PER_ORDER,
        most_orders=MOST_ORDERS,
        window=WINDOW,
    )


@service.handler(
    Queue("risk.limit", partitions=1),
    bind=[RISK.key("risk.limit")],
    order_by="account_id",  # of two limits of an account, the later one holds
)
async def set_limit(limit: SetRiskLimit, transaction: Transaction) -> None:
    """Set an account's limit for the checks that are answered from now on."""
    await records.set_limit(transaction.connection, limit)


@service.handler(Queue("risk.refuse-partner"), bind=[RISK.key("risk.refuse-partner")])
async def refuse_partner(refused: RefusePartner, transaction: Transaction) -> None:
    """Refuse a partner in the checks that are answered from now on."""
    await records.refuse_partner(transaction.connection, refused)


@service.handler(Queue("risk.limits"), bind=[RISK.key("risk.limits")])
async def limit_of(request: RiskLimitOf, transaction: Transaction) -> SetRiskLimit | None:
    """Answer the limit that was set for an account; None where the default holds."""
    account = (request.account_id, request.currency)
    return (await records.find_limits(transaction.connection, [account])).get(account)
