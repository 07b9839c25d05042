"""What a publish says, for each thing that the broker may do with it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from mqkit import (
    BlockedError,
    BrokerUrl,
    ConnectionLostError,
    ExchangeNotFoundError,
    InvalidMessageError,
    MqkitError,
    NackedError,
    Outgoing,
    Publisher,
    PublishRefusedError,
    Queue,
    Retry,
    Runtime,
    Service,
    UnroutableError,
    drivers,
)
from mqkit.broker.connection import Connection
from mqkit.publishing.probe import PROBE_AFTER
from mqkit.testing.brokers.finder import Broker
from tests.support import connected, delete, eventually

pytestmark = pytest.mark.usefixtures("driver")


async def test_an_unroutable_message_raises(broker: Broker, name: str) -> None:
    """Publishing where no queue is bound raises UnroutableError with the exchange and the key."""
    async with connected(broker.url) as client:
        with pytest.raises(UnroutableError, match="NO_ROUTE") as caught:
            await client.publisher.publish("amq.topic", f"{name}.nowhere", {}, message_id="m")
        assert (caught.value.exchange, caught.value.routing_key) == (
            "amq.topic",
            f"{name}.nowhere",
        )
        assert caught.value.message_id == "m"
        assert not caught.value.may_be_stored
        await client.publisher.publish("amq.topic", f"{name}.nowhere", {}, mandatory=False)


async def test_a_missing_exchange_harms_no_other_publish(broker: Broker, name: str) -> None:
    """It is named by the error, and 500 publishes beside it are each stored exactly once."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")

        async def good(number: int) -> str:
            return await client.publisher.publish("", f"{name}.q", {"n": number})

        async def bad() -> str:
            return await client.publisher.publish(f"{name}.missing", "k", {})

        results = await asyncio.gather(
            *(bad() if n % 50 == 25 else good(n) for n in range(510)), return_exceptions=True
        )
        errors = [result for result in results if isinstance(result, BaseException)]
        assert len(errors) == 10
        for error in errors:
            assert isinstance(error, ExchangeNotFoundError)
            assert f"exchange '{name}.missing' does not exist" in str(error)
        assert len(await client.take_all(f"{name}.q")) == 500


async def test_a_deleted_exchange_fails_only_its_own_publishes(broker: Broker, name: str) -> None:
    """Where the broker closes the channel over one exchange, all others are published again."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        async with client.channel() as channel:
            await channel.declare_exchange(f"{name}.x", "fanout")
            await channel.bind_queue(f"{name}.q", f"{name}.x", "")
        await client.publisher.publish(f"{name}.x", "", b"known to exist")
        await client.take(f"{name}.q")
        await delete(broker.url, exchange=f"{name}.x")
        results = await asyncio.gather(
            *(
                client.publisher.publish(
                    f"{name}.x" if n % 20 == 10 else "", f"{name}.q", b"", message_id=f"{n}"
                )
                for n in range(200)
            ),
            return_exceptions=True,
        )
        failed = [n for n, result in enumerate(results) if isinstance(result, BaseException)]
        assert failed == list(range(10, 200, 20))
        assert all(isinstance(results[n], ExchangeNotFoundError) for n in failed)
        stored = {m.properties.message_id for m in await client.take_all(f"{name}.q")}
        assert stored == {str(n) for n in range(200) if n not in failed}


async def test_equal_message_ids_in_flight_get_each_their_own_result(
    broker: Broker, name: str
) -> None:
    """Of two publishes under one id, the unroutable one raises and the routable one is stored."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        for _ in range(50):
            good, bad = await asyncio.gather(
                client.publisher.publish("", f"{name}.q", {}, message_id="same"),
                client.publisher.publish("", f"{name}.nowhere", {}, message_id="same"),
                return_exceptions=True,
            )
            assert good == "same"
            assert isinstance(bad, UnroutableError)
        assert len(await client.take_all(f"{name}.q")) == 50


@contextlib.asynccontextmanager
async def memory_alarm(broker: Broker) -> AsyncIterator[None]:
    """The broker believes that it is out of memory."""
    await asyncio.to_thread(broker.block)
    try:
        yield
    finally:
        await asyncio.to_thread(broker.unblock)


