"""The exchanges that the payment services publish to, and the routing keys on them."""

from __future__ import annotations

from mqkit import Exchange

ORDERS = Exchange("payments.orders", type="topic")
"""`order.place`; `order.accepted`, `order.executed`, `order.refused`."""

RISK = Exchange("payments.risk", type="topic")
"""`risk.check`, `risk.limit`, `risk.refuse-partner`, `risk.limits`; `risk.answered`."""

LEDGER = Exchange("payments.ledger", type="topic")
"""Commands `ledger.command.KIND` and requests `ledger.balance`; `ledger.answered.KIND`,
`ledger.posted`, `ledger.hold-changed`."""

REFUNDS = Exchange("payments.refunds", type="topic")
"""`refund.request`; `refund.executed`, `refund.refused`."""

BILLING = Exchange("payments.billing", type="topic")
"""`billing.close-month`; `billing.month-closed`."""

ALERTS = Exchange("payments.alerts", type="topic", mandatory=False)
"""`alert.INVARIANT`: what the monitoring service found to be wrong."""

MONITORING = Exchange("payments.monitoring", type="topic")
"""`monitoring.judge`, of the monitoring service to itself; requests `monitoring.summary`."""
