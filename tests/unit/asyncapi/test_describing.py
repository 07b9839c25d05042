"""The document says what services receive, send and answer, and nothing secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, BeforeValidator, Field

from mqkit import BrokerUrl, ConfigurationError, Exchange, Publisher, Queue, Retry, Service
from mqkit.asyncapi.comparing import differences
from mqkit.asyncapi.describing import describe
from mqkit.asyncapi.reading import Reader
from mqkit.store import Store
from tests.unit.asyncapi.payments import payment_services
from tests.unit.sagas.support import HoldAmount, Payment

orders = Exchange("shop.orders")
mail = Exchange("shop.mail", type="direct", mandatory=False)


class Currency(StrEnum):
    """A currency."""

    EUR = "EUR"


class Order(BaseModel):
    """An order from the shop.

    More of it.
    """

    id: str
    total: Decimal
    currency: Currency = Currency.EUR


class Placed(BaseModel):
    """An order was placed."""

    kind: Literal["placed"] = "placed"
    order: Order


class Cancelled(BaseModel):
    """An order was cancelled."""

    kind: Literal["cancelled"] = "cancelled"
    order_id: str
    parts: tuple[int, str] = (1, "a")


Event = Annotated[Placed | Cancelled, Field(discriminator="kind")]


class Odd:
    """What pydantic knows nothing of."""


class WithOdd(BaseModel, arbitrary_types_allowed=True):
    """Has a field that has no schema."""

    odd: Odd


Checked = Annotated[Any, BeforeValidator(lambda value: value)]


def made() -> Service:
    return Service(
        "shop", retry=Retry.never(), publishes=[mail.carries("mail.thanks", Order), orders]
    )


def operations(*services: Service) -> dict[str, Any]:
    found: dict[str, Any] = describe(services)["operations"]
    return found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_a_handler_receives_from_its_queue_and_its_bindings_are_channels() -> None:
    """The queue's channel has the messages; each binding is a channel for who publishes there."""
    service = made()

    @service.handler(Queue("shop.orders"), bind=[orders.key("order.*"), orders.key("old.#")])
    async def take(order: Order) -> None:
        """Take an order.

        And more.
        """

    found = describe([service])
    operation = found["operations"]["shop.receive.shop.orders"]
    assert operation["action"] == "receive"
    assert operation["summary"] == "Take an order."
    assert operation["tags"] == [{"name": "shop"}]
    assert operation["messages"] == [{"$ref": "#/channels/queue.shop.orders/messages/Order"}]
    assert operation["x-bound-to"] == [
        {"$ref": "#/channels/exchange.shop.orders.order._any"},
        {"$ref": "#/channels/exchange.shop.orders.old._all"},
    ]
    queue = found["channels"]["queue.shop.orders"]
    assert queue["address"] == "shop.orders"
    assert queue["bindings"]["amqp"] == {
        "is": "queue",
        "queue": {
            "name": "shop.orders",
            "durable": True,
            "exclusive": False,
            "autoDelete": False,
            "x-arguments": Queue("shop.orders").declared_arguments(),
        },
        "bindingVersion": "0.3.0",
    }
    bound = found["channels"]["exchange.shop.orders.order._any"]
    assert bound["address"] == "order.*"
    assert bound["bindings"]["amqp"]["exchange"]["type"] == "topic"
    assert bound["messages"] == queue["messages"]
    message = found["components"]["messages"]["Order"]
    assert message["summary"] == "An order from the shop."
    assert message["payload"] == {"$ref": "#/components/schemas/Order-Input"}


def test_what_is_published_is_sent() -> None:
    """By the type that is stated for a key, as it is written; else the exchange alone is known."""
    found = describe([made()])
    thanks = found["operations"]["shop.send.shop.mail.mail.thanks"]
    assert thanks["messages"] == [
        {"$ref": "#/channels/exchange.shop.mail.mail.thanks/messages/Order"}
    ]
    assert thanks["bindings"]["amqp"]["mandatory"] is False
    assert found["operations"]["shop.send.shop.orders"]["messages"] == []
    assert found["channels"]["exchange.shop.orders"]["address"] is None
    schema = found["components"]["schemas"]["Order"]
    assert schema["properties"]["total"]["type"] == "string", "as it is written"


def test_what_is_returned_is_a_reply() -> None:
    """A reply goes to the queue that the request names."""
    service = made()

    @service.handler(Queue("shop.ask"))
    async def ask(order_id: str) -> Order | None: ...

    operation = operations(service)["shop.receive.shop.ask"]
    assert operation["reply"]["address"] == {"location": "$message.header#/reply_to"}
    assert operation["reply"]["messages"] == [{"$ref": "#/channels/reply.shop.ask/messages/Order"}]


def test_each_type_of_a_union_is_a_message() -> None:
    """Also of one that a field tells apart; a batch takes one of its list at a time."""
    service = made()

    @service.batch(Queue("shop.events"), size=10, within=1.0)
    async def events(events: list[Event]) -> None: ...

    operation = operations(service)["shop.receive.shop.events"]
    names = [each["$ref"].rpartition("/")[2] for each in operation["messages"]]
    assert names == ["Placed", "Cancelled"]
    assert "reply" not in operation


