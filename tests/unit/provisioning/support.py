"""Services and brokers of the tests of provisioning."""

from __future__ import annotations

from mqkit import Exchange, Queue, Retry, Service
from mqkit.provisioning.live import Live, LiveBinding, LiveExchange, LiveQueue
from mqkit.provisioning.wanted import Wanted, wanted_by
from mqkit.topology import Topology

payments = Exchange("payments")


def service(queue: Queue, *, publishes: list[Exchange] | None = None) -> Service:
    """A service with a handler for this queue, bound to `payments`."""
    made = Service("ledger", retry=Retry.never(), publishes=publishes)

    @made.handler(
        queue,
        bind=[payments.key("order.#")],
        order_by=(lambda body: body) if queue.partitions else None,
    )
    async def post(body: bytes) -> None:
        """Do nothing."""

    return made


def of(queue: Queue) -> Wanted:
    """What a service with this queue needs."""
    return wanted_by([service(queue)])


def broker_with(topology: Topology, *, messages: int = 0, consumers: int = 0) -> Live:
    """A broker that has just what is declared."""
    return Live(
        server="RabbitMQ 4.3.0",
        exchanges={
            e.name: LiveExchange(
                e.name, e.type, e.durable, e.auto_delete, e.internal, dict(e.arguments)
            )
            for e in topology.exchanges
        },
        queues={
            q.name: LiveQueue(
                q.name,
                q.durable,
                q.exclusive,
                q.auto_delete,
                q.declared_arguments(),
                kind=q.type,
                messages=messages,
                consumers=consumers,
            )
            for q in topology.queues
        },
        bindings=tuple(
            LiveBinding(
                b.queue, b.source.exchange.name, b.source.routing_key, dict(b.source.arguments)
            )
            for b in topology.bindings
        ),
    )
