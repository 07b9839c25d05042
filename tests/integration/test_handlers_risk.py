"""The risk service, run in the test harness on either database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from handlers import risk
from handlers.messages import RISK, CheckRisk, RiskAnswered, SetRiskLimit
from mqkit.outcome import DeathReason
from mqkit.testing.harness import Harness
from tests.support import eventually

pytestmark = pytest.mark.in_turn(embedded=True)

CHECK: dict[str, Any] = {
    "order_id": "1",
    "account_id": 576,
    "partner": {"bank": "QR", "account": "13943797"},
    "amount": "10.00",
    "currency": "CZK",
}
LIMIT: dict[str, Any] = {
    "account_id": 576,
    "currency": "CZK",
    "most_per_order": "100.00",
    "most_orders": 3,
    "window": 600,
}
ACCOUNT = {"account_id": 576, "currency": "CZK"}


@pytest.fixture
def running(
    database: str,
    mqkit_harness: Callable[..., AbstractAsyncContextManager[Harness]],
    monkeypatch: pytest.MonkeyPatch,
) -> AbstractAsyncContextManager[Harness]:
    """The service, about to run."""
    monkeypatch.setenv("RISK_DATABASE", database)
    return mqkit_harness(risk.service)


@pytest.fixture
async def h(running: AbstractAsyncContextManager[Harness]) -> AsyncIterator[Harness]:
    async with running as h:
        await h.listen(RISK, "risk.answered")
        yield h


def answers(h: Harness) -> dict[str, bool]:
    """Which orders passed; each answer to an order is the same."""
    found: dict[str, bool] = {}
    for each in h.published:
        answer = each.body_as(RiskAnswered)
        assert found.setdefault(answer.order_id, answer.passed) == answer.passed
    return found


async def test_each_check_of_a_batch_gets_its_answer(h: Harness) -> None:
    """Of five orders and a second message about each, three orders pass; all ten are answered."""
    await h.publish(RISK, "risk.limit", LIMIT)
    await h.idle()
    for number in [*range(5), *range(5)]:
        await h.publish(RISK, "risk.check", CHECK | {"order_id": f"o-{number}"})
    await h.idle()
    assert len(h.published) == 10
    assert sorted(answers(h).values()) == [False, False, True, True, True]
    assert {each.message_id for each in h.published} == {f"risk-o-{n}" for n in range(5)}


async def test_limits_are_told_on_request(h: Harness) -> None:
    """Nobody has set one: null; then what was set last."""
    route = RISK.key("risk.limits")
    assert await h.request(route, ACCOUNT, SetRiskLimit | None) is None
    for most in (7, 8):
        await h.publish(RISK, "risk.limit", LIMIT | {"most_orders": most})
    await h.idle()
    limit = await h.request(route, ACCOUNT, SetRiskLimit | None)
    assert limit == SetRiskLimit.model_validate(LIMIT | {"most_orders": 8})


async def test_a_refused_partner_is_paid_no_more(h: Harness) -> None:
    """An order to him is refused with the reason that was given."""
    refused = {"partner": CHECK["partner"], "reason": "on the sanctions list"}
    await h.publish(RISK, "risk.refuse-partner", refused)
    await h.idle()
    await h.publish(RISK, "risk.check", CHECK)
    await h.idle()
    (answer,) = h.published
    assert answer.body_as(RiskAnswered) == RiskAnswered(
        order_id="1",
        passed=False,
        reason="partner 13943797 at bank QR is refused: on the sanctions list",
    )


BAD = [
    ("risk.check", CHECK | {"currency": "XXX"}, "currency: Input should be 'CZK', 'EUR' or 'USD'"),
    ("risk.check", CHECK | {"amount": "-10.00"}, "amount: Input should be greater than 0"),
    ("risk.check", CHECK | {"amount": "0"}, "amount: Input should be greater than 0"),
    ("risk.check", CHECK | {"amount": "1" * 20}, "amount: Decimal input should have no more than"),
    ("risk.check", CHECK | {"amount": "1.001"}, "amount: Decimal input should have no more than 2"),
    ("risk.check", CHECK | {"order_id": "a b"}, "order_id: String should match pattern"),
    ("risk.check", CHECK | {"partner": {"bank": "\0", "account": "1"}}, "partner.bank: String"),
    ("risk.check", CHECK | {"account_id": 2**63}, "account_id: Input should be less than or equal"),
    ("risk.check", CHECK | {"amonut": "1.00"}, "amonut: Extra inputs are not permitted"),
    ("risk.limit", LIMIT | {"most_orders": 10**20}, "most_orders: Input should be less than"),
    ("risk.limit", LIMIT | {"window": 0}, "window: Input should be greater than 0"),
    ("risk.limit", LIMIT | {"most_per_order": "-1"}, "most_per_order: Input should be greater"),
    ("risk.refuse-partner", {"partner": CHECK["partner"], "reason": "\0"}, "reason: String"),
]


async def test_bad_input_is_dead_lettered_with_its_field(h: Harness) -> None:
    """Its reason names what is wrong; the check beside it is answered, and nothing else is kept."""
    for key, body, _ in BAD:
        await h.publish(RISK, key, body)
    await h.publish(RISK, "risk.check", CHECK)
    await h.idle()
    assert {each.reason for each in h.dead_lettered} == {DeathReason.UNDECODABLE}
    for key in ("risk.check", "risk.limit", "risk.refuse-partner"):
        told = sorted(each.error_message or "" for each in await h.dead_letters(key))
        for line in [why for of, _, why in BAD if of == key]:
            assert any(line in each for each in told), f"{line} in {told} of {key}"
    assert answers(h) == {"1": True}
    assert await h.request(RISK.key("risk.limits"), ACCOUNT, SetRiskLimit | None) is None


async def test_an_order_of_another_content_is_dead_lettered(h: Harness) -> None:
    """It gets no answer: the order's own one stands."""
    for amount in ("10.00", "11.00"):
        await h.publish(RISK, "risk.check", CHECK | {"amount": amount})
        await h.idle()
    (letter,) = await h.dead_letters("risk.check")
    assert letter.reason is DeathReason.REJECTED
    assert letter.error_message == "order 1 was checked before, with another content"
    assert len(h.published) == 1


async def test_checks_wait_while_the_provider_is_down(
    running: AbstractAsyncContextManager[Harness],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The handler pauses, loses no check, and answers each once the provider is back."""
    down = True

    class Provider:
        async def score(self, checks: Sequence[CheckRisk]) -> Sequence[int]:
            if down:
                raise risk.ScorerDownError("no route to the provider")
            return [0 for _ in checks]

    monkeypatch.setattr(risk, "TrustingScorer", Provider)
    async with running as h:
        await h.listen(RISK, "risk.answered")
        for number in range(20):
            await h.publish(RISK, "risk.check", CHECK | {"order_id": f"o-{number}"})
        await eventually(lambda: "risk.check: paused" in caplog.text, what="a pause")
        assert h.published == []
        down = False
        await eventually(lambda: len(h.published) >= 20, within=30, what="an answer to each check")
        await h.idle()
        assert h.dead_lettered == []
        assert all(answers(h).values())
        assert len(answers(h)) == 20