def test_bytes_and_no_body_are_messages_without_a_schema() -> None:
    """A body of bytes is binary; of a handler that takes none nothing is said."""
    service = made()

    @service.handler(Queue("shop.bytes"))
    async def raw(body: bytes) -> None: ...

    @service.handler(Queue("shop.tick"))
    async def tick(publisher: Publisher) -> None: ...

    messages = describe([service])["components"]["messages"]
    assert messages["bytes"]["contentType"] == "application/octet-stream"
    assert messages["bytes"]["payload"] == {"type": "string", "format": "binary"}
    assert "payload" not in messages["message"]


def test_two_types_of_one_name_have_names_of_their_own() -> None:
    """Neither a message nor a schema is taken for another one of the same name."""
    service = made()

    def other() -> type[BaseModel]:
        class Order(BaseModel):
            number: int

        return Order

    for number, kind in enumerate((Order, other())):

        async def handle(body: Any) -> None: ...

        handle.__annotations__["body"] = kind
        handle.__qualname__ = f"handle{number}"
        service.handler(Queue(f"q{number}"))(handle)
    found = describe([service])
    assert {"Order", "Order-2"} <= set(found["components"]["messages"])
    payloads = [found["components"]["messages"][each]["payload"] for each in ("Order", "Order-2")]
    first, second = (Reader(found, "d").followed(each, "") for each in payloads)
    assert "total" in first["properties"]
    assert list(second["properties"]) == ["number"]


def test_a_type_without_a_schema_says_so() -> None:
    """What only Python can check takes all in the document, and the others are described."""
    service = made()

    @service.handler(Queue("checked"))
    async def checked(body: Checked) -> None: ...

    @service.handler(Queue("odd"))
    async def odd(body: WithOdd) -> None: ...

    messages = describe([service])["components"]["messages"]
    assert messages["WithOdd"]["payload"]["description"].startswith("WithOdd has no JSON Schema: ")
    assert messages["Order"]["payload"]


def test_schemas_are_of_the_dialect() -> None:
    """Neither $defs, prefixItems nor what stands beside a $ref is left."""
    service = made()

    @service.handler(Queue("shop.events"))
    async def events(event: Event) -> None: ...

    found = describe([service])
    text = json.dumps(found)
    assert "$defs" not in text
    assert "prefixItems" not in text
    cancelled = found["components"]["schemas"]["Cancelled"]["properties"]["parts"]
    assert cancelled["items"] == [{"type": "integer"}, {"type": "string"}]
    currency = found["components"]["schemas"]["Order-Input"]["properties"]["currency"]
    assert currency["allOf"] == [{"$ref": "#/components/schemas/Currency"}]
    assert currency["default"] == "EUR"


def test_a_saga_sends_what_its_methods_say() -> None:
    """A type goes where a handler takes it from; messages to itself are nobody's concern."""
    ledger = Exchange("ledger")
    service = Service(
        "sagas", store=Store("sqlite:///never-opened.sqlite"), publishes=[ledger, Exchange("risk")]
    )
    service.saga(Payment)
    takes = made()

    @takes.handler(Queue("holds"), bind=[ledger.key("hold")])
    async def hold(asked: HoldAmount) -> None: ...

    found = operations(service, takes)
    assert not [name for name in found if "timeout" in name or "compensate" in name]
    sent = found["sagas.send.ledger.hold"]["messages"]
    assert [each["$ref"].rpartition("/")[2] for each in sent] == ["HoldAmount.sent"]
    said = [name for each in found.values() for name in each.get("x-publishes", ())]
    assert {"CheckRisk", "order.executed"} <= set(said), "whose route nobody knows"


def test_a_broker_is_named_without_its_secrets() -> None:
    """Hosts, protocol and virtual host are there; user, password and certificates are not."""
    url = BrokerUrl.parse("amqps://planted-user:planted-secret@one.example,two.example:5/shop")
    found = describe([made()], url=url)
    assert found["servers"]["broker-2"] == {
        "host": "two.example:5",
        "protocol": "amqps",
        "protocolVersion": "0-9-1",
        "pathname": "/shop",
    }
    assert "planted" not in json.dumps(found)


def test_no_service_is_an_error() -> None:
    """A document of nothing is refused."""
    with pytest.raises(ConfigurationError, match="one service or more"):
        describe([])


def test_the_payment_services_document_holds_together() -> None:
    """Every reference leads to something, names may stand in one, and it is itself unchanged."""
    found = describe(payment_services())
    reader = Reader(found, "payments")
    for reference in references(found):
        reader.followed({"$ref": reference}, reference)
    for part in ("messages", "schemas"):
        assert all(re.fullmatch(r"[\w.-]+", name) for name in found["components"][part])
    for name, operation in found["operations"].items():
        channel = operation["channel"]["$ref"]
        for each in operation["messages"]:
            assert each["$ref"].startswith(f"{channel}/messages/"), name
    again = describe(payment_services())
    assert again == found
    assert differences(reader, Reader(again, "again")) == []
    sent = {name for name in found["operations"] if ".send." in name}
    assert all(found["operations"][name]["messages"] for name in sent), "each says what it sends"
