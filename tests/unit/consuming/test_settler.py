"""The order in which a delivery is settled. What the broker makes of it is tested on the broker."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mqkit import Delivery
from mqkit.errors import (
    ChannelClosedError,
)
from mqkit.outcome import Ack, Lost, Outcome, Requeue
from tests.support import Telling
from tests.unit.consuming.world import DEAD, RETRY, World


@pytest.mark.parametrize(
    ("outcome", "events"),
    [
        (Ack(), ["ack 7"]),
        (Requeue(), ["nack 7 requeue=True"]),
        (Lost(), []),
        (RETRY, ["publish ladder/q", "confirmed", "ack 7"]),
        (DEAD, ["publish /q.dead", "confirmed", "ack 7"]),
    ],
)
async def test_each_outcome_is_carried_out_in_order(outcome: Outcome, events: list[str]) -> None:
    """A copy is confirmed before its original is acked; nothing is rejected; a lost one is left."""
    world = World()
    await world.settle(world.delivery(), outcome)
    assert world.events == events
    assert world.told == [outcome]
    assert world.acked_when_told == ["ack 7" in events]


async def test_a_delivery_is_settled_once() -> None:
    """What comes after the first settlement writes nothing."""
    world = World()
    delivery = world.delivery()
    await world.settle(delivery, Ack())
    await world.settle(delivery, Ack())
    world.settler.requeue(delivery)
    assert world.events == ["ack 7"]
    assert world.told == [Ack()]


async def test_nothing_is_written_for_a_lost_delivery() -> None:
    """A closed channel gets neither ack nor nack, and its error goes no further."""
    world = World()
    delivery = world.delivery()
    world.is_open = False
    await world.settle(delivery, Ack())
    await world.settle(delivery, Requeue())
    assert world.events == []
    assert world.told == [Lost()]


async def test_a_channel_that_closes_under_the_ack_loses_the_delivery() -> None:
    """An ack that could not be written is told as a loss, whatever the channel said before."""

    class Closing(World):
        def ack(self, tag: int, multiple: bool = False) -> None:
            raise ChannelClosedError(0, "gone")

    world = Closing()
    await world.settle(world.delivery(), Ack())
    assert world.told == [Lost()]


async def test_each_end_of_a_delivery_is_logged_at_its_level(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A success quietly, a retry as a warning, a dead letter as an error; each once."""
    caplog.set_level(logging.DEBUG, "mqkit.deliveries")
    for outcome in (Ack(), RETRY, DEAD, Requeue()):
        world = World()
        await world.settle(world.delivery(), outcome)
    levels = [(each.levelname, each.__dict__["outcome"]) for each in caplog.records]
    assert levels == [
        ("DEBUG", "ack"),
        ("WARNING", "retry"),
        ("ERROR", "dead-letter"),
        ("DEBUG", "requeue"),
    ]


async def test_an_observer_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The delivery is settled all the same, and the failure is in the log."""
    world = World()

    def fail(delivery: Delivery, outcome: Outcome) -> None:
        raise ValueError("a fault of the observer")

    world.settler = world.made(Telling(settled=fail))
    for outcome in (Ack(), RETRY):
        await world.settle(world.delivery(), outcome)
    assert world.events.count("ack 7") == 2
    assert caplog.text.count("the observer of settled deliveries failed") == 2


async def test_due_acks_can_be_written_before_the_turn_ends() -> None:
    """`flush` writes what is due at once, and nothing is written a second time after it."""
    world = World()
    world.settler.flush()
    await world.settler.settle(world.delivery(), Ack(None))
    assert world.events == []
    world.settler.flush()
    assert world.events == ["ack 7"]
    await asyncio.sleep(0)
    world.settler.flush()
    assert world.events == ["ack 7"]
    assert world.told == [Ack(None)]


async def test_what_keeps_its_place_is_left_to_the_closing_of_its_channel() -> None:
    """Nothing is written for what is given back, and nothing for it after; the rest is as ever."""
    world = World()
    world.settler = world.made(Telling(settled=world.observe), keeps_place=True)
    delivery = world.delivery()
    await world.settle(delivery, Requeue())
    world.settler.give_back(delivery)
    await world.settle(delivery, Ack())
    assert world.events == []
    assert world.told == [Requeue()]
    await world.settle(world.delivery(), Ack())
    assert world.events == ["ack 7"]


async def test_all_that_a_channel_holds_is_given_back_by_one_nack_behind_the_acks() -> None:
    """Up to the last that is unsettled: RabbitMQ closes the channel over any other tag."""
    world = World()
    delivery = world.delivery()
    await world.settler.settle(delivery, Ack())
    assert world.events == []
    world.settler.give_back_all(world, delivery.tag + 2)
    world.settler.give_back_all(world, delivery.tag)
    assert world.events == ["ack 7", "nack up to 9 requeue=True", "nack up to 6 requeue=True"]
