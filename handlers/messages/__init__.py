"""The messages between the payment services, and the exchanges that they are published to.

A command says what shall be done, and to whom: `order.place`, `risk.check`, `ledger.hold`. Its
answer says what became of it, with a reason where it was refused. An event says what happened, for
whoever wants to know. Each of them names the money by an amount and a currency, and each effect on
money by a business key that is its own for ever (`hold-7`, `refund-9`): under it the ledger posts
once, whatever comes twice.
"""

from __future__ import annotations

from handlers.messages.billing import CloseMonth, MonthClosed
from handlers.messages.exchanges import ALERTS, BILLING, LEDGER, MONITORING, ORDERS, REFUNDS, RISK
from handlers.messages.ledger import (
    AccountBalance,
    BalanceOf,
    Charge,
    CreditInterest,
    Deposit,
    ExecuteHold,
    ExecutionAnswered,
    HoldAnswered,
    HoldChanged,
    HoldState,
    LedgerCommand,
    OpenAccount,
    PayBack,
    PayBackAnswered,
    PlaceHold,
    Posted,
    ReleaseAnswered,
    ReleaseHold,
    Side,
)
from handlers.messages.monitoring import (
    Alert,
    AskSummary,
    Count,
    Invariant,
    JudgeOrders,
    Summary,
    Totals,
)
from handlers.messages.orders import OrderAccepted, OrderExecuted, OrderRefused, PlaceOrder
from handlers.messages.refunds import RefundExecuted, RefundRefused, RequestRefund
from handlers.messages.risk import CheckRisk, RefusePartner, RiskAnswered, RiskLimitOf, SetRiskLimit
from handlers.messages.values import (
    LONG,
    SHORT,
    WITHOUT_NUL,
    Balance,
    Currency,
    Frozen,
    OrderId,
    Partner,
    Reason,
)

__all__ = [
    "ALERTS",
    "BILLING",
    "LEDGER",
    "LONG",
    "MONITORING",
    "ORDERS",
    "REFUNDS",
    "RISK",
    "SHORT",
    "WITHOUT_NUL",
    "AccountBalance",
    "Alert",
    "AskSummary",
    "Balance",
    "BalanceOf",
    "Charge",
    "CheckRisk",
    "CloseMonth",
    "Count",
    "CreditInterest",
    "Currency",
    "Deposit",
    "ExecuteHold",
    "ExecutionAnswered",
    "Frozen",
    "HoldAnswered",
    "HoldChanged",
    "HoldState",
    "Invariant",
    "JudgeOrders",
    "LedgerCommand",
    "MonthClosed",
    "OpenAccount",
    "OrderAccepted",
    "OrderExecuted",
    "OrderId",
    "OrderRefused",
    "Partner",
    "PayBack",
    "PayBackAnswered",
    "PlaceHold",
    "PlaceOrder",
    "Posted",
    "Reason",
    "RefundExecuted",
    "RefundRefused",
    "RefusePartner",
    "ReleaseAnswered",
    "ReleaseHold",
    "RequestRefund",
    "RiskAnswered",
    "RiskLimitOf",
    "SetRiskLimit",
    "Side",
    "Summary",
    "Totals",
]