@pytest.mark.parametrize("driver", [drivers.DEFAULT], indirect=True)
async def test_an_alarm_blocks_and_writes_nothing(broker: Broker, name: str) -> None:
    """Fresh, idle or used before, a publisher raises BlockedError in time and stores nothing."""
    async with (
        connected(broker.url, "idle") as idle,
        connected(broker.url, "used") as used,
    ):
        await used.declare(f"{name}.q")
        await used.publisher.publish("", f"{name}.q", b"before")
        last_confirm = time.monotonic()
        async with memory_alarm(broker), connected(broker.url, "fresh") as fresh:
            await eventually(lambda: time.monotonic() - last_confirm > PROBE_AFTER)
            for client in (idle, used, fresh):
                began = time.monotonic()
                with pytest.raises(BlockedError, match="nothing was written") as caught:
                    await client.publisher.publish("", f"{name}.q", b"blocked", timeout=0.5)
                assert 0.4 < time.monotonic() - began < 2.5
                assert not caught.value.may_be_stored
        await used.publisher.publish("", f"{name}.q", b"after")
        await idle.publisher.publish("", f"{name}.q", b"after")
        bodies = [message.body for message in await used.take_all(f"{name}.q")]
    assert bodies == [b"before", b"after", b"after"]


async def test_a_publish_goes_on_when_the_alarm_ends(broker: Broker, name: str) -> None:
    """A publish that began during an alarm is confirmed once the alarm is over, within its time."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        async with memory_alarm(broker):
            publishing = asyncio.create_task(
                client.publisher.publish("", f"{name}.q", b"waited", timeout=30)
            )
            await eventually(lambda: client.connection.blocked is not None)
            assert not publishing.done()
        await publishing
        assert (await client.take(f"{name}.q")).body == b"waited"


async def test_consumers_go_on_during_an_alarm(broker: Broker, name: str) -> None:
    """What is queued when an alarm begins is handled and acked during it."""
    seen: list[bytes] = []
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: bytes) -> None:
        seen.append(body)

    async with connected(broker.url) as client:
        async with Runtime(service, BrokerUrl.parse(broker.url)):
            pass  # declares the queue
        for _ in range(20):
            await client.publisher.publish("", f"{name}.q", b"x")
        async with memory_alarm(broker), Runtime(service, BrokerUrl.parse(broker.url)):
            await eventually(lambda: len(seen) == 20)
        assert await client.messages(f"{name}.q") == 0


async def test_a_full_queue_nacks(broker: Broker, name: str) -> None:
    """A queue that refuses a message for its length makes the publish raise NackedError.

    Of which nobody knows whether it is stored: RabbitMQ 4.3.6 nacks now and then what it delivers.
    """
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q", **{"x-max-length": 1, "x-overflow": "reject-publish"})
        results = [
            await asyncio.gather(
                client.publisher.publish("", f"{name}.q", {}), return_exceptions=True
            )
            for _ in range(6)
        ]
    error = results[-1][0]
    assert isinstance(error, NackedError)
    assert error.may_be_stored
    assert "it may be stored" in str(error)


async def test_a_user_without_permission_is_told_so(broker: Broker, name: str) -> None:
    """No write permission is PublishRefusedError naming the exchange; others are not harmed."""
    await asyncio.to_thread(broker.ctl, "add_user", name, "pw-of-test")
    await asyncio.to_thread(
        broker.ctl, "set_permissions", name, ".*", f"^({name}.*|amq.default)$", ".*"
    )
    url = broker.url.replace("guest:guest", f"{name}:pw-of-test")
    try:
        async with connected(url) as client:
            await client.declare(f"{name}.q")
            results = await asyncio.gather(
                *(
                    client.publisher.publish("amq.topic" if n == 10 else "", f"{name}.q", {})
                    for n in range(20)
                ),
                return_exceptions=True,
            )
            refused = [result for result in results if isinstance(result, BaseException)]
            assert len(refused) == 1
            assert isinstance(refused[0], PublishRefusedError)
            assert "'amq.topic'" in str(refused[0])
            assert len(await client.take_all(f"{name}.q")) >= 19
    finally:
        await asyncio.to_thread(broker.ctl, "delete_user", name)


@pytest.mark.parametrize("driver", [drivers.DEFAULT], indirect=True)
async def test_closed_connections_lose_no_publish(broker: Broker, name: str) -> None:
    """While the broker closes all connections five times, every confirmed message is stored."""
    count, confirmed = 5000, set()
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")

        async def close_connections() -> None:
            for _ in range(5):
                await asyncio.to_thread(broker.close_connections)

        closing = asyncio.create_task(close_connections())
        number = 0

        async def messages() -> AsyncIterator[Outgoing]:
            nonlocal number
            while number < count or not closing.done():
                yield Outgoing("", f"{name}.q", b"x" * 100, message_id=str(number))
                number += 1
                if number % 100 == 0:
                    await asyncio.sleep(0.01)

        async for result in client.publisher.publish_many(messages()):
            assert result.error is None
            confirmed.add(result.message_id)
        await closing
        stored = {m.properties.message_id for m in await client.take_all(f"{name}.q")}
    assert len(confirmed) == number >= count
    assert stored == confirmed


async def test_without_a_connection_the_error_says_what_is_known(broker: Broker, name: str) -> None:
    """A publish that was never written for want of a connection is known not to be stored."""
    connection = Connection(
        BrokerUrl.parse("amqp://guest:guest@127.0.0.1:1/"), name=name, driver=drivers.named()
    )
    with pytest.raises(ConnectionLostError, match="nothing was written") as caught:
        await Publisher.on(connection).publish("", "q", {}, timeout=0.2)
    assert not caught.value.may_be_stored
    await connection.close()


async def test_what_cannot_be_encoded_is_refused_before_it_is_written(
    broker: Broker, name: str
) -> None:
    """A bad header or body raises InvalidMessageError, and the channel goes on."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        for headers, body in (
            ({"x": object()}, {}),
            ({"mqkit-attempt": 3}, {}),
            ({"n" * 256: 1}, {}),
            ({}, object()),
        ):
            with pytest.raises(InvalidMessageError):
                await client.publisher.publish("", f"{name}.q", body, headers=headers)  # type: ignore[arg-type]
        await client.publisher.publish("", f"{name}.q", b"good")
        assert [m.body for m in await client.take_all(f"{name}.q")] == [b"good"]


