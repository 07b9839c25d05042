"""What is refused of the arguments of queues and consumers, and with which code."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands

from mqkit.embedded.engine.node import Node
from tests.unit.embedded.support import opened

NOT_HERE = (
    "x-consumer-timeout",
    "x-consumer-disconnected-timeout",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
)
"""Arguments of RabbitMQ 4.3's quorum queues, which its classic ones refuse with 406."""

REFUSALS = [
    ("quorum", commands.Connection.Close, 540, "argument '{}' is not implemented"),
    ("classic", commands.Channel.Close, 406, "invalid arg '{}' for queue 'q' in vhost '/' of "),
]


@pytest.mark.parametrize("argument", NOT_HERE)
@pytest.mark.parametrize(("type_", "close", "code", "text"), REFUSALS)
def test_what_is_not_done_for_a_queue_is_refused(
    type_: str, close: Any, code: int, text: str, argument: str
) -> None:
    """It is refused by name with 540; a classic queue, for which RabbitMQ has it not, with 406."""
    client = opened(Node())
    arguments: dict[str, Any] = {"x-queue-type": type_, argument: 60_000}
    client.send(commands.Queue.Declare(0, "q", durable=True, arguments=arguments))
    told = client.last()
    assert isinstance(told, close)
    assert told.reply_code == code
    assert text.format(argument) in told.reply_text


@pytest.mark.parametrize(("type_", "close", "code", "text"), REFUSALS)
def test_a_consumer_timeout_that_nothing_would_come_of_is_refused(
    type_: str, close: Any, code: int, text: str
) -> None:
    """A consumer's `x-consumer-timeout` is refused as a queue's is."""
    client = opened(Node())
    declare = commands.Queue.Declare(0, "q", durable=True, arguments={"x-queue-type": type_})
    client.call(declare, commands.Queue.DeclareOk)
    client.send(commands.Basic.Consume(0, "q", arguments={"x-consumer-timeout": 60_000}))
    told = client.last()
    assert isinstance(told, close)
    assert told.reply_code == code
    assert text.format("x-consumer-timeout") in told.reply_text
