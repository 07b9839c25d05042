"""The ways of messages in a virtual host."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit import Exchange, Queue, Retry, Service
from mqkit.errors import ManagementError
from mqkit.provisioning.routes import Route, declared_routes, look_at_routes
from mqkit.provisioning.wanted import wanted_by


class Api:
    """A management API that gives these answers."""

    name = "http://broker:15672"

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    async def ask(self, kind: str, *, query: str = "") -> Any:
        """Answer."""
        assert query.startswith("?columns=")
        return self.answers[kind]


def binding(source: str, destination: str, kind: str = "queue", key: str = "k") -> dict[str, str]:
    """One of the API's answers."""
    return {
        "source": source,
        "destination": destination,
        "destination_type": kind,
        "routing_key": key,
    }


async def test_the_brokers_own_and_mqkits_are_left_out() -> None:
    """So are entries that are none, which a proxy in between may have made"""
    api: Any = Api(
        exchanges=[
            {"name": "", "type": "direct"},
            {"name": "amq.topic", "type": "topic"},
            {"name": "mqkit.delay.v1.deliver", "type": "topic"},
            {"name": "orders", "type": "topic"},
            {"type": "topic"},
        ],
        bindings=[
            binding("", "q"),
            binding("mqkit.delay.v1.deliver", "q"),
            binding("orders", "q"),
            binding("orders", "other", "exchange"),
            {"source": "orders"},
            "nothing",
        ],
    )
    found = await look_at_routes(api)
    assert found.exchanges == {"orders": "topic"}
    assert found.routes == (
        Route("orders", "q", is_queue=True, routing_key="k"),
        Route("orders", "other", is_queue=False, routing_key="k"),
    )


async def test_a_virtual_host_that_is_none_is_said() -> None:
    """The API answers 404, which is None"""
    api: Any = Api(exchanges=None, bindings=None)
    with pytest.raises(ManagementError, match="there is no such virtual host"):
        await look_at_routes(api)


def test_what_services_declare_is_the_same_kind_of_thing() -> None:
    """With each binding's routing key"""
    service = Service("shop", retry=Retry.never())
    orders = Exchange("orders", type="topic")

    @service.handler(Queue("shop.post"), bind=[orders.key("order.#")])
    async def post(body: bytes) -> None: ...

    found = declared_routes(wanted_by([service]))
    assert found.exchanges == {"orders": "topic"}
    assert found.routes == (Route("orders", "shop.post", is_queue=True, routing_key="order.#"),)
