"""Runs a saga on a real store without a broker: what a transaction published is routed here.

Messages come in an order that is drawn, some of them twice, and held ones at any time, as if no
clock were right; several stores, each with connections of its own, handle them at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mqkit.codec import BodyDecoder, encode
from mqkit.errors import UncountedError
from mqkit.message import Delivery, Message, Properties
from mqkit.outcome import Reject
from mqkit.registration.sagas import SagaHandler
from mqkit.sagas import Saga, SagaNotFoundError
from mqkit.store import Store, Transaction

World = Callable[[Message], list[tuple[str, object]]]
"""Answers a message that goes to others: returns methods of the saga, with what each gets."""


@dataclass
class Bus:
    """Brings messages to a saga's methods, until none is left."""

    saga: type[Saga[Any]]
    world: World
    draw: random.Random
    twice: float = 0.3
    """How likely a message is delivered once more."""
    waiting: list[tuple[str, Delivery]] = field(default_factory=list)
    published: dict[str, Message] = field(default_factory=dict)
    """What went to others, by message id."""
    rejected: list[str] = field(default_factory=list)
    uncounted: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        steps = self.saga.declaration().steps
        _, handlers = self.saga.__mqkit_saga__(Transaction)
        self._methods = {
            step.method: (step, handler) for step, handler in zip(steps, handlers, strict=True)
        }
        self._own = {step.queue.name: step.method for step in steps}

    def send(self, method: str, message: object, *, message_id: str | None = None) -> None:
        """Put a message in a method's queue."""
        body, content_type = encode(message)
        properties = Properties(
            message_id=message_id or str(uuid.uuid4()),
            content_type=content_type,
            type=type(message).__name__,
        )
        self._put(method, body, properties)

    def _put(self, method: str, body: bytes, properties: Properties) -> None:
        queue = self._methods[method][0].queue.name
        for _ in range(1 + (self.draw.random() < self.twice)):
            delivery = Delivery(body=body, properties=properties, queue=queue)
            self.waiting.append((method, delivery))

    async def handle(self, store: Store, method: str, delivery: Delivery) -> Any:
        """Handle one message in a store, and route what it published once that is committed."""
        step, handler = self._methods[method]
        body = BodyDecoder(step.body_type).decode(delivery.body, delivery.properties)
        committed: list[Message] = []

        async def run(transaction: Transaction) -> Any:
            result = await call(handler, step.body, body, transaction, delivery)
            committed[:] = [message for _, message in transaction.messages]
            return result

        result = await store.run_once(step.handler, delivery, run, at_once=4)
        for message in committed:
            self._route(message)
        return result

    def _route(self, message: Message) -> None:
        if not message.exchange and message.routing_key in self._own:
            self._put(self._own[message.routing_key], message.body, message.properties)
            return
        message_id = message.properties.message_id or ""
        assert message_id not in self.published
        self.published[message_id] = message
        for method, answer in self.world(message):
            self.send(method, answer)

    async def run(self, stores: Sequence[Store], *, at_once: int = 2) -> None:
        """Handle all that is waiting, and what comes of it, in all stores at the same time."""
        busy = 0

        async def work(store: Store) -> None:
            nonlocal busy
            while self.waiting or busy:
                if not self.waiting:
                    await asyncio.sleep(0.001)
                    continue
                at = self.draw.randrange(len(self.waiting))
                method, delivery = self.waiting.pop(at)
                busy += 1
                try:
                    await self._try(store, method, delivery)
                finally:
                    busy -= 1

        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            for store in stores:
                for _ in range(at_once):
                    group.create_task(work(store))

    async def _try(self, store: Store, method: str, delivery: Delivery) -> None:
        try:
            await self.handle(store, method, delivery)
        except (UncountedError, SagaNotFoundError) as error:
            self.uncounted[type(error).__name__] += 1
            self.waiting.append((method, delivery))
        except Reject as error:
            self.rejected.append(error.reason)


async def call(
    handler: SagaHandler, body_name: str, body: Any, transaction: Transaction, delivery: Delivery
) -> Any:
    """Call a saga's handler as a service would."""
    given: dict[str, Any] = {}
    for name, annotation in handler.function.__annotations__.items():
        if name == body_name:
            given[name] = body
        else:
            given[name] = transaction if annotation is Transaction else delivery
    return await handler.function(**given)


@contextlib.asynccontextmanager
async def stores_of(url: str, count: int, **options: Any) -> Any:
    """So many stores of one database, as so many processes would have."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Store(url, relay=False, **options))
            for _ in range(count)
        ]
