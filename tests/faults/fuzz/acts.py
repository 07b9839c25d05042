"""What a handler does with a message that it was given, by the message's plan."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from mqkit import Delivery
from tests.faults.fuzz.account import Account
from tests.faults.fuzz.messages import Fuzzed
from tests.faults.fuzz.plans import AWAITABLES, DEAD, FAILS_ALWAYS, FAILS_ONCE
from tests.faults.fuzz.raising import raised
from tests.faults.fuzz.tap import number
from tests.faults.fuzz.values import RESULTS
from tests.faults.fuzz.wire import Raw

TIMEOUT = 0.15
"""Seconds; the timeout of handlers that have one."""

OUTLASTED = 0.3
"""Seconds that a run takes which outlasts it."""


class Acting:
    """Does what is planned for each message, and says what it did."""

    def __init__(self, messages: Sequence[Fuzzed], account: Account) -> None:
        self._messages = messages
        self.account = account

    def message(self, delivery: Delivery) -> Fuzzed:
        """The message that a delivery is."""
        known = number(delivery.properties)
        assert known is not None, "each message is marked"
        return self._messages[known]

    def numbered(self, known: Any) -> Fuzzed | None:
        """The message of this number, if a body has one."""
        if isinstance(known, int) and 0 <= known < len(self._messages):
            return self._messages[known]
        return None

    def began(self, delivery: Delivery) -> Fuzzed:
        """Note a run, and whether the message is, at each attempt, what was published."""
        message = self.message(delivery)
        self.account.ran(message.number)
        if changed := _changed(message.raw, delivery):
            self.account.closed(f"attempt {delivery.attempt} at {message.number}: {changed}")
        return message

    async def asynchronously(self, delivery: Delivery) -> Any:
        """Run as a coroutine function does."""
        message = self.began(delivery)
        match message.plan.act:
            case "block":
                await asyncio.sleep(message.number % 10 * 0.01)
            case "outlast":
                await asyncio.sleep(OUTLASTED)
            case "cancel the task":
                task = asyncio.current_task()
                assert task is not None, "a handler runs in a task"
                task.cancel()
                await asyncio.sleep(1)
            case "cancelled future":
                never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                never.cancel()
                await never
            case "task group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(_child(message))
        return self._end(message, delivery)

    def in_thread(self, delivery: Delivery) -> Any:
        """Run as a plain function does, in a thread."""
        message = self.began(delivery)
        match message.plan.act:
            case "block":
                time.sleep(message.number % 10 * 0.01)
            case "outlast":
                time.sleep(OUTLASTED)
        return self._end(message, delivery)

    def _end(self, message: Fuzzed, delivery: Delivery) -> Any:
        plan, known = message.plan, message.number
        if plan.act in ("raise", FAILS_ONCE, FAILS_ALWAYS) or (
            plan.act == "flaky" and delivery.attempt == 1
        ):
            raise raised(plan.kind, known)
        if delivery.overdue:
            return None
        if plan.act == "return awaitable" and plan.kind in AWAITABLES:
            return RESULTS[plan.kind]()
        # A provider that fails later says that this was in vain, and so does its message's end.
        if plan.ends != frozenset({DEAD}):
            self.account.done(known)
        if plan.act == "return":
            return RESULTS[plan.kind]()
        return None

    def opened(self, delivery: Delivery, provider: str) -> int:
        """How many values the provider of this name yields, if it does not fail first."""
        message = self.message(delivery)
        match message.plan.act.removeprefix(provider):
            case "fails on open":
                raise raised(message.plan.kind, message.number)
            case "yields nothing":
                return 0
            case "yields twice":
                return 2
        return 1

    def closed(self, delivery: Delivery, provider: str) -> None:
        """Fail, if the provider of this name is to fail on close."""
        message = self.message(delivery)
        if message.plan.act == f"{provider}fails on close":
            raise raised(message.plan.kind, message.number)

    def batch(self, deliveries: Sequence[Delivery]) -> Any:
        """What a run for many returns, by the plan of the first one; it does not block."""
        messages = [self.began(each) for each in deliveries]
        plan = messages[0].plan
        if plan.act == "raise":
            raise raised(plan.kind, messages[0].number)
        if plan.act != "results" or plan.kind == "None":
            return self._done(deliveries, messages)
        if plan.kind == "mixed":
            return [self._result(*each) for each in zip(deliveries, messages, strict=True)]
        count = len(messages)
        wrong = {
            "too few": [None] * (count - 1),
            "too many": [None] * (count + 1),
            "no list": 7,
            "a dict": dict.fromkeys(range(count)),
            "a generator": (None for _ in messages),
        }
        return wrong[plan.kind]

    def _done(self, deliveries: Sequence[Delivery], messages: Sequence[Fuzzed]) -> None:
        for delivery, message in zip(deliveries, messages, strict=True):
            if not delivery.overdue:
                self.account.done(message.number)

    def _result(self, delivery: Delivery, message: Fuzzed) -> Any:
        if message.plan.act == "raise":
            return raised(message.plan.kind, message.number)
        self._done([delivery], [message])
        return None


def _changed(raw: Raw, delivery: Delivery) -> str:
    """What of a delivery is not as it was published; an id that is no UTF-8 is none to Python."""
    if delivery.body != raw.body:
        return "another body"
    if _bytes(delivery.exchange) != raw.exchange:
        return f"came from exchange {delivery.exchange!r}"
    if _bytes(delivery.routing_key) != raw.routing_key:
        return f"another routing key, {delivery.routing_key!r}"
    wanted = raw.properties.get("message_id")
    if wanted and delivery.message_id is not None and _bytes(delivery.message_id) != wanted:
        return f"another message id, {delivery.message_id!r}"
    return ""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


async def _child(message: Fuzzed) -> None:
    await asyncio.sleep(0)
    raise raised(message.plan.kind, message.number)
