"""Which message is handled: for the lines that a handler logs."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mqkit import CallNext, Delivery, HandlerCall, Queue, Retry, Service
from mqkit.consuming.invoker import Invoker
from mqkit.logging import FieldsFilter, fields
from mqkit.message import Properties

seen: list[dict[str, Any]] = []


def delivery(message_id: str = "m") -> Delivery:
    properties = Properties(message_id=message_id)
    return Delivery(b"", properties, exchange="e", routing_key="k", queue="q", attempt=2)


OF_M = {
    "service": "s",
    "handler": "tests.unit.logging.test_context.{}",
    "queue": "q",
    "message_id": "m",
    "attempt": 2,
    "exchange": "e",
    "routing_key": "k",
}


async def asynchronous(body: bytes) -> None:
    seen.append(fields())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(in_a_task())


async def in_a_task() -> None:
    seen.append(fields())


def in_a_thread(body: bytes) -> None:
    seen.append(fields())


async def failing(body: bytes) -> None:
    seen.append(fields())
    raise ValueError


async def many(bodies: list[bytes]) -> None:
    seen.append(fields())


def invoker(function: Any, **options: Any) -> Invoker:
    service = Service("s", retry=Retry.never())
    if function is many:
        service.batch(Queue("q"), size=20, within=1)(many)
    else:
        service.handler(Queue("q"))(function)
    pool = ThreadPoolExecutor(1)
    known: dict[str, Any] = {"middleware": (), "values": {}, "providers": {}, "executor": pool}
    return Invoker("s", service.handlers[0], **{**known, **options})


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


@pytest.mark.parametrize("function", [asynchronous, in_a_thread, failing])
async def test_a_handler_has_the_fields_of_its_message(function: Any) -> None:
    """In its tasks and threads, too; and none once it has ended, in whatever way."""
    try:
        await invoker(function).invoke(delivery(), b"")
    except ValueError:
        assert function is failing
    expected = {**OF_M, "handler": f"{function.__module__}.{function.__name__}"}
    assert seen == [expected] * (2 if function is asynchronous else 1)
    assert fields() == {}


async def test_a_batch_has_the_ids_of_its_first_messages() -> None:
    """And how many there are; what differs between them is left out."""
    deliveries = tuple(delivery(f"m{n}") for n in range(12))
    await invoker(many).invoke_batch(deliveries, [b""] * 12)
    assert seen == [
        {
            "service": "s",
            "handler": f"{many.__module__}.many",
            "queue": "q",
            "batch_size": 12,
            "message_ids": [f"m{n}" for n in range(10)],
        }
    ]


async def test_middleware_has_them_and_messages_side_by_side_have_their_own() -> None:
    """A run that waits sees no other one's."""

    async def middleware(call: HandlerCall, call_next: CallNext) -> Any:
        await asyncio.sleep(0)
        seen.append(fields())
        return await call_next(call)

    run = invoker(in_a_thread, middleware=(middleware,))
    await asyncio.gather(*(run.invoke(delivery(f"m{n}"), b"") for n in range(3)))
    assert sorted(each["message_id"] for each in seen) == ["m0", "m0", "m1", "m1", "m2", "m2"]


class Suspended:
    """What is awaited and never comes."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def test_what_python_throws_away_raises_nothing() -> None:
    """A run that never ends is closed by the garbage collector, outside of its context."""

    async def waits(body: bytes) -> None:
        await Suspended()

    run = invoker(waits).invoke(delivery(), b"")
    contextvars.copy_context().run(run.send, None)
    run.close()


def record() -> logging.LogRecord:
    return logging.LogRecord("n", logging.INFO, __file__, 1, "text", (), None)


def test_a_filter_gives_every_record_all_fields() -> None:
    """Of a handler's message as they are; outside as `missing`; what a record has stays."""
    bare, own = record(), record()
    own.__dict__["message_id"] = "mine"
    assert FieldsFilter().filter(bare)
    assert FieldsFilter(missing="-").filter(own)
    assert (bare.__dict__["message_id"], bare.__dict__["outcome"]) == (None, None)
    assert (own.__dict__["message_id"], own.__dict__["queue"]) == ("mine", "-")
