"""Traces on every way of a message: batches, partitions, delays, requests, threads, sagas."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from pydantic import BaseModel
from tenacity import stop_after_attempt, wait_fixed

from mqkit import (
    BlockingPublisher,
    Delivery,
    Exchange,
    Outgoing,
    Publisher,
    Queue,
    Reject,
    RequestRejectedError,
    Retry,
    Service,
    UnroutableError,
)
from mqkit.observability.tracing import Tracing
from mqkit.sagas import Saga, on_timeout, starts
from mqkit.store import Store, SyncTransaction
from mqkit.testing.harness import harness
from tests.support import eventually
from tests.traces import Collected, id_of, trace_of, tree

pytestmark = pytest.mark.in_turn(embedded=True)

RETRY = Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1))


@pytest.fixture
def collected() -> Collected:
    """What collects the spans of a test."""
    return Collected()


async def test_a_batch_is_linked_to_each_of_its_messages(
    mqkit_vhost: str, name: str, collected: Collected
) -> None:
    """The run is a trace of its own; what became of each message is in the message's trace."""
    service = Service(name, retry=Retry.never(), tracing=collected.tracing)
    queue = f"{name}.q"

    @service.batch(Queue(queue), size=3, within=10)
    async def handle(bodies: list[int]) -> list[object]:
        return [ValueError("no") if body == 2 else None for body in bodies]

    async with harness(service, url=mqkit_vhost) as h:
        async with Publisher(mqkit_vhost, tracing=collected.tracing) as publisher:
            async for result in publisher.publish_many(Outgoing("", queue, n) for n in (1, 2, 3)):
                assert result.error is None
        await h.idle()
        await eventually(lambda: len(collected.named(f"{queue} settle")) == 1)
    (run,) = collected.named(f"{queue} process")
    publishes = collected.named(f"{queue} publish")
    assert run.attributes is not None
    assert run.attributes["messaging.batch.message_count"] == 3
    assert {link.context.span_id for link in run.links} == {id_of(each) for each in publishes}
    assert len({trace_of(each) for each in (run, *publishes)}) == 4
    (settled,) = collected.named(f"{queue} settle")  # acks are none
    assert settled.parent is not None
    assert settled.parent.span_id == id_of(publishes[1])
    assert [link.context.span_id for link in settled.links] == [id_of(run)]
    assert settled.attributes is not None
    assert settled.attributes["mqkit.outcome"] == "dead-letter"


