"""What the README shows works."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from mqkit import Delivery, Reject, Service
from mqkit.message import Properties
from mqkit.store import Store
from mqkit.testing.harness.run import harness
from tests.postgres import PostgresServer

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


EXAMPLE, ORDERED, BATCHED, STORED, TESTS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(source: str, **names: Any) -> dict[str, Any]:
    """Run an example, and return what it defines."""
    names["__name__"] = "shop.ledger"
    exec(compile(source, "README.md", "exec", dont_inherit=True), names)  # noqa: S102
    return names


class Published:
    """In the place of a publisher."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def publish(self, *_: object, message_id: str) -> str:
        self.ids.append(message_id)
        return message_id


async def test_the_example_registers_and_is_called_directly() -> None:
    """The README's service registers, and its handler runs as a plain function."""
    names = run(EXAMPLE)
    service, publisher = names["service"], Published()
    assert isinstance(service, Service)
    assert [handler.queue.name for handler in service.handlers] == ["ledger.post"]
    order = names["PaymentOrder"](id="1", amount=Decimal("9.90"))
    await names["post"](order, Delivery(), publisher)
    assert publisher.ids == ["posted-1"]
    with pytest.raises(Reject):
        await names["post"](order.model_copy(update={"amount": Decimal(0)}), Delivery(), publisher)


def test_the_ordered_handler_registers() -> None:
    """The README's handler that keeps an order is accepted as it stands."""
    service = run(EXAMPLE + ORDERED)["service"]
    handler = service.handlers[-1]
    assert len(handler.queue.partition_queues()) == 8
    assert handler.order_by is not None


def test_the_handler_of_batches_registers() -> None:
    """The README's batch is accepted as it stands."""
    service = run(EXAMPLE + BATCHED)["service"]
    assert service.handlers[-1].batch == (100, 0.5)


async def test_the_example_with_a_store_has_one_effect(postgres: PostgresServer, name: str) -> None:
    """A message that is delivered twice is posted once, and its event is in the outbox once."""
    names = run(EXAMPLE)
    url = postgres.create_database(name)
    stored = run(STORED.replace("postgresql://ledger@db/ledger", url), **names)
    service: Service = stored["service"]
    order = names["PaymentOrder"](id="1", amount=Decimal("9.90"))
    store = service.store
    assert isinstance(store, Store)
    async with store:
        async with store.transaction() as transaction:
            await transaction.execute(text("CREATE TABLE posting (id text, amount numeric)"))
        delivery = Delivery(properties=Properties(message_id="m"), queue="ledger.post")
        for _ in range(2):
            await store.run_once("post", delivery, lambda tx: stored["post"](order, tx))
        async with store.transaction() as transaction:
            rows = await transaction.execute(text("SELECT id, amount FROM posting"))
            assert [tuple(row) for row in rows] == [("1", Decimal("9.90"))]
        assert await store.pending() == 1
    postgres.drop_database(name)


@pytest.mark.parametrize("test", re.findall(r"async def (test_\w+)", TESTS))
async def test_the_tests_of_the_example_pass(test: str) -> None:
    """The README's tests of its own service pass as they are, on the embedded broker."""
    example = run(EXAMPLE)
    tests = run(TESTS, service=example["service"], payments=example["payments"])
    await tests[test](harness)
