"""Publishes that the broker refuses in other ways, or never answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mqkit import (
    ExchangeNotFoundError,
    Limits,
    Outgoing,
    Publisher,
    PublishError,
    PublishRefusedError,
    PublishTimeoutError,
    UnroutableError,
)
from mqkit.testing.brokers.finder import Broker
from mqkit.testing.proxy.proxy import TcpProxy
from tests.support import Client, connected, delete, eventually

pytestmark = pytest.mark.usefixtures("driver")

TOO_LARGE = 17 * 1024 * 1024
"""Bytes; over the 16 MiB that RabbitMQ takes by default from 4.0 on."""


async def test_a_message_that_is_too_large_fails_alone(broker: Broker, name: str) -> None:
    """The broker closes the channel over it without a name; all others are stored."""
    async with connected(broker.url) as client:
        await client.declare(f"{name}.q")
        publisher = Publisher.on(client.connection, limits=Limits(body=TOO_LARGE))
        results = await asyncio.gather(
            *(
                publisher.publish(
                    "", f"{name}.q", bytes(TOO_LARGE) if n == 5 else b"x", message_id=str(n)
                )
                for n in range(30)
            ),
            return_exceptions=True,
        )
        failed = [n for n, result in enumerate(results) if isinstance(result, BaseException)]
        assert failed == [5], results
        assert isinstance(results[5], PublishRefusedError)
        stored = {m.properties.message_id for m in await client.take_all(f"{name}.q")}
        assert stored == {str(n) for n in range(30)} - {"5"}
        await publisher.close()


async def test_a_publish_without_an_answer_is_unknown(broker: Broker, name: str) -> None:
    """Where the broker falls silent after the write, the error says that it may be stored."""
    with TcpProxy(broker.url) as proxy:
        async with connected(proxy.url) as client:
            await client.declare(f"{name}.q")
            await client.publisher.publish("", f"{name}.q", b"1")
            proxy.stall()
            began = time.monotonic()
            with pytest.raises(PublishTimeoutError, match="may be stored") as caught:
                await client.publisher.publish("", f"{name}.q", b"2", timeout=0.5)
            assert time.monotonic() - began < 2
            assert caught.value.may_be_stored
            began = time.monotonic()
            # The next one finds a connection that did not answer: it writes a probe first.
            await eventually(lambda: time.monotonic() - began > 1)
            with pytest.raises(PublishError, match="nothing was written") as caught2:
                await client.publisher.publish("", f"{name}.q", b"3", timeout=0.5)
            assert not caught2.value.may_be_stored
            proxy.resume()
            await client.publisher.publish("", f"{name}.q", b"4")
            bodies = [m.body for m in await client.take_all(f"{name}.q")]
    assert bodies == [b"1", b"2", b"4"]


async def test_a_refusal_after_a_lost_confirm_is_unknown(broker: Broker, name: str) -> None:
    """A message that its exchange took before it was deleted is not said to be nowhere."""
    with TcpProxy(broker.url) as proxy:
        async with connected(broker.url) as admin, connected(proxy.url) as client:
            await admin.declare(f"{name}.q")
            async with admin.channel() as channel:
                await channel.declare_exchange(f"{name}.x", "topic")
                await channel.bind_queue(f"{name}.q", f"{name}.x", "k")
            await client.publisher.publish(f"{name}.x", "k", b"1")
            proxy.drop("to_client")
            lost = asyncio.create_task(client.publisher.publish(f"{name}.x", "k", b"2"))

            async def is_stored() -> bool:
                return await admin.messages(f"{name}.q") == 2

            await eventually(is_stored)
            proxy.heal()
            await delete(broker.url, exchange=f"{name}.x")
            with pytest.raises(ExchangeNotFoundError):
                await client.publisher.publish(f"{name}.x", "k", b"3")
            with pytest.raises(ExchangeNotFoundError) as caught:
                await lost
            assert caught.value.may_be_stored
            with pytest.raises(ExchangeNotFoundError) as again:
                await client.publisher.publish(f"{name}.x", "k", b"4")
            assert not again.value.may_be_stored
            assert [m.body for m in await admin.take_all(f"{name}.q")] == [b"1", b"2"]


async def test_a_refusal_of_what_was_written_again_is_unknown(broker: Broker, name: str) -> None:
    """A confirm is lost with its connection, and the queue is gone when it is written again."""
    with TcpProxy(broker.url) as proxy:
        async with connected(broker.url) as admin, connected(proxy.url) as client:
            await admin.declare(f"{name}.q")
            await client.publisher.publish("", f"{name}.q", b"1")
            proxy.drop("to_client")
            lost = asyncio.create_task(client.publisher.publish("", f"{name}.q", b"2"))

            async def is_stored() -> bool:
                return await admin.messages(f"{name}.q") == 2

            await eventually(is_stored)
            await delete(broker.url, queue=f"{name}.q")
            proxy.heal()
            proxy.cut()
            with pytest.raises(UnroutableError) as caught:
                await lost
            assert caught.value.may_be_stored


async def test_a_publish_is_written_again_until_its_deadline(broker: Broker, name: str) -> None:
    """A confirm that was lost with its connection is asked for again under the same id."""
    with TcpProxy(broker.url) as proxy:
        async with connected(proxy.url) as client:
            await client.declare(f"{name}.q")
            await client.publisher.publish("", f"{name}.q", b"1")
            proxy.stall()
            publishing = asyncio.create_task(
                client.publisher.publish("", f"{name}.q", b"2", message_id="m")
            )
            await asyncio.sleep(0)
            await asyncio.to_thread(broker.close_connections)
            proxy.resume()
            assert await publishing == "m"
            stored = [m.properties.message_id for m in await client.take_all(f"{name}.q")]
    assert set(stored[1:]) == {"m"}


async def test_a_passed_deadline_leaves_no_channel_behind(broker: Broker, name: str) -> None:
    """Publishes that time out while the exchange is looked up do not use up the channels."""
    with TcpProxy(broker.url) as proxy:
        async with connected(proxy.url) as client:
            await client.declare(f"{name}.q")
            await client.publisher.publish("", f"{name}.q", b"1")
            before = channels(client)
            for _ in range(5):
                await client.publisher.publish("", f"{name}.q", b"1")
                proxy.stall()
                with pytest.raises(PublishError):
                    await client.publisher.publish(f"{name}.x", "k", b"", timeout=0.1)
                proxy.resume()
                with pytest.raises(ExchangeNotFoundError):
                    await client.publisher.publish(f"{name}.x", "k", b"")
            await eventually(lambda: channels(client) <= before + 1, 3)


def channels(client: Client) -> int:
    """How many channels are open on the client's connection, as its library counts them."""
    current: Any = client.connection._current
    library = getattr(current, "_aiormq", None)
    return len(current._connection._channels if library is None else library.channels)