async def test_publish_many_reports_each_and_holds_a_window(broker: Broker, name: str) -> None:
    """Every message gets its own result, and the input is read no further ahead than the window."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        read, answered, ahead = 0, 0, 0
        errors: list[MqkitError | None] = [None] * 300

        def messages() -> AsyncIterator[Outgoing]:
            async def each() -> AsyncIterator[Outgoing]:
                nonlocal read, ahead
                for n in range(300):
                    read += 1
                    ahead = max(ahead, read - answered)
                    yield Outgoing("", f"{name}.{'nowhere' if n % 100 == 0 else 'q'}", {"n": n})

            return each()

        async for result in client.publisher.publish_many(messages(), window=20):
            answered += 1
            errors[result.index] = result.error
    assert answered == 300
    assert [n for n, error in enumerate(errors) if error] == [0, 100, 200]
    assert ahead <= 21


WRONG: list[Any] = [
    {"headers": {"\ud800": 1}},
    {"headers": {"n": 2**70}},
    {"headers": {"n": math.inf}},
    {"headers": [("a", 1)]},
    {"expiration": "5000"},
    {"priority": "5"},
    {"message_id": 5},
    {"exchange": None},
    {"body": object()},
]
"""What makes a message one that cannot be sent."""


async def test_messages_that_cannot_be_sent_stop_no_other(broker: Broker, name: str) -> None:
    """Each has its error as its result, and so has what is no message; the rest is published."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        good: dict[str, Any] = {"exchange": "", "routing_key": f"{name}.q", "body": b"good"}
        inputs: list[Any] = []
        for wrong in WRONG:
            inputs += [Outgoing(**good), Outgoing(**{**good, **wrong})]
        inputs += [{"body": 1}, None, "text", Outgoing(**good)]
        results = [result async for result in client.publisher.publish_many(inputs, window=3)]
        assert sorted(result.index for result in results) == list(range(len(inputs)))
        failed = {result.index: result.error for result in results if result.error is not None}
        assert set(failed) == {
            *range(1, 2 * len(WRONG), 2),
            *range(2 * len(WRONG), len(inputs) - 1),
        }
        assert all(isinstance(error, InvalidMessageError) for error in failed.values())
        for wrong in WRONG:
            with pytest.raises(InvalidMessageError):
                await client.publisher.publish(**{**good, **wrong})
        assert len(await client.take_all(f"{name}.q")) == len(WRONG) + 1


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_an_input_that_fails_is_raised_after_its_results(
    broker: Broker, name: str, *, asynchronous: bool
) -> None:
    """What it gave before is published, and has its result, before its error reaches the caller."""

    def each() -> Iterator[Outgoing]:
        for number in range(50):
            yield Outgoing("", f"{name}.q", {"n": number})
        raise LookupError("the file ends in the middle of a line")

    async def each_in_turn() -> AsyncIterator[Outgoing]:
        for message in each():
            yield message
            await asyncio.sleep(0)

    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        results = client.publisher.publish_many(each_in_turn() if asynchronous else each())
        assert [(await anext(results)).error for _ in range(50)] == [None] * 50
        with pytest.raises(LookupError, match="in the middle of a line"):
            await anext(results)
        assert len(await client.take_all(f"{name}.q")) == 50
