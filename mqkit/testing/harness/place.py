"""Chooses where and how a harness runs a service: broker, virtual host, driver."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Awaitable, Callable

from mqkit import drivers
from mqkit.checks import checked
from mqkit.drivers.base import Driver
from mqkit.embedded import EmbeddedServer
from mqkit.errors import OptionError
from mqkit.registration.service import Service
from mqkit.testing.brokers.broker import Broker, new_vhost_name
from mqkit.testing.brokers.embedded import EmbeddedBroker

Advance = Callable[[float], Awaitable[None]]
"""Advances a broker's time by so many seconds."""


async def place(
    stack: contextlib.AsyncExitStack, on: Broker | str | None, url: str | None
) -> tuple[str, Advance | None]:
    """Choose the URL to run the service at, and what advances time there; None if nothing can."""
    if on is None and url is None:
        server = await stack.enter_async_context(EmbeddedServer())
        return server.url, server.advance
    if isinstance(on, str):
        return url or on, None
    if not isinstance(on, Broker | None):
        raise OptionError(f"harness(on=...) is a broker, a URL or None, not {checked.shown(on)}")
    if on is not None and url is None:
        # In a thread: on a RabbitMQ it takes two runs of rabbitmqctl.
        name = new_vhost_name()
        url = await asyncio.to_thread(on.add_vhost, name)
        stack.push_async_callback(asyncio.to_thread, on.delete_vhost, name)
    assert url is not None
    if isinstance(on, EmbeddedBroker):
        return url, lambda seconds: asyncio.to_thread(on.advance, seconds)
    return url, None


def driver_for(service: Service, driver: Driver | str | None) -> Driver:
    """Choose the driver: the one that was asked for, or that the service's connection has."""
    if driver is None and service.connection is not None:
        driver = "aio-pika"
    return drivers.named(driver) if driver is None or isinstance(driver, str) else driver


def without_connection(service: Service) -> Service:
    """Copy a service without its connection, so that it runs on the harness's broker."""
    if service.connection is None:
        return service
    unconnected = copy.copy(service)
    unconnected.connection = None
    return unconnected
