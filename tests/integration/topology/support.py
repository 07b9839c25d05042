"""Provisioning in tests: services that are moved, and a provisioner on a broker."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mqkit import BrokerUrl, Exchange, Queue, Retry, Service
from mqkit.cli.topology.messages import MovedMessages
from mqkit.management import ManagementApi
from mqkit.provisioning.apply import Provisioner
from mqkit.provisioning.wanted import wanted_by
from mqkit.testing.brokers.broker import Broker
from tests.support import connected

payments = Exchange("payments")


def management_of(broker: Broker) -> str | None:
    """Return the URL of a broker's management API; None: it is the embedded one, and has none."""
    return None if broker.kind == "embedded" else api_of(broker)


def api_of(rabbitmq: Broker) -> str:
    """Return the URL of a RabbitMQ's management API; the environment has that of MQKIT_TEST_URL."""
    url = rabbitmq.management
    if rabbitmq.kind == "url":
        url = os.environ.get("MQKIT_TEST_MANAGEMENT")
    if url is None:
        pytest.fail(
            f"this test takes the management API of {rabbitmq!r}: for the broker of MQKIT_TEST_URL "
            "set MQKIT_TEST_MANAGEMENT; images of RabbitMQ are to be the ones with '-management'",
            pytrace=False,
        )
    return url


def service(queue: Queue, got: list[Any] | None = None, **options: Any) -> Service:
    """A service whose handler notes the bodies that it gets."""
    made = Service("ledger", retry=Retry.never(), publishes=[])

    @made.handler(queue, bind=[payments.key("order.#")], **options)
    async def post(body: dict[str, Any]) -> None:
        if got is not None:
            got.append(body)

    return made


@contextlib.asynccontextmanager
async def provisioning(
    url: str, *services: Service, management: str | None = None, wait: float = 20.0
) -> AsyncIterator[tuple[Provisioner, list[str]]]:
    """Make a provisioner for the block, and what it tells."""
    told: list[str] = []
    api = None if management is None else ManagementApi(management, BrokerUrl.parse(url).vhost)
    async with connected(url) as client:
        yield (
            Provisioner(
                client.connection,
                wanted_by(services),
                broker="test",
                messages=MovedMessages(),
                api=api,
                tell=told.append,
                wait=wait,
            ),
            told,
        )


async def applied(url: str, *services: Service, management: str | None = None) -> list[str]:
    """Plan and apply, and return what is left, as text."""
    async with provisioning(url, *services, management=management) as (it, _):
        return [str(each) for each in await it.apply(await it.plan())]
