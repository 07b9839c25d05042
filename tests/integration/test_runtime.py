"""A runtime's life: it runs once, tells what it is given, and closes whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from mqkit import BrokerUrl, Delivery, Queue, Retry, Runtime, Service
from mqkit.errors import ConfigurationError, HandlerError
from mqkit.testing.brokers.finder import Broker
from tests.support import connected, eventually

FORGED = "m1\n2026-01-01 00:00:00,000 CRITICAL ledger: forged\x1b[2J\u202e"


class Resource:
    """What a provider makes."""


class First(Resource):
    """One of three."""


class Second(Resource):
    """One of three."""


class Third(Resource):
    """One of three."""


def service_of(name: str, got: list[str] | None = None) -> Service:
    """One that notes the ids of its messages."""
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"))
    async def take(body: bytes, delivery: Delivery) -> None:
        if got is not None:
            got.append(str(delivery.message_id))

    return service


async def test_a_runtime_runs_once(mqkit_embedded: Broker, name: str) -> None:
    """Beside its run and after it another is refused; another Runtime of the service is not."""
    got: list[str] = []
    url = BrokerUrl.parse(mqkit_embedded.url)
    service = service_of(name, got)
    runtime = Runtime(service, url)
    async with connected(mqkit_embedded.url) as client:
        async with runtime, Runtime(service, url):
            with pytest.raises(ConfigurationError, match=r"each runs once; make another one"):
                await runtime.run(asyncio.Event())
            with pytest.raises(ConfigurationError, match="each runs once"):
                async with runtime:
                    pass
            await client.publisher.publish("", f"{name}.q", b"", message_id="a")
            await eventually(lambda: got == ["a"])
        with pytest.raises(ConfigurationError, match="each runs once"):
            await runtime.__aenter__()
        async with Runtime(service, url):
            await client.publisher.publish("", f"{name}.q", b"", message_id="b")
            await eventually(lambda: got == ["a", "b"])


async def test_a_runtime_that_could_not_start_is_over(name: str) -> None:
    """It is refused a second time, and the service may be added to again."""
    service = service_of(name)
    runtime = Runtime(service, BrokerUrl.parse("amqp://127.0.0.1:1/"), connect_deadline=0.1)
    with pytest.raises(Exception, match="refused"):
        await runtime.__aenter__()
    with pytest.raises(ConfigurationError, match="each runs once"):
        await runtime.run(asyncio.Event())
    service.provide(Resource, Resource)


async def test_what_is_registered_with_a_service_that_runs_is_refused(
    mqkit_embedded: Broker, name: str
) -> None:
    """A handler, a batch and a provider; before the start and after the end they are taken."""
    service = service_of(name)

    async def late(body: bytes) -> None: ...

    async def late_batch(bodies: list[bytes]) -> None: ...

    registrations: list[Callable[[], object]] = [
        lambda: service.handler(Queue(f"{name}.late"))(late),
        lambda: service.batch(Queue(f"{name}.many"), size=2, within=1)(late_batch),
        lambda: service.provide(Resource, Resource),
    ]
    async with Runtime(service, BrokerUrl.parse(mqkit_embedded.url)):
        for register in registrations:
            with pytest.raises(HandlerError, match=r"runs already.*register all of it first"):
                register()
    for register in registrations:
        register()


async def test_services_in_two_threads_share_nothing(mqkit_embedded: Broker, name: str) -> None:
    """One service runs on two event loops at once, each with a runtime of its own."""
    got: list[str] = []
    service = service_of(name, got)
    enough = threading.Event()

    async def serve() -> None:
        async with Runtime(service, BrokerUrl.parse(mqkit_embedded.url)):
            await asyncio.to_thread(enough.wait)

    threads = [threading.Thread(target=lambda: asyncio.run(serve())) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        async with connected(mqkit_embedded.url) as client:

            async def both_consume() -> bool:
                with contextlib.suppress(Exception):
                    return await client.consumers(f"{name}.q") == 2
                return False

            await eventually(both_consume)
            for number in range(20):
                await client.publisher.publish("", f"{name}.q", b"", message_id=str(number))
            await eventually(lambda: len(got) == 20)
    finally:
        enough.set()
        for thread in threads:
            await asyncio.to_thread(thread.join)


@pytest.mark.usefixtures("driver")
async def test_a_message_forges_no_line_of_the_log(
    mqkit_embedded: Broker, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its id is escaped where a retry, a dead letter and a message given back are told of."""
    service = Service(name, retry=Retry.never())
    waiting = asyncio.Event()

    @service.handler(Queue(f"{name}.q"), concurrency=3)
    async def fail(body: dict[str, bool]) -> None:
        if body["waits"]:
            waiting.set()
            await asyncio.Event().wait()
        raise ValueError(FORGED)

    with caplog.at_level(logging.DEBUG):
        async with connected(mqkit_embedded.url) as client:
            async with Runtime(service, BrokerUrl.parse(mqkit_embedded.url), grace=0.1):
                for waits in (False, True):
                    await client.publisher.publish(
                        "", f"{name}.q", {"waits": waits}, message_id=FORGED + str(waits)
                    )
                await waiting.wait()
                await client.take(f"{name}.q.dead")
            await client.take(f"{name}.q")
    told = [r.getMessage() for r in caplog.records if r.name.startswith("mqkit")]
    assert any("forged" in text for text in told)
    assert [text for text in told if not text.isprintable()] == []


