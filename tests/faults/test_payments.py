"""The payment services on RabbitMQ and PostgreSQL, while services, broker and database are killed.

`python -m tests.faults.payments --orders 200000` is the long form.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from tests.faults.payments.run import own_broker, own_postgres, run
from tests.faults.payments.trouble import SHORT

pytestmark = [pytest.mark.in_turn, pytest.mark.timeout(600)]


def test_every_cent_is_there_after_every_fault(tmp_path: Path) -> None:
    """Each order and refund has its planned end, and the invariants hold after each fault, too"""
    with own_broker("4.3") as broker, own_postgres() as postgres:
        outcome = run(
            broker,
            postgres,
            tmp_path,
            orders=240,
            accounts=40,
            seed=7,
            every=1.0,
            faults=SHORT,
            console=Console(stderr=True),
        )
    wrong = [check for check in outcome.report.checks if not check.holds]
    assert wrong == []
    assert outcome.faults == Counter(SHORT)
