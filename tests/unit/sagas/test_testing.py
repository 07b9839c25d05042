"""A test of a saga: what it takes, provides and tells."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from mqkit import Delivery, InvalidMessageError, OptionError, Queue
from mqkit.sagas import Saga, continues, starts
from mqkit.sagas.testing import SagaTest
from mqkit.store import Transaction
from tests.unit.sagas.support import Payment, PlaceOrder


class Note(BaseModel):
    """A message."""

    id: str = "1"


class State(BaseModel):
    """A state."""


@dataclass
class Bank:
    """What a service would provide."""

    name: str


class Taking(Saga[State], name="taking"):
    """Takes what a service provides."""

    @starts(Queue("q"), by="id")
    async def start(
        self, note: Note, bank: Bank, delivery: Delivery, transaction: Transaction
    ) -> str:
        """Return what it was given."""
        self.begin(State())
        assert isinstance(transaction, str)
        return f"{bank.name} {delivery.message_id} {transaction}"

    @continues(Queue("other"), by=lambda text: text)
    async def other(self, text: str) -> None:
        """Take a message of another type."""


async def test_further_arguments_get_what_is_provided() -> None:
    """By their annotations; a delivery is made, and the result is what the method returned."""
    test = SagaTest(Taking, provide={Bank: Bank("b"), Transaction: "t"})
    assert await test.receive(Note(), message_id="m") == "b m t"


async def test_an_argument_that_nobody_provides_is_an_error() -> None:
    """It names it, and says what to write."""
    test = SagaTest(Taking, provide={Transaction: "t"})
    with pytest.raises(OptionError, match=r"argument 'bank' of start is not provided; say SagaTes"):
        await test.receive(Note())


async def test_a_message_that_no_method_takes_is_an_error() -> None:
    """Neither by its type, nor by the name that is given."""
    test = SagaTest(Payment)
    with pytest.raises(
        OptionError, match=r"no method for .*: there are placed, risk_answered, hol"
    ):
        await test.receive(3)
    with pytest.raises(OptionError, match="no method of the name 'release_hold'"):
        await test.receive(PlaceOrder(order_id="1"), to="release_hold")


async def test_which_saga_is_asked_for_has_to_be_said_of_several() -> None:
    """Of one it need not, and one that is not there has no state."""
    test = SagaTest(Payment)
    with pytest.raises(OptionError, match="there is none"):
        test.state("o-1")
    assert test.history() == []
    for each in ("o-1", "o-2"):
        await test.receive(PlaceOrder(order_id=each))
    with pytest.raises(OptionError, match="say which of them: o-1, o-2"):
        test.status()
    assert test.state("o-2").order_id == "o-2"


async def test_what_is_published_is_checked_as_a_store_checks_it() -> None:
    """A header that cannot be sent fails the run, and nothing of it is kept."""

    class Wrong(Saga[State], name="wrong"):
        @starts(Queue("q"), by="id")
        async def start(self, note: Note) -> None:
            self.begin(State())
            await self.publish("x", "k", note, delay=3, key="k", headers={"n": unwritable})

    unwritable: Any = object()
    test = SagaTest(Wrong)
    with pytest.raises(InvalidMessageError):
        await test.receive(Note())
    assert test.published == []


@pytest.mark.parametrize(
    "later",
    [
        {"delay": -1},
        {"delay": float("nan")},
        {"delay": 1e12},
        {"at": datetime(2026, 1, 1)},  # noqa: DTZ001 - without a time zone
        {"at": datetime.max.replace(tzinfo=UTC)},
        {"delay": 1, "at": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
)
async def test_a_time_to_publish_at_is_checked_as_a_store_checks_it(later: dict[str, Any]) -> None:
    """What a store's transaction refuses fails here, too, with the same error."""

    class Late(Saga[State], name="late"):
        @starts(Queue("q"), by="id")
        async def start(self, note: Note) -> None:
            self.begin(State())
            await self.publish("x", "k", note, **later)

    test = SagaTest(Late)
    with pytest.raises(InvalidMessageError, match=r"(at|delay) is|a delay and"):
        await test.receive(Note())
    assert test.published == []


async def test_a_published_message_is_told_with_its_times() -> None:
    """When it was published, when it is due, its key, and the message as it would be written."""

    class Later(Saga[State], name="later"):
        @starts(Queue("q"), by="id")
        async def start(self, note: Note) -> None:
            self.begin(State())
            await self.publish("x", "k", note, delay=3, key="a", message_id="m")

    test = SagaTest(Later)
    await test.receive(Note())
    (published,) = test.published
    assert (published.delay, published.key, published.message_id) == (3.0, "a", "m")
    assert published.at == test.now
    assert published.message.body == b'{"id":"1"}'
