"""Names of spans and attributes, by the old conventions and the new ones."""

from __future__ import annotations

import pytest
from opentelemetry.trace import SpanKind

from mqkit.message import Delivery, Message, Properties
from mqkit.observability.tracing.attributes import (
    OPT_IN,
    Conventions,
    Operation,
    of_message,
    of_received,
)

OLD = Conventions({})
NEW = Conventions({OPT_IN: "http, messaging"})
BOTH = Conventions({OPT_IN: "messaging,messaging/dup"})


@pytest.mark.parametrize("value", ["", "http", "MESSAGING", "messaging_old", ",,"])
def test_without_the_opt_in_names_are_the_old_ones(value: str) -> None:
    """Only the two values that the conventions name choose others."""
    assert Conventions({OPT_IN: value}).name(Operation.SEND, "x") == "x publish"


def test_names_and_kinds_follow_the_conventions() -> None:
    """With both sets, what can have one value only is the new one."""
    assert OLD.name(Operation.PROCESS, "q") == "q process"
    assert OLD.kind(Operation.RECEIVE) is SpanKind.CONSUMER
    for conventions in (NEW, BOTH):
        assert conventions.name(Operation.SEND, "x") == "send x"
        assert conventions.kind(Operation.RECEIVE) is SpanKind.CLIENT
        assert conventions.kind(Operation.SETTLE) is SpanKind.CLIENT
    for conventions in (OLD, NEW):
        assert conventions.kind(Operation.SEND) is SpanKind.PRODUCER
        assert conventions.kind(Operation.SEND, is_created=False) is SpanKind.CLIENT
        assert conventions.kind(Operation.PROCESS) is SpanKind.CONSUMER


def test_attributes_are_of_the_chosen_sets() -> None:
    """The old set has the exchange as destination, the new one all that leads to the queue."""
    way = (Operation.PROCESS, "h", "q", "x", "k")
    common = {
        "messaging.system": "rabbitmq",
        "messaging.rabbitmq.destination.routing_key": "k",
        "mqkit.queue": "q",
        "mqkit.handler": "h",
    }
    old = {"messaging.operation": "process"}
    new = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
    name = "messaging.destination.name"
    assert OLD.of_delivery(*way) == common | old | {name: "x"}
    assert NEW.of_delivery(*way) == common | new | {name: "x:k:q"}
    assert BOTH.of_delivery(*way) == common | old | new | {name: "x:k:q"}
    assert OLD.of_publish(Operation.SEND, "x", "k")["messaging.operation"] == "publish"
    assert NEW.of_publish(Operation.SEND, "x", "k")["messaging.operation.name"] == "send"


@pytest.mark.parametrize(
    ("exchange", "key", "queue", "destination"),
    [
        ("x", "k", "q", "x:k:q"),
        ("", "q", "q", "q"),
        ("x", "", "q", "x:q"),
        ("x", "q", "q", "x:q"),
        ("", "", "", "amq.default"),
    ],
)
def test_parts_that_say_nothing_are_left_out_of_a_destination(
    exchange: str, key: str, queue: str, destination: str
) -> None:
    """An empty exchange or key is no part of it, and a key that is the queue is there once."""
    attributes = NEW.of_delivery(Operation.PROCESS, "h", queue, exchange, key)
    assert attributes["messaging.destination.name"] == destination


def test_a_message_s_own_attributes_hold_no_body_and_no_correlation_id() -> None:
    """Its id, its size, its tag and its attempt, and texts that an exporter can write."""
    properties = Properties(
        message_id="m" * 300, correlation_id="secret", headers={"authorization": "secret"}
    )
    delivery = Delivery(body=b"secret", properties=properties, tag=7, attempt=2)
    assert of_received(delivery) == {
        "messaging.message.body.size": 6,
        "messaging.message.id": "m" * 255,
        "messaging.rabbitmq.message.delivery_tag": 7,
        "mqkit.attempt": 2,
    }
    odd = Message("", "", b"", Properties(message_id="\udcff\u00fc"))
    assert of_message(odd)["messaging.message.id"] == "\\udcff\u00fc"
