"""The other side of the examples' broker: who gets the orders, and who answers for prices."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from mqkit import BrokerUrl, Queue, Reject, Retry, Runtime, Service
from tests.support import ROOT, Client, connected

EXAMPLES = ROOT / "docs" / "examples"

ORDERS = "shop.orders"
"""The exchange that the examples publish to, and the queue that gets it all here."""

PRICES = Queue("shop.prices")

UNKNOWN = "no-such-thing"
"""What has no price."""


def order(number: object) -> dict[str, object]:
    """Make the body of an order."""
    return {"id": f"o-{number}", "sku": "tea", "amount": 2}


def pricing() -> Service:
    """Make the service that answers the examples' requests."""
    service = Service("pricing", retry=Retry.never())

    @service.handler(PRICES)
    async def price(question: dict[str, str]) -> dict[str, str]:
        if question["sku"] == UNKNOWN:
            raise Reject("we do not sell that")
        return {"sku": question["sku"], "price": "9.90"}

    return service


@contextlib.asynccontextmanager
async def shop(url: str) -> AsyncIterator[Client]:
    """Run the pricing service, with a queue for the orders; yields a client that looks into it."""
    async with connected(url) as client:
        async with client.channel() as channel:
            await channel.declare_exchange(ORDERS, "topic", durable=True)
            await client.declare(ORDERS)
            await channel.bind_queue(ORDERS, ORDERS, "#")
        async with Runtime(pricing(), BrokerUrl.parse(url)):
            yield client


async def take_orders(client: Client, count: int) -> list[str]:
    """Take so many orders, and what else is there then; returns their ids in the order of names."""
    taken = [await client.take(ORDERS) for _ in range(count)]
    taken += await client.take_all(ORDERS)
    return sorted(str(incoming.properties.message_id) for incoming in taken)
