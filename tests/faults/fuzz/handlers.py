"""The hostile service: a handler for each lane, with the policy, middleware and providers it needs.

All of it does what the plan of a message says, and nothing by chance.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from pydantic import BaseModel, model_validator
from tenacity import RetryCallState, stop_after_attempt

from mqkit import Delivery, Exchange, Limits, Queue, Retry, Service
from mqkit.message import Message
from mqkit.middleware import CallNext, HandlerCall, Observer
from mqkit.outcome import Outcome
from mqkit.topology import Source
from tests.faults.fuzz.acts import OUTLASTED, TIMEOUT, Acting
from tests.faults.fuzz.messages import BODY_LIMIT, HEADERS_LIMIT
from tests.faults.fuzz.plans import ATTEMPTS
from tests.faults.fuzz.raising import RAISED, raised
from tests.faults.fuzz.tap import number
from tests.faults.fuzz.values import KEYS, WAITS


class SwallowedError(Exception):
    """What the middleware takes for an end."""


BATCH, WITHIN = 5, 0.05


def _wait(state: RetryCallState) -> float:
    return 0.1 if state.attempt_number % 2 else 0.0


POLICY = Retry(stop=stop_after_attempt(ATTEMPTS), wait=_wait)


class Plain:
    """What a generator provides."""


class Asynchronous:
    """What an asynchronous generator provides."""


class Hostile:
    """Registers the handlers of all lanes.

    :param prefix: what the names of the queues begin with
    """

    def __init__(self, prefix: str, acting: Acting) -> None:
        self._prefix = prefix
        self._acting = acting
        self.service = Service(
            "fuzz", limits=Limits(body=BODY_LIMIT, headers=HEADERS_LIMIT), retry=POLICY
        )
        self._plain()
        self._bodies()
        self._policy()
        self._middleware()
        self._provider()
        self._batches()
        self._ordered()

    def queue(self, lane: str, **options: Any) -> Queue:
        """The queue of a lane."""
        return Queue(f"{self._prefix}.{lane}", **options)

    def fed(self, lane: str) -> list[Source]:
        """An exchange that gives a lane whatever is published to it, under any routing key."""
        return [Exchange(f"{self._prefix}.{lane}.in", type="fanout").key()]

    def _plain(self) -> None:
        acting, handler = self._acting, self.service.handler
        # One handler each: a function is registered once.

        @handler(self.queue("async"), bind=self.fed("async"))
        async def in_loop(delivery: Delivery) -> Any:
            return await acting.asynchronously(delivery)

        @handler(self.queue("async-timeout"), bind=self.fed("async-timeout"), timeout=TIMEOUT)
        async def in_loop_in_time(delivery: Delivery) -> Any:
            return await acting.asynchronously(delivery)

        @handler(self.queue("def"), bind=self.fed("def"), concurrency=8)
        def in_thread(delivery: Delivery, body: bytes) -> Any:
            return acting.in_thread(delivery)

        @handler(
            self.queue("def-timeout"), bind=self.fed("def-timeout"), timeout=TIMEOUT, concurrency=8
        )
        def in_thread_in_time(delivery: Delivery) -> Any:
            return acting.in_thread(delivery)

    def _bodies(self) -> None:
        acting = self._acting

        class Model(BaseModel):
            n: int

            @model_validator(mode="before")
            @classmethod
            def check(cls, value: Any) -> Any:
                message = acting.numbered(value.get("n") if isinstance(value, dict) else None)
                if message is not None and message.plan.act == "validator raises":
                    raise raised(message.plan.kind, message.number)
                return value

        async def validated(delivery: Delivery, body: Model) -> Any:
            return await acting.asynchronously(delivery)

        # The class is local, and annotations are texts here.
        validated.__annotations__["body"] = Model
        self.service.handler(self.queue("model"), bind=self.fed("model"))(validated)

        @self.service.handler(self.queue("any"), bind=self.fed("any"))
        async def anything(delivery: Delivery, body: Any) -> Any:
            return await acting.asynchronously(delivery)

    def _policy(self) -> None:
        acting = self._acting

        def failing(state: RetryCallState, act: str, otherwise: Any) -> Any:
            error = state.outcome.exception() if state.outcome else None
            message = acting.numbered(getattr(error, "fuzzed", None))
            if message is None:
                return otherwise
            if message.plan.act == act:
                raise raised(message.plan.kind, message.number)
            if act == "wait raises" and message.plan.act == "wait is":
                return WAITS[message.plan.kind]
            return otherwise

        policy = Retry(
            stop=lambda s: failing(s, "stop raises", s.attempt_number >= ATTEMPTS),
            wait=lambda s: failing(s, "wait raises", 0.0),
            retry=lambda s: failing(s, "retry raises", True),
        )

        @self.service.handler(self.queue("policy"), bind=self.fed("policy"), retry=policy)
        async def by_policy(delivery: Delivery) -> None:
            message = acting.began(delivery)
            if message.plan.act != "return":
                raise raised("ValueError", message.number)
            acting.account.done(message.number)

    def _middleware(self) -> None:
        acting = self._acting

        async def around(call: HandlerCall, call_next: CallNext) -> Any:
            message = acting.message(call.delivery)
            match message.plan.act.removeprefix("middleware "):
                case "raises before":
                    raise raised(message.plan.kind, message.number)
                case "forgets to await":
                    return call_next(call)
                case "calls with nothing":
                    return await call_next(None)  # type: ignore[arg-type]
                case "skips":
                    result = None
                case act:
                    result = await _around(call, call_next, twice=act == "calls twice")
                    if act == "raises after":
                        raise raised(message.plan.kind, message.number)
            acting.account.done(message.number)
            return result

        @self.service.handler(
            self.queue("middleware"), bind=self.fed("middleware"), middleware=[around]
        )
        async def inside(delivery: Delivery) -> None:
            if acting.began(delivery).plan.act == "middleware swallows":
                raise SwallowedError

    def _provider(self) -> None:
        acting = self._acting

        def plain(delivery: Delivery) -> Iterator[Plain]:
            for _ in range(acting.opened(delivery, "provider ")):
                yield Plain()
            acting.closed(delivery, "provider ")

        async def asynchronous(delivery: Delivery) -> AsyncIterator[Asynchronous]:
            for _ in range(acting.opened(delivery, "provider async ")):
                yield Asynchronous()
                await asyncio.sleep(0)
            acting.closed(delivery, "provider async ")

        self.service.provide(Plain, plain)
        self.service.provide(Asynchronous, asynchronous)

        async def provided(one: Any, other: Any, delivery: Delivery) -> Any:
            return await acting.asynchronously(delivery)

        provided.__annotations__ |= {"one": Plain, "other": Asynchronous}
        self.service.handler(self.queue("provider"), bind=self.fed("provider"))(provided)

    def _batches(self) -> None:
        acting, batch = self._acting, self.service.batch

        async def run(deliveries: list[Delivery]) -> Any:
            act = acting.message(deliveries[0]).plan.act
            await asyncio.sleep({"block": 0.05, "outlast": OUTLASTED}.get(act, 0))
            return acting.batch(deliveries)

        @batch(
            self.queue("batch"), bind=self.fed("batch"), size=BATCH, within=WITHIN, concurrency=2
        )
        async def many(bodies: list[Any], deliveries: list[Delivery]) -> Any:
            return await run(deliveries)

        @batch(
            self.queue("batch-timeout"),
            bind=self.fed("batch-timeout"),
            size=BATCH,
            within=WITHIN,
            timeout=TIMEOUT,
        )
        async def many_in_time(bodies: list[bytes], deliveries: list[Delivery]) -> Any:
            return await run(deliveries)

        @batch(
            self.queue("batch-def"),
            bind=self.fed("batch-def"),
            size=BATCH,
            within=WITHIN,
            concurrency=2,
        )
        def many_in_thread(bodies: list[bytes], deliveries: list[Delivery]) -> Any:
            return acting.batch(deliveries)

    def _ordered(self) -> None:
        acting = self._acting

        def key(body: Any) -> Any:
            known = body.get("n") if isinstance(body, dict) else None
            message = acting.numbered(known)
            if message is None or not message.plan.act.startswith("key "):
                return known if isinstance(known, str | int) else None
            if message.plan.act == "key raises":
                raise raised(message.plan.kind, message.number)
            return KEYS[message.plan.kind]()

        @self.service.handler(
            self.queue("ordered", partitions=1), bind=self.fed("ordered"), order_by=key
        )
        async def in_order(delivery: Delivery, body: Any) -> Any:
            return await acting.asynchronously(delivery)

        @self.service.handler(
            self.queue("partitioned", partitions=3), bind=self.fed("partitioned"), order_by=key
        )
        async def in_partitions(delivery: Delivery, body: Any) -> Any:
            return await acting.asynchronously(delivery)


async def _around(call: HandlerCall, call_next: CallNext, *, twice: bool) -> Any:
    """Go on, once or twice, and take one error for an end."""
    try:
        if twice:
            await call_next(call)
        return await call_next(call)
    except SwallowedError:
        return None


class Raising(Observer):
    """An observer that raises for some messages; what it raises concerns nobody else."""

    def received(self, handler: str, delivery: Delivery) -> None:
        """Raise for every seventh message."""
        self._raise(number(delivery.properties))

    def started(self, handler: str, delivery: Delivery) -> None:
        """Raise for every seventh message."""
        self._raise(number(delivery.properties))

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:
        """Raise for every seventh message."""
        self._raise(number(delivery.properties))

    def confirmed(self, message: Message) -> None:
        """Raise for every seventh message."""
        self._raise(number(message.properties))

    @staticmethod
    def _raise(known: int | None) -> None:
        if known is not None and known % 7 == 0:
            kinds = list(RAISED)
            raise raised(kinds[known // 7 % len(kinds)], known)
