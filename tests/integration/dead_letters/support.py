"""Dead letters on a broker, made as services make them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from mqkit import Delivery, Queue
from mqkit.consuming.copies import dead_letter_copy
from mqkit.message import Message, Properties
from mqkit.outcome import DeadLetter, DeathReason
from mqkit.topology import dead_letter_queue
from tests.support import Client

CARD, PASSWORD, TOKEN = "4111111111111111", "hunter2-planted", "ghp_" + "a1B2" * 9
SECRETS = (CARD, PASSWORD, TOKEN)

NOTHING: Any = None

KINDS: tuple[Callable[[], object], ...] = (
    lambda: list[int]()[NOTHING],
    lambda: dict[str, int]()["amount"],
    lambda: int("x"),
    lambda: 1 / 0,
    lambda: NOTHING.amount,
)
"""Five failures, each at a place of its own."""

AT_ONCE = 500


def failed(kind: int, queue: str, secret: str = "") -> Message:
    """The dead letter of a failure of this kind."""
    error: BaseException = AssertionError()
    try:
        KINDS[kind]()
    except Exception as caught:  # noqa: BLE001 - whatever it is
        error = caught
    if secret:
        error.args = (secret,)
    properties = Properties(message_id="m", content_type="application/json")
    delivery = Delivery(b"", properties, "events", "order.paid", queue)
    outcome = DeadLetter(DeathReason.NOT_RETRYABLE, error)
    return dead_letter_copy(delivery, outcome, "shop", "shop.take", datetime.now(UTC))


async def declare(client: Client, queue: Queue) -> None:
    """Declare a queue and its dead letter queue."""
    async with client.channel() as channel:
        for each in (dead_letter_queue(queue), queue):
            await channel.declare_queue(each.name, arguments=each.declared_arguments())


async def fill(
    client: Client,
    queue: str,
    bodies: Sequence[bytes],
    secret: str = "",
    *,
    declared: bool = False,
) -> None:
    """Put dead letters of five kinds in turn into a queue's dead letter queue, in this order.

    Their ids are `m-0` and on.

    :param declared: whether the queues are there already
    """
    if not declared:
        await declare(client, Queue(queue))
    kinds = [failed(kind, queue, secret) for kind in range(len(KINDS))]

    async def publish(number: int, body: bytes) -> None:
        message = kinds[number % len(kinds)]
        properties = replace(message.properties, message_id=f"m-{number}")
        await client.publisher.send(replace(message, body=body, properties=properties), timeout=60)

    numbered = list(enumerate(bodies))
    for at in range(0, len(numbered), AT_ONCE):
        await asyncio.gather(*(publish(*each) for each in numbered[at : at + AT_ONCE]))