async def test_a_closed_connection_is_a_publish_error(broker: Broker, name: str) -> None:
    """A publisher whose connection was closed for good says so with an error of its own."""
    async with connected(broker.url) as client:
        await client.publisher.publish("amq.topic", "k", b"", mandatory=False)
        await client.connection.close()
        for exchange in ("", "amq.topic", f"{name}.x"):
            with pytest.raises(PublishError):
                await client.publisher.publish(exchange, "k", b"", timeout=1)


async def test_a_user_who_may_not_probe_publishes_all_the_same(broker: Broker, name: str) -> None:
    """A user with rights on one exchange only can publish to it, and waits for no probe."""
    await asyncio.to_thread(broker.ctl, "add_user", name, "pw-of-test")
    await asyncio.to_thread(broker.ctl, "set_permissions", name, "", f"^{name}.x$", "")
    try:
        async with connected(broker.url) as admin:
            await admin.declare(f"{name}.q")
            async with admin.channel() as channel:
                await channel.declare_exchange(f"{name}.x", "topic")
                await channel.bind_queue(f"{name}.q", f"{name}.x", "k")
            async with connected(broker.url.replace("guest:guest", f"{name}:pw-of-test")) as user:
                results = await asyncio.gather(
                    *(user.publisher.publish(f"{name}.x", "k", b"x") for _ in range(20)),
                    user.publisher.publish("", f"{name}.q", b"no"),
                    user.publisher.publish(f"{name}.missing", "k", b"no"),
                    return_exceptions=True,
                )
            assert [r for r in results[:20] if isinstance(r, BaseException)] == []
            assert isinstance(results[20], PublishRefusedError)
            assert isinstance(results[21], ExchangeNotFoundError | PublishRefusedError)
            assert len(await admin.take_all(f"{name}.q")) >= 20
    finally:
        await asyncio.to_thread(broker.ctl, "delete_user", name)


async def test_publish_many_keeps_its_order_over_closed_connections(
    broker: Broker, name: str
) -> None:
    """What was unconfirmed is written again before what comes later: first copies are in order."""
    async with connected(broker.url) as client:
        await client.declare(name)

        async def close_often() -> None:
            for _ in range(4):
                await asyncio.sleep(0.3)  # some are under way then
                await asyncio.to_thread(broker.close_connections)

        closing = asyncio.create_task(close_often())

        def messages() -> Iterator[Outgoing]:
            number = 0
            while not closing.done() or number < 1000:
                yield Outgoing("", name, b"%d" % number, message_id=str(number))
                number += 1

        async for result in client.publisher.publish_many(messages()):
            assert result.error is None
        await closing
        bodies = [int(incoming.body) for incoming in await client.take_all(name)]
    firsts = list(dict.fromkeys(bodies))
    assert firsts == list(range(len(firsts)))
