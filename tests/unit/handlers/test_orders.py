"""The orders service's saga, without a broker: each order has one end, whatever comes when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from handlers.clock import Clock
from handlers.messages import (
    Currency,
    ExecuteHold,
    ExecutionAnswered,
    HoldAnswered,
    OrderAccepted,
    OrderExecuted,
    OrderRefused,
    Partner,
    PlaceHold,
    PlaceOrder,
    ReleaseAnswered,
    ReleaseHold,
    RiskAnswered,
)
from handlers.orders import (
    EXECUTED,
    PATIENCE,
    REFUSED,
    STEPS,
    Patience,
    Payment,
    PaymentState,
    Step,
    configured_patience,
)
from mqkit import ConfigurationError, Reject
from mqkit.sagas import SagaStatus
from mqkit.sagas.testing import SagaTest
from tests.unit.handlers.services import HandClock

PATIENT = 10.0

Test = SagaTest[PaymentState]


def begun() -> Test:
    """A saga's test, without an order."""
    return SagaTest(Payment, provide={Patience: Patience(PATIENT), Clock: HandClock()})


def order(amount: str = "12.50", order_id: str = "o-1") -> PlaceOrder:
    """An order of account 576."""
    return PlaceOrder(
        order_id=order_id,
        account_id=576,
        partner=Partner(bank="QR", account="13943797"),
        amount=Decimal(amount),
        currency=Currency.CZK,
        purpose="SIPO",
    )


PASSED = RiskAnswered(order_id="o-1", passed=True)
HELD = HoldAnswered(order_id="o-1", held=True)
PAID = ExecutionAnswered(order_id="o-1", executed=True)


async def came(test: Test, *messages: BaseModel) -> None:
    """Have messages handled, one after the other."""
    for message in messages:
        await test.receive(message)


def keys(test: Test) -> list[str]:
    """The routing keys of what was published so far."""
    return [each.routing_key for each in test.published]


def ends(test: Test) -> list[BaseModel]:
    """The ends that orders have had."""
    found = [each.body for each in test.published if each.routing_key in (EXECUTED, REFUSED)]
    return [each for each in found if isinstance(each, BaseModel)]


async def test_an_order_that_everybody_agrees_to_is_executed() -> None:
    """It asks risk, has the amount held and then paid, by commands in its account's order."""
    test = begun()
    await came(test, order(), PASSED, HELD, PAID)
    assert keys(test) == [
        "order.accepted",
        "risk.check",
        "ledger.command.hold",
        "ledger.command.execute",
        "order.executed",
    ]
    commands = [each for each in test.published if each.exchange == "payments.ledger"]
    assert [each.key for each in commands] == ["576", "576"]
    assert [type(each.body) for each in commands] == [PlaceHold, ExecuteHold]
    (end,) = ends(test)
    assert isinstance(end, OrderExecuted)
    assert (end.order_id, end.amount, end.partner) == ("o-1", Decimal("12.50"), order().partner)
    assert test.completed()
    assert test.state().step is Step.EXECUTED
    await test.advance(1000)
    assert len(ends(test)) == 1


async def test_an_order_is_accepted_with_a_deadline_that_no_step_exceeds() -> None:
    """By then each of its steps has answered, or was given up."""
    test = begun()
    await test.receive(order())
    accepted = test.published[0].body
    assert isinstance(accepted, OrderAccepted)
    assert (accepted.deadline - HandClock().now()).total_seconds() == STEPS * PATIENT


@pytest.mark.parametrize(
    ("messages", "reason", "compensated"),
    [
        (
            [RiskAnswered(order_id="o-1", passed=False, reason="over its limit")],
            "over its limit",
            False,
        ),
        ([RiskAnswered(order_id="o-1", passed=False)], "risk refused it", False),
        ([PASSED, HoldAnswered(order_id="o-1", held=False, reason="no money")], "no money", False),
        (
            [PASSED, HELD, ExecutionAnswered(order_id="o-1", executed=False, reason="a fee")],
            "a fee",
            True,
        ),
    ],
)
async def test_an_order_that_somebody_refuses_is_refused_with_his_reason(
    messages: list[BaseModel], reason: str, compensated: bool
) -> None:
    """It has one end, and what was held for it is released."""
    test = begun()
    await came(test, order(), *messages)
    (end,) = ends(test)
    assert isinstance(end, OrderRefused)
    assert (end.reason, end.compensated, end.amount) == (reason, compensated, Decimal("12.50"))
    assert ("ledger.command.release" in keys(test)) == compensated
    assert test.completed()
    assert (test.state().step, test.state().reason) == (Step.REFUSED, reason)


