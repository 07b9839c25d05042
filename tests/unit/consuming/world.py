"""What a settler works on: a channel, a publisher and a ladder that note what they are asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from mqkit import Delivery, Publisher
from mqkit.broker.delays import DelayLadder
from mqkit.consuming.republisher import Republisher
from mqkit.consuming.settler import Settler
from mqkit.consuming.together.batching import Batcher
from mqkit.errors import (
    ChannelClosedError,
)
from mqkit.logging.delivery_log import DeliveryLog
from mqkit.logging.error_reports import REPORTS
from mqkit.message import Message, Properties
from mqkit.middleware import Observer, Observers
from mqkit.outcome import DeadLetter, DeathReason, Outcome, RetryAfter
from tests.support import Telling

RETRY = RetryAfter(1, ValueError())
DEAD = DeadLetter(DeathReason.REJECTED, ValueError())


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds; fails after many turns."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


async def settled(batcher: Batcher, delivery: Delivery) -> Outcome:
    """What becomes of a message that is put into a batch."""
    return await batcher.dispatch(delivery)


class World:
    """A channel, a publisher and a ladder that note what they are asked, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.failures: list[Exception | None] = []
        self.drawn = 0
        self.confirm = asyncio.Event()
        self.confirm.set()
        self.is_open = True
        self.told: list[Outcome] = []
        self.timeouts: list[float | None] = []
        self.ids: list[str | None] = []
        self.acked_when_told: list[bool] = []
        self.settler = self.made(Telling(settled=self.observe))

    def made(self, observer: Observer, *, keeps_place: bool = False) -> Settler:
        """A settler that is observed."""
        republisher = Republisher(
            cast("Publisher", self),
            cast("DelayLadder", self),
            log=DeliveryLog("s", "h", reports=REPORTS),
            redeclare=self.redeclare,
        )
        return Settler(republisher, Observers([observer]), keeps_place=keeps_place)

    def observe(self, delivery: Delivery, outcome: Outcome) -> None:
        self.told.append(outcome)
        self.acked_when_told.append("ack 7" in self.events)

    def ack(self, tag: int, multiple: bool = False) -> None:
        if not self.is_open:
            raise ChannelClosedError(0, "gone")
        self.events.append(f"ack {tag}")

    def reject(self, tag: int, *, requeue: bool) -> None:
        self.nack(tag, requeue=requeue)

    def nack(self, tag: int, *, requeue: bool, multiple: bool = False) -> None:
        up_to = "up to " if multiple else ""
        self.events.append(f"nack {up_to}{tag} requeue={requeue}")

    def new_id(self) -> str:
        self.drawn += 1
        return f"new {self.drawn}"

    async def send(self, message: Message, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self.events.append(f"publish {message.exchange}/{message.routing_key}")
        self.ids.append(message.properties.message_id)
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
