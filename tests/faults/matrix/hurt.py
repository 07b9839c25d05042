"""What is done to a broker's node from outside, beside `kill`, `stop`, `start` and `ctl`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator

from mqkit.testing.brokers.broker import Broker
from mqkit.testing.brokers.containers import ContainerBroker
from mqkit.testing.brokers.nodes import NodeBroker
from tests.freezing import freeze


@contextlib.contextmanager
def hanging(broker: Broker) -> Iterator[None]:
    """Stop the node's processes in mid-air, as SIGSTOP does, and let them go on at the end.

    Its sockets stay open, and the system goes on to take bytes for them.
    """
    if isinstance(broker, ContainerBroker):
        container = broker._wrapped
        freeze(container)
        try:
            yield
        finally:
            container.unpause()
    elif isinstance(broker, NodeBroker) and broker._node is not None:
        group = broker._node.pid
        os.killpg(group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(group, signal.SIGCONT)
    else:
        raise TypeError(f"{broker!r} cannot be stopped: it is not ours")


@contextlib.asynccontextmanager
async def alarm(broker: Broker, kind: str) -> AsyncIterator[None]:
    """Raise the 'memory' or 'disk' alarm by its limit, as an operator's mistake would."""
    command, low, usual = {
        "memory": ("set_vm_memory_high_watermark", "0.0001", "0.6"),
        "disk": ("set_disk_free_limit", "1000000GB", "50MB"),
    }[kind]
    await asyncio.to_thread(broker.ctl, command, low)
    try:
        yield
    finally:
        await asyncio.to_thread(broker.ctl, command, usual)


@contextlib.asynccontextmanager
async def consumer_timeout(broker: Broker, seconds: float) -> AsyncIterator[None]:
    """Let the broker take back what is not acknowledged within so many seconds.

    And look for it every half second; by default it does so every minute, for half an hour
    (https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout).
    """
    change = (
        "application:set_env(rabbit, consumer_timeout, {}), "
        "application:set_env(rabbit, channel_tick_interval, {})."
    )
    await asyncio.to_thread(broker.evaluate, change.format(round(seconds * 1000), 500))
    try:
        yield
    finally:
        await asyncio.to_thread(broker.evaluate, change.format(1_800_000, 60_000))
