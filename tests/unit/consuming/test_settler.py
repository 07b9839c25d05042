"""The order in which a delivery is settled. What the broker makes of it is tested on the broker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

import pytest

from mqkit import Delivery, Publisher, UnroutableError
from mqkit.broker.delays import DelayLadder
from mqkit.consuming.settler import REPLY_TIMEOUT, Settler
from mqkit.errors import (
    BlockedError,
    ChannelClosedError,
    ConnectionLostError,
    InvalidMessageError,
)
from mqkit.message import Message, Properties
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue, RetryAfter

RETRY = RetryAfter(1, ValueError())
DEAD = DeadLetter(DeathReason.REJECTED, ValueError())


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds; fails after many turns."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


class World:
    """A channel, a publisher and a ladder that note what they are asked, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.failures: list[Exception | None] = []
        self.confirm = asyncio.Event()
        self.confirm.set()
        self.is_open = True
        self.told: list[Outcome] = []
        self.timeouts: list[float | None] = []
        self.acked_when_told: list[bool] = []
        self.settler = Settler(
            cast("Publisher", self),
            cast("DelayLadder", self),
            service="s",
            handler="h",
            redeclare=self.redeclare,
            on_settled=self.observe,
        )

    def observe(self, delivery: Delivery, outcome: Outcome) -> None:
        self.told.append(outcome)
        self.acked_when_told.append("ack 7" in self.events)

    def ack(self, tag: int, multiple: bool = False) -> None:
        if not self.is_open:
            raise ChannelClosedError(0, "gone")
        self.events.append(f"ack {tag}")

    def reject(self, tag: int, *, requeue: bool) -> None:
        self.nack(tag, requeue=requeue)

    def nack(self, tag: int, *, requeue: bool) -> None:
        self.events.append(f"nack {tag} requeue={requeue}")

    async def send(self, message: Message, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self.events.append(f"publish {message.exchange}/{message.routing_key}")
        self.timeouts.append(timeout)
        await self.confirm.wait()
        if self.failures and (failure := self.failures.pop()) is not None:
            raise failure
        self.events.append("confirmed")

    async def route(self, delay: float, queue: str) -> tuple[str, str]:
        return "ladder", queue

    def forget(self) -> None:
        self.events.append("forget")

    async def redeclare(self) -> None:
        self.events.append("redeclare")

    async def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Settle, and let the turn of the loop end, at which acks are written."""
        await self.settler.settle(delivery, outcome)
        await asyncio.sleep(0)

    def delivery(self, reply_to: str | None = None) -> Delivery:
        properties = Properties(reply_to=reply_to, correlation_id="c", message_id="m")
        return Delivery(queue="q", tag=7, channel=self, properties=properties)


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


async def test_an_observer_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The delivery is settled all the same, and the failure is in the log."""
    world = World()

    def fail(delivery: Delivery, outcome: Outcome) -> None:
        raise ValueError("a fault of the observer")

    world.settler._on_settled = fail
    for outcome in (Ack(), RETRY):
        await world.settle(world.delivery(), outcome)
    assert world.events.count("ack 7") == 2
    assert caplog.text.count("the observer of settled deliveries failed") == 2


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
    caplog.set_level(logging.INFO, "mqkit.consuming.settler")
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


async def test_due_acks_can_be_written_before_the_turn_ends() -> None:
    """`write_acks` writes what is due at once, and nothing is written a second time after it."""
    world = World()
    world.settler.write_acks()
    await world.settler.settle(world.delivery(), Ack(None))
    assert world.events == []
    world.settler.write_acks()
    assert world.events == ["ack 7"]
    await asyncio.sleep(0)
    world.settler.write_acks()
    assert world.events == ["ack 7"]
    assert world.told == [Ack(None)]
