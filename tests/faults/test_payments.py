"""The payment services on RabbitMQ and PostgreSQL, while services, broker and database are killed.

`python -m tests.faults.payments --orders 200000` is the long form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from mqkit.testing.brokers.broker import Broker
from tests.faults.payments.run import Outcome, own_broker, own_postgres, run
from tests.faults.payments.trouble import FORGE, KILL, SHORT, InvariantError

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def own() -> Iterator[Broker]:
    """A broker that no other test finds killed."""
    with own_broker("4.3") as broker:
        yield broker


def outcome(broker: Broker, folder: Path, orders: int, faults: Sequence[str]) -> Outcome:
    """Run so many orders on a virtual host and a PostgreSQL of their own."""
    with own_postgres() as postgres:
        return run(
            broker,
            postgres,
            folder,
            orders=orders,
            accounts=30,
            seed=7,
            every=1.0,
            faults=faults,
            console=Console(stderr=True),
        )


def test_every_cent_is_there_after_every_fault(own: Broker, tmp_path: Path) -> None:
    """Each order and refund has its planned end, and the invariants hold after each fault, too."""
    found = outcome(own, tmp_path, 80, SHORT)
    assert [check for check in found.report.checks if not check.holds] == []
    assert found.faults == Counter(SHORT)


@pytest.mark.long
def test_an_event_that_nobody_sent_is_found(own: Broker, tmp_path: Path) -> None:
    """What is looked at after each fault is the monitor's word, which a forged posting changes."""
    with pytest.raises(InvariantError, match=r"deposit-forged.*sum to 1000000.00"):
        outcome(own, tmp_path, 60, (FORGE, KILL))
