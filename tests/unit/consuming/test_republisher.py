"""Copies and replies go out before the ack. What the broker makes of it is tested on the broker."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mqkit import Delivery, UnroutableError
from mqkit.consuming.republisher import REPLY_TIMEOUT
from mqkit.errors import (
    BlockedError,
    ConnectionLostError,
    InvalidMessageError,
)
from mqkit.outcome import Ack, Lost, Outcome, Requeue
from tests.unit.consuming.world import DEAD, RETRY, World, until


async def test_a_copy_that_is_not_confirmed_is_published_again_before_the_ack() -> None:
    """While the copy fails, the original stays unacked; what is missing is put back."""
    world = World()
    world.failures = [
        kind("why", exchange="", routing_key="q.dead", message_id="m")
        for kind in (UnroutableError, ConnectionLostError)
    ]
    await world.settle(world.delivery(), DEAD)
    assert world.events == [
        "publish /q.dead",
        "publish /q.dead",
        "forget",
        "redeclare",
        "publish /q.dead",
        "confirmed",
        "ack 7",
    ]


async def test_the_copies_of_a_message_without_id_have_the_same_new_one() -> None:
    """A publisher that gave no id does not leave its retries without one, or with several."""
    world = World()
    world.failures = [ConnectionLostError("why", exchange="", routing_key="q", message_id=None)]
    await world.settle(Delivery(queue="q", tag=7, channel=world), RETRY)
    assert world.ids == ["new 1", "new 1"]


async def test_a_channel_that_is_lost_during_a_copy_loses_the_delivery() -> None:
    """Its copy may be published, but the observer is told that the original comes again."""
    world = World()
    world.confirm.clear()
    delivery = Delivery(queue="q", tag=7, channel=world)
    settling = asyncio.create_task(world.settler.settle(delivery, RETRY))
    await until(lambda: bool(world.events))
    world.is_open = False
    world.confirm.set()
    await settling
    assert world.events == ["publish ladder/q", "confirmed"]
    assert world.told == [Lost()]


async def test_a_copy_that_fails_on_a_lost_channel_is_given_up() -> None:
    """It is not published again, and the observer is told that the delivery is lost."""
    world = World()
    world.confirm.clear()
    world.failures = [ConnectionLostError("why", exchange="", routing_key="q", message_id="m")]
    settling = asyncio.create_task(world.settler.settle(world.delivery(), DEAD))
    await until(lambda: bool(world.events))
    world.is_open = False
    world.confirm.set()
    await settling
    assert world.events == ["publish /q.dead"]
    assert world.told == [Lost()]


async def test_a_cancelled_caller_does_not_stop_a_copy() -> None:
    """The copy on its way is confirmed and its original acked, cancelled or not."""
    world = World()
    world.confirm.clear()
    settling = asyncio.create_task(world.settler.settle(world.delivery(), RETRY))
    await until(lambda: bool(world.events))
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    world.confirm.set()
    await until(lambda: "ack 7" in world.events)
    assert world.events == ["publish ladder/q", "confirmed", "ack 7"]


async def test_a_requeue_in_the_middle_of_a_copy_wins() -> None:
    """Given back while its copy is on its way, the original is not acked afterwards."""
    world = World()
    world.confirm.clear()
    delivery = world.delivery()
    settling = asyncio.create_task(world.settler.settle(delivery, RETRY))
    await until(lambda: bool(world.events))
    world.settler.requeue(delivery)
    world.confirm.set()
    await settling
    assert world.events == ["publish ladder/q", "nack 7 requeue=True", "confirmed"]
    assert world.told == [Requeue()]


@pytest.mark.parametrize(
    ("outcome", "events"),
    [
        (Ack(1), ["publish /me", "confirmed", "ack 7"]),
        (DEAD, ["publish /q.dead", "confirmed", "publish /me", "confirmed", "ack 7"]),
        (RETRY, ["publish ladder/q", "confirmed", "ack 7"]),
        (Requeue(), ["nack 7 requeue=True"]),
        (Lost(), []),
    ],
)
async def test_who_asked_is_answered_before_the_ack(outcome: Outcome, events: list[str]) -> None:
    """At a message's end, after the dead letter's confirm; a retry sends nothing to the asker."""
    world = World()
    await world.settle(world.delivery("me"), outcome)
    assert world.events == events


@pytest.mark.parametrize(
    "error",
    [
        UnroutableError("nobody", exchange="", routing_key="me", message_id="r"),
        BlockedError("an alarm", exchange="", routing_key="me", message_id="r"),
        InvalidMessageError("an address that cannot be written"),
    ],
)
async def test_a_reply_that_fails_does_not_fail_the_message(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried once, for a bounded time; then the message is acked, and the log says so."""
    caplog.set_level(logging.INFO, "mqkit.consuming.republisher")
    world = World()
    world.failures = [error]
    await world.settle(world.delivery("me"), Ack(1))
    assert world.events == ["publish /me", "ack 7"]
    assert world.timeouts == [REPLY_TIMEOUT]
    assert "message m is done, but its reply did not reach who asked" in caplog.text
    assert "'me'" not in caplog.text


async def test_a_failed_reply_does_not_publish_a_dead_letter_again() -> None:
    """The copy is confirmed once, and its original acked without the reply."""
    world = World()
    error = UnroutableError("why", exchange="", routing_key="me", message_id="r")
    world.failures = [error, None]
    await world.settle(world.delivery("me"), DEAD)
    assert world.events == ["publish /q.dead", "confirmed", "publish /me", "ack 7"]


async def test_a_lost_delivery_is_not_answered() -> None:
    """The broker redelivers it, and that run answers."""
    world = World()
    delivery = world.delivery("me")
    world.is_open = False
    await world.settle(delivery, Ack(1))
    assert world.events == []
    assert world.told == [Lost()]


async def test_a_cancelled_caller_does_not_stop_a_reply() -> None:
    """The reply on its way is confirmed and its message acked, cancelled or not."""
    world = World()
    world.confirm.clear()
    settling = asyncio.create_task(world.settler.settle(world.delivery("me"), Ack(1)))
    await until(lambda: bool(world.events))
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    world.confirm.set()
    await until(lambda: "ack 7" in world.events)
    assert world.events == ["publish /me", "confirmed", "ack 7"]
