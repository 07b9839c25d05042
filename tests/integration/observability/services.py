"""Services whose metrics the tests read, run by `mqkit run` in processes of their own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pydantic import BaseModel
from tenacity import stop_after_attempt, wait_fixed

from mqkit import Exchange, Pause, Publisher, Queue, Reject, Retry, Service
from mqkit.sagas import Saga, starts
from mqkit.store import Store, Transaction

QUEUE = os.environ.get("MQKIT_TEST_QUEUE", "unset")
DATABASE = os.environ.get("MQKIT_TEST_DATABASE", "sqlite:///unset.sqlite")
DOWN = Path(os.environ.get("MQKIT_TEST_DOWN", os.devnull))
"""While there is such a file, what the handler depends on is down."""

events = Exchange(f"{QUEUE}.events", mandatory=False)


class GatewayDownError(Exception):
    """What the handlers depend on is down."""


def probe() -> None:
    """Return if it is back."""
    if DOWN.is_file():
        raise GatewayDownError


plain = Service("plain", retry=Retry(stop=stop_after_attempt(3), wait=wait_fixed(0.1)))


@plain.handler(
    Queue(QUEUE), pause=Pause(on=GatewayDownError, minimum=1, rate=0.01, probe=probe, every=0.2)
)
async def post(body: dict[str, str], publisher: Publisher) -> None:
    """Do what the body says."""
    match body["do"]:
        case "down":
            probe()
        case "fail":
            raise ValueError(f"card {body['card']}")
        case "reject":
            raise Reject(f"card {body['card']}")
        case "publish":
            await publisher.publish(events, "posted", body)
        case "sleep":
            await asyncio.sleep(float(body["seconds"]))


whole = Service(
    "whole",
    store=Store(DATABASE),
    retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1)),
)
"""Has all that there are metrics of: order, a store, an outbox, a saga."""


class Item(BaseModel):
    """What the ordered handler and the saga take."""

    key: str
    do: str = ""


class State(BaseModel):
    """What the saga keeps."""

    key: str


@whole.handler(Queue(f"{QUEUE}.ordered", partitions=2), order_by="key")
async def ordered(item: Item, transaction: Transaction) -> None:
    """Keep the order of a key, and publish by the outbox; fail where the body says so."""
    if item.do == "fail":
        raise ValueError(item.key)
    await transaction.publish(events, "ordered", item)


class Payment(Saga[State], name="payment"):
    """Goes on for ever."""

    @starts(Queue(f"{QUEUE}.saga"), by="key")
    async def begun(self, item: Item) -> None:
        """Begin."""
        self.begin(State(key=item.key))


whole.saga(Payment)
