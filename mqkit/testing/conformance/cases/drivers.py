"""What mqkit asks of its drivers (`mqkit.drivers.base`)."""

from __future__ import annotations

import asyncio

from mqkit.drivers.base import Returned
from mqkit.errors import ChannelClosedError
from mqkit.message import Message
from mqkit.testing.conformance.env import DriverEnv
from mqkit.testing.conformance.suite import case


@case("drivers", about="driver")
async def return_comes_before_confirm(env: DriverEnv) -> None:
    """An unroutable publish is returned before it is confirmed, and numbered from 1."""
    channel = await env.driver_channel()
    told: list[object] = []
    confirmed = asyncio.Event()

    def on_confirm(tag: int, multiple: bool, acked: bool) -> None:
        told.append((tag, multiple, acked))
        confirmed.set()

    def on_return(returned: Returned) -> None:
        told.append((returned.code, returned.routing_key))

    await channel.confirm_select(on_confirm, on_return)
    assert channel.publish(Message("", env.name, b"m")) == 1
    await confirmed.wait()
    assert told == [(312, env.name), (1, False, True)]


@case("drivers", about="driver")
async def broker_sent_cancel(env: DriverEnv) -> None:
    """A consumer whose queue is deleted is told so through `on_cancel`, once."""
    beside = await env.channel()
    queue = await env.queue(beside)
    channel = await env.driver_channel()
    told: list[str] = []
    cancelled = asyncio.Event()

    def on_cancel() -> None:
        told.append("cancelled")
        cancelled.set()

    await channel.consume(queue, lambda _: None, on_cancel)
    await beside.queue_delete(queue)
    await cancelled.wait()
    await channel.qos(1)
    assert told == ["cancelled"]


@case("drivers", about="driver")
async def closed_tells_the_code(env: DriverEnv) -> None:
    """A channel that the broker closes fails its waiting call and its `closed` with the code."""
    channel = await env.driver_channel()
    try:
        await channel.declare_queue(env.name, passive=True)
    except ChannelClosedError as error:
        assert error.code == 404  # noqa: PLR2004, PT017
    else:
        raise AssertionError("it was answered")
    closed = await asyncio.wait_for(asyncio.shield(channel.closed), 5)
    assert closed.code == 404  # noqa: PLR2004
    assert closed.by_broker
    assert not channel.is_open