async def test_an_order_whose_risk_is_silent_is_refused() -> None:
    """No earlier than its patience ends; an answer that comes after that changes nothing."""
    test = begun()
    await test.receive(order())
    await test.advance(PATIENT - 1)
    assert ends(test) == []
    await test.advance(1)
    (end,) = ends(test)
    assert isinstance(end, OrderRefused)
    assert (end.reason, end.compensated) == ("risk did not answer in time", False)
    await came(test, PASSED)
    assert len(ends(test)) == 1
    assert "ledger.command.hold" not in keys(test)


async def test_a_hold_that_is_not_answered_is_released() -> None:
    """The release is sent behind the hold, so that whatever became of that, nothing stays held."""
    test = begun()
    await came(test, order(), PASSED)
    await test.advance(PATIENT)
    assert keys(test)[2:] == ["ledger.command.hold", "ledger.command.release", "order.refused"]
    (end,) = ends(test)
    assert isinstance(end, OrderRefused)
    assert end.compensated
    await came(test, HELD, ReleaseAnswered(order_id="o-1", executed=False))
    assert len(keys(test)) == 5


@pytest.mark.parametrize("executed", [True, False])
async def test_the_ledger_says_how_a_silent_execution_ended(executed: bool) -> None:
    """An order that may be paid has no end until the answer to its release is there."""
    test = begun()
    await came(test, order(), PASSED, HELD)
    await test.advance(PATIENT * 10)
    assert keys(test)[-1] == "ledger.command.release"
    released = test.published[-1]
    assert isinstance(released.body, ReleaseHold)
    assert released.key == "576"
    assert (ends(test), test.status()) == ([], SagaStatus.RUNNING)
    await came(test, ReleaseAnswered(order_id="o-1", executed=executed))
    (end,) = ends(test)
    if executed:
        assert isinstance(end, OrderExecuted)
    else:
        assert isinstance(end, OrderRefused)
        assert end.compensated


async def test_an_execution_that_is_answered_late_is_an_execution() -> None:
    """The answer that comes after the release was sent, and before that is answered, is the end."""
    test = begun()
    await came(test, order(), PASSED, HELD)
    await test.advance(PATIENT)
    await came(test, PAID)
    assert [type(each) for each in ends(test)] == [OrderExecuted]
    await came(test, ReleaseAnswered(order_id="o-1", executed=True))
    assert len(ends(test)) == 1


async def test_an_answer_that_comes_again_asks_for_nothing_again() -> None:
    """Each command is sent once, also where the earlier step's answer comes after the timeout."""
    test = begun()
    await came(test, order(), PASSED, PASSED, HELD, PASSED, HELD)
    assert keys(test).count("ledger.command.hold") == 1
    assert keys(test).count("ledger.command.execute") == 1
    await test.advance(PATIENT)
    await came(test, PASSED, HELD)
    assert keys(test)[3:] == ["ledger.command.execute", "ledger.command.release"]
    assert test.state().step is Step.RELEASE


async def test_the_same_order_again_does_nothing() -> None:
    """While it is under way, and after its end, also where its amount is written otherwise."""
    test = begun()
    await came(test, order(), order("12.5"), PASSED, order(), HELD, PAID, order())
    assert keys(test).count("risk.check") == 1
    assert len(ends(test)) == 1


@pytest.mark.parametrize("is_over", [False, True])
async def test_another_order_under_the_same_id_is_rejected(is_over: bool) -> None:
    """The reason names the id, and the first order goes on as if nothing had come."""
    test = begun()
    await came(test, order(), *([PASSED, HELD, PAID] if is_over else []))
    before = keys(test)
    with pytest.raises(Reject, match="order o-1 was placed before, with another content"):
        await test.receive(order("12.51"))
    assert keys(test) == before
    assert test.state().order == order()


async def test_orders_do_not_touch_each_other() -> None:
    """An answer is for the order that it names."""
    test = begun()
    await came(test, order(), order(order_id="o-2"), PASSED)
    assert test.state("o-1").step is Step.HOLD
    assert test.state("o-2").step is Step.RISK