async def test_partitions_and_held_retries_keep_the_trace(
    mqkit_vhost: str, name: str, collected: Collected
) -> None:
    """The copy for the partition has the context, and each held attempt is a run of its own."""
    service = Service(name, retry=RETRY, tracing=collected.tracing)
    queue = f"{name}.q"
    attempts = []

    @service.handler(Queue(queue, partitions=2), order_by="key")
    async def handle(body: dict[str, str], delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        if len(attempts) == 1:
            raise ValueError("not yet")

    async with harness(service, url=mqkit_vhost):
        async with Publisher(mqkit_vhost, tracing=collected.tracing) as publisher:
            await publisher.publish("", queue, {"key": "a"})
        await eventually(lambda: len(collected.named(f"{queue} process")) == 2)
    assert attempts == [1, 2]
    assert tree(collected.spans) == (
        f"{queue} publish\n  {queue} receive\n  {queue} process\n  {queue} process"
    )


async def test_what_is_published_later_keeps_its_trace(
    mqkit_vhost: str, name: str, collected: Collected
) -> None:
    """The delay is between the publish and the wait in the process, in one trace."""
    service = Service(name, retry=RETRY, tracing=collected.tracing)
    queue = f"{name}.q"

    @service.handler(Queue(queue))
    async def handle(body: bytes) -> None:
        """Do nothing."""

    async with harness(service, url=mqkit_vhost):
        async with Publisher(mqkit_vhost, tracing=collected.tracing) as publisher:
            await publisher.publish("", queue, b"later", delay=0.2)
        await eventually(lambda: len(collected.named(f"{queue} process")) == 1)
    assert len({trace_of(span) for span in collected.spans}) == 1
    published, came = collected.named(f"{queue} publish"), collected.named(f"{queue} receive")
    assert (came[0].start_time or 0) - (published[0].start_time or 0) > 0.18e9


async def test_a_request_lasts_until_its_reply_and_is_linked_to_it(
    mqkit_vhost: str, name: str, collected: Collected
) -> None:
    """The reply has the context of the run; a rejected request is a failed span."""
    service = Service(name, retry=Retry.never(), tracing=collected.tracing)
    queue = Queue(f"{name}.q")

    @service.handler(queue)
    async def handle(body: int) -> int:
        if body < 0:
            raise Reject("it is negative")
        return body + 1

    async with (
        harness(service, url=mqkit_vhost),
        Publisher(mqkit_vhost, tracing=collected.tracing) as publisher,
    ):
        assert await publisher.request(queue, 1, int) == 2
        with pytest.raises(RequestRejectedError):
            await publisher.request(queue, -1, int)
    good, bad = collected.named(f"{queue.name} publish")
    runs = {trace_of(span): id_of(span) for span in collected.named(f"{queue.name} process")}
    for span in (good, bad):
        assert [link.context.span_id for link in span.links] == [runs[trace_of(span)]]
    assert good.status.is_unset
    assert bad.status.description is not None
    assert bad.status.description.endswith("it was rejected: it is negative")


async def test_a_publish_that_fails_is_a_failed_span(
    mqkit_vhost: str, name: str, collected: Collected
) -> None:
    """Its status has the error, and so has the result of one among many."""
    async with Publisher(mqkit_vhost, tracing=collected.tracing) as publisher:
        with pytest.raises(UnroutableError):
            await publisher.publish("", f"{name}.nobody", b"1")
        many = (Outgoing("", f"{name}.nobody", body) for body in (b"2", b"3"))
        assert [bool(result.error) async for result in publisher.publish_many(many)] == [True] * 2
    spans = collected.named(f"{name}.nobody publish")
    assert len(spans) == 3
    for span in spans:
        assert span.attributes is not None
        assert span.attributes["error.type"] == "mqkit.errors.UnroutableError"
        assert not span.status.is_ok


async def test_a_blocking_publisher_and_threads_go_on_with_the_trace(
    mqkit_vhost: str, name: str, collected: Collected, tmp_path: Path
) -> None:
    """What a view, a script or a `def` handler publishes belongs to what runs in its thread."""
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    service = Service(name, retry=RETRY, store=store, tracing=collected.tracing)
    first, second = f"{name}.first", f"{name}.second"
    current = []

    @service.handler(Queue(first))
    def handle(body: int, transaction: SyncTransaction) -> None:
        current.append(trace.get_current_span().get_span_context().trace_id)
        transaction.publish("", second, body)

    @service.handler(Queue(second))
    def end(body: int) -> int:
        return body

    def publish() -> None:
        tracer = collected.provider.get_tracer("view")
        with (
            tracer.start_as_current_span("view"),
            BlockingPublisher(mqkit_vhost, tracing=collected.tracing) as publisher,
        ):
            publisher.publish("", first, 1)
            assert next(publisher.publish_many([Outgoing("", first, 2)])).error is None
            assert publisher.request(Queue(second), 3, int) == 3

    async with harness(service, url=mqkit_vhost) as h:
        await asyncio.to_thread(publish)
        await eventually(lambda: len(h.handled) == 5)
        await eventually(lambda: len(collected.named(f"{second} process")) == 3)
    assert {trace_of(span) for span in collected.spans} == set(current)
    assert len(current) == 2
    drawn = tree(collected.spans)
    for depth, names in (
        (1, f"{first} publish"),
        (3, f"{second} create"),
        (4, f"{second} publish"),
    ):
        assert drawn.count(f"\n{'  ' * depth}{names}") == 2


class Placed(BaseModel):
    """An order was placed."""

    order: str


class Waiting(BaseModel):
    """The state of a saga."""


async def test_a_saga_and_its_timeouts_are_one_trace(
    mqkit_vhost: str, name: str, collected: Collected, tmp_path: Path
) -> None:
    """The timeout that a saga sets comes back in the trace of the message that set it."""
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    service = Service(name, retry=RETRY, store=store, tracing=collected.tracing)
    exchange = Exchange(f"{name}.x", type="topic")

    class Order(Saga[Waiting], name=f"{name}.order"):
        """Waits a moment, and is done."""

        @starts(Queue(f"{name}.placed"), bind=exchange.key("placed"), by="order")
        async def placed(self, message: Placed) -> None:
            self.begin(Waiting())
            await self.timeout("late", after=0.1)

        @on_timeout("late")
        async def late(self) -> None:
            self.complete()

    service.saga(Order)
    async with harness(service, url=mqkit_vhost) as h:
        async with Publisher(mqkit_vhost, tracing=collected.tracing) as publisher:
            await publisher.publish(exchange, "placed", Placed(order="o-1"))
        await eventually(lambda: len(h.handled) == 2)
    assert len({trace_of(span) for span in collected.spans}) == 1
    assert sum(span.name.endswith(" process") for span in collected.spans) == 2


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "ff" * 30,
        "x" * 5_000,
        7,
        b"\xff",
        ["a"],
        None,
    ],
)
async def test_a_context_that_is_none_does_no_harm(
    mqkit_vhost: str, name: str, collected: Collected, header: object
) -> None:
    """Whatever a stranger writes there, the message is handled, in a trace of its own."""
    service = Service(name, retry=RETRY, tracing=collected.tracing)
    queue = f"{name}.q"

    @service.handler(Queue(queue))
    async def handle(body: bytes, delivery: Delivery) -> None:
        """Do nothing."""

    async with harness(service, url=mqkit_vhost) as h:
        headers = {"traceparent": header, "tracestate": header}
        await h.publish("", queue, b"x", headers=headers)
        await h.idle()
        assert len(h.handled) == 1
    (run,) = collected.named(f"{queue} process")
    assert run.parent is None
    assert not run.links


