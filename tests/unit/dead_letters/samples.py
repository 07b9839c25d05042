"""Dead letters as a queue has them, made by what makes them in a service."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mqkit import Delivery
from mqkit.consuming.copies import dead_letter_copy
from mqkit.dead_letters.messages.letters import Letter, read
from mqkit.drivers.base import Incoming
from mqkit.message import Message, Properties
from mqkit.outcome import DeadLetter, DeathReason

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

QUEUE = "ledger.post"


def incoming(body: bytes = b"{}", message_id: str | None = "m-1", **headers: Any) -> Incoming:
    """What anybody may have put into a dead letter queue."""
    properties = Properties(headers=headers, message_id=message_id)
    return Incoming(7, False, "", f"{QUEUE}.dead", properties, body)


def named(headers: dict[str, Any], body: bytes = b"{}") -> Incoming:
    """The same, with headers whose names are no Python's."""
    return incoming(body, **headers)


def failed(error: BaseException, body: bytes = b"{}", **headers: Any) -> Message:
    """The dead letter that a handler's failure is."""
    delivery = Delivery(
        body=body,
        properties=Properties(headers=headers, message_id="m-1", content_type="application/json"),
        exchange="payments",
        routing_key="order.accepted",
        queue=QUEUE,
        attempt=3,
    )
    outcome = DeadLetter(DeathReason.ATTEMPTS_EXHAUSTED, error)
    return dead_letter_copy(delivery, outcome, "ledger", "shop.ledger.post", NOW)


def raised(error: BaseException) -> BaseException:
    """The error, with a traceback."""
    try:
        fail(error)
    except BaseException as caught:  # noqa: BLE001 - it is what was asked for
        return caught
    raise AssertionError


def fail(error: BaseException) -> None:
    """The place in the code where it fails."""
    raise error


def letter(message: Message | None = None, *, has_body: bool = True) -> Letter:
    """What is read of a dead letter."""
    made = message or failed(raised(ValueError("no amount")))
    came = Incoming(1, False, "", f"{QUEUE}.dead", made.properties, made.body)
    return read(came, queue=QUEUE, has_body=has_body)