class SimulatedLedger:
    """Keeps the hold of one order as the ledger does, and pays it once at most."""

    def __init__(self) -> None:
        self.held = self.released = self.paid = False

    def carry_out(self, command: object) -> BaseModel:
        """Carry a command out and return its answer."""
        match command:
            case PlaceHold(order_id=order_id):
                self.held = self.held or not (self.released or self.paid)
                return HoldAnswered(
                    order_id=order_id, held=self.held, reason="" if self.held else "x"
                )
            case ExecuteHold(order_id=order_id):
                if self.held:
                    self.held, self.paid = False, True
                return ExecutionAnswered(order_id=order_id, executed=self.paid, reason="released")
            case ReleaseHold(order_id=order_id):
                self.held, self.released = False, True
                return ReleaseAnswered(order_id=order_id, executed=self.paid)
        raise AssertionError(command)


@given(data=st.data())
def test_whatever_comes_when_an_order_has_one_end_and_no_hold_is_left(data: st.DataObject) -> None:
    """Answers are late, lost, doubled, and race with the timeouts; the money agrees with the end.

    The ledger carries the commands out in their order, at any time; its answers come in any order.
    """
    asyncio.run(play(data))


class Play:
    """One order, and all that may happen to it."""

    def __init__(self, *, passed: bool) -> None:
        self.test, self.ledger = begun(), SimulatedLedger()
        self.commands = 0
        """How many commands the ledger has carried out."""
        self.answers: list[BaseModel] = [RiskAnswered(order_id="o-1", passed=passed)]
        self.on_the_way = list(self.answers)

    def asked(self) -> Sequence[Any]:
        """The commands to the ledger."""
        return [each.body for each in self.test.published if each.exchange == "payments.ledger"]

    def possible(self) -> list[str]:
        """What may happen now."""
        names = ["time"]
        names += ["arrive", "get lost"] * bool(self.on_the_way)
        names += ["come again"] * bool(self.answers)
        return names + ["carry out"] * (len(self.asked()) > self.commands)

    def carry_out(self) -> BaseModel:
        """Let the ledger carry out its next command; its answer is on the way."""
        answer = self.ledger.carry_out(self.asked()[self.commands])
        self.commands += 1
        self.answers.append(answer)
        return answer

    async def happen(self, what: str, data: st.DataObject) -> None:
        """Let one thing happen."""
        pick = st.integers(0, max(len(self.on_the_way) - 1, 0))
        match what:
            case "time":
                await self.test.advance(data.draw(st.sampled_from([PATIENT / 2, PATIENT])))
            case "carry out":
                self.on_the_way.append(self.carry_out())
            case "arrive":
                await self.test.receive(self.on_the_way.pop(data.draw(pick)))
            case "get lost":
                self.on_the_way.pop(data.draw(pick))
            case _:
                await self.test.receive(data.draw(st.sampled_from(self.answers)))

    async def recover(self) -> None:
        """Let time pass, and what is asked of the ledger be answered."""
        for _ in range(STEPS):
            await self.test.advance(PATIENT)
            while len(self.asked()) > self.commands:
                await self.test.receive(self.carry_out())


async def play(data: st.DataObject) -> None:
    """Play one order to its end, as hypothesis decides."""
    play = Play(passed=data.draw(st.booleans()))
    test, ledger = play.test, play.ledger
    await test.receive(order())
    for _ in range(data.draw(st.integers(5, 25))):
        await play.happen(data.draw(st.sampled_from(play.possible())), data)
    await play.recover()
    if not ends(test):
        # Only an answer to its release that was lost keeps an order without an end.
        assert test.state().step is Step.RELEASE
        await test.receive(ReleaseAnswered(order_id="o-1", executed=ledger.paid))
    (end,) = ends(test)
    assert isinstance(end, OrderExecuted) == ledger.paid
    assert not ledger.held
    assert test.completed()
    assert test.state().step is (Step.EXECUTED if ledger.paid else Step.REFUSED)


@pytest.mark.parametrize(("text", "seconds"), [(None, PATIENCE), ("2.5", 2.5), ("86400", 86400)])
def test_the_patience_is_read_when_the_service_starts(
    text: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ORDERS_PATIENCE` says it, in seconds; without it, it is a minute."""
    monkeypatch.delenv("ORDERS_PATIENCE", raising=False)
    if text is not None:
        monkeypatch.setenv("ORDERS_PATIENCE", text)
    assert configured_patience() == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "inf", "86401"])
def test_a_patience_that_is_none_is_an_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the variable and what it said."""
    monkeypatch.setenv("ORDERS_PATIENCE", text)
    with pytest.raises(ConfigurationError, match="ORDERS_PATIENCE is seconds"):
        configured_patience()