async def test_a_grace_period_that_is_overrun_leaves_no_exception_unseen(
    mqkit_embedded: Broker, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a handler that refuses to end, nor one that fails while it is cancelled."""
    service = Service(name, retry=Retry.never())
    begun: list[int] = []
    release = asyncio.Event()

    @service.handler(Queue(f"{name}.q"), concurrency=3)
    async def end_badly(body: dict[str, int]) -> None:
        begun.append(body["n"])
        try:
            await asyncio.Event().wait()
        finally:
            if body["n"] == 0:
                raise RuntimeError("while it is cancelled")
            if body["n"] == 1:
                await release.wait()

    unseen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    async with connected(mqkit_embedded.url) as client:
        async with Runtime(service, BrokerUrl.parse(mqkit_embedded.url), grace=0.1) as runtime:
            for n in range(3):
                await client.publisher.publish("", f"{name}.q", {"n": n})
            await eventually(lambda: len(begun) == 3)
            began = time.monotonic()
        assert time.monotonic() - began < 5
        assert runtime.abandoned == 3
        release.set()
        await asyncio.sleep(0.1)
        del runtime
        gc.collect()
        assert unseen == []
        assert len(await client.take_all(f"{name}.q")) == 3
        assert await client.messages(f"{name}.q.dead") == 0
    assert "never retrieved" not in caplog.text


async def test_what_fails_on_the_way_out_is_told_and_the_rest_is_closed(
    mqkit_embedded: Broker, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each provider is closed, the last one first; what the first failure raised comes out."""
    closed: list[str] = []
    service = Service(name, retry=Retry.never())

    def first() -> Iterator[First]:
        yield First()
        closed.append("first")

    async def second() -> AsyncIterator[Second]:
        yield Second()
        closed.append("second")
        await asyncio.Event().wait()

    def third() -> Iterator[Third]:
        yield Third()
        closed.append("third")
        raise RuntimeError("it cannot be closed")

    for kind, provider in ((First, first), (Second, second), (Third, third)):
        service.provide(kind, provider, scope="service")

    @service.handler(Queue(f"{name}.q"))
    async def take(body: bytes, a: First, b: Second, c: Third) -> None: ...

    runtime = Runtime(service, BrokerUrl.parse(mqkit_embedded.url), grace=0.1)
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="it cannot be closed"):
        async with runtime:
            began = time.monotonic()
    assert time.monotonic() - began < 5
    assert closed == ["third", "second", "first"]
    assert not runtime._consuming.is_up
    assert not runtime._publishing.is_up
    assert "closing its Third failed" in caplog.text
    assert "closing its Second took over " in caplog.text


async def test_a_service_that_could_not_start_says_why_and_not_what_failed_after(
    mqkit_embedded: Broker, name: str
) -> None:
    """Closing what was made already may fail, too; that is logged."""
    service = Service(name, retry=Retry.never())

    def broken() -> Iterator[Resource]:
        yield Resource()
        raise RuntimeError("it cannot be closed")

    def missing(_: Resource) -> int:
        raise LookupError("there is no number")

    missing.__annotations__ = {"_": Resource}
    service.provide(Resource, broken, scope="service")
    service.provide(int, missing, scope="service")

    @service.handler(Queue(f"{name}.q"))
    async def take(body: bytes, number: int) -> None: ...

    with pytest.raises(LookupError, match="there is no number"):
        async with Runtime(service, BrokerUrl.parse(mqkit_embedded.url)):
            pass