async def test_a_context_of_the_application_s_own_stays(
    mqkit_vhost: str, name: str, collected: Collected
) -> None:
    """A publish with a traceparent is linked to that, and what handles it belongs to that."""
    service = Service(name, retry=RETRY, tracing=collected.tracing)
    queue, theirs = f"{name}.q", "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"

    @service.handler(Queue(queue))
    async def handle(body: bytes) -> None:
        """Do nothing."""

    async with harness(service, url=mqkit_vhost):
        async with Publisher(mqkit_vhost, tracing=collected.tracing) as publisher:
            headers = {"traceparent": theirs, "tracestate": "vendor=1"}
            await publisher.publish("", queue, b"x", headers=headers)
        await eventually(lambda: len(collected.named(f"{queue} process")) == 1)
    (published,), (run,) = collected.named(f"{queue} publish"), collected.named(f"{queue} process")
    for span in (published, run):
        assert f"{trace_of(span):032x}" == "ab" * 16
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == "cd" * 8
        assert len(span.links) == 1


async def test_what_is_not_sampled_is_carried_and_makes_no_span(
    mqkit_vhost: str, name: str
) -> None:
    """The context goes on with its flag, so that no service after it begins a trace of its own."""
    collected = Collected(ALWAYS_OFF)
    service = Service(name, retry=RETRY, tracing=collected.tracing)
    queue, seen = f"{name}.q", []

    @service.handler(Queue(queue))
    async def handle(body: bytes, delivery: Delivery) -> None:
        context = trace.get_current_span().get_span_context()
        seen.append((delivery.headers["traceparent"], f"{context.trace_id:032x}"))

    async with harness(service, url=mqkit_vhost) as h:
        async with Publisher(mqkit_vhost, tracing=collected.tracing) as publisher:
            await publisher.publish("", queue, b"x")
        await eventually(lambda: len(h.handled) == 1)
    ((header, trace_id),) = seen
    assert isinstance(header, str)
    assert header.split("-")[1] == trace_id
    assert int(header.split("-")[3], 16) & 1 == 0
    assert not collected.spans


class Broken(Sampler):
    """A sampler that an application has written, with a fault."""

    def should_sample(self, *_: object, **__: object) -> object:  # type: ignore[override]
        """Fail."""
        raise RuntimeError("planted fault")

    def get_description(self) -> str:
        """Return its name."""
        return "broken"


async def test_tracing_that_fails_loses_no_message(
    mqkit_vhost: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Messages are published, retried and handled without spans, and the fault is logged once."""
    collected = Collected(Broken())
    service = Service(name, retry=RETRY, tracing=collected.tracing)
    queue, runs = f"{name}.q", []

    @service.handler(Queue(queue))
    async def handle(body: bytes, delivery: Delivery) -> int:
        runs.append(delivery.attempt)
        if len(runs) == 1:
            raise ValueError("once")
        return 1

    async with (
        harness(service, url=mqkit_vhost),
        Publisher(mqkit_vhost, tracing=Tracing(collected.provider)) as publisher,
    ):
        assert await publisher.request(Queue(queue), b"x", int) == 1
    assert runs == [1, 2]
    failures = [each for each in caplog.records if "tracing failed" in each.getMessage()]
    assert len([each for each in failures if each.levelname == "ERROR"]) == 2  # one each
