"""What is checked before a message is written."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit import Exchange, InvalidMessageError, Outgoing
from mqkit.outgoing import to_message


def test_a_message_is_safe_unless_stated_otherwise() -> None:
    """Persistent, mandatory, with an id and a time of its own."""
    message = to_message(Outgoing(Exchange("x"), "k", {"a": 1}), "app")
    assert (message.exchange, message.routing_key, message.body) == ("x", "k", b'{"a":1}')
    assert message.mandatory
    assert message.properties.persistent
    assert message.properties.message_id
    assert message.properties.timestamp
    assert message.properties.app_id == "app"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"exchange": 5}, "an Exchange or its name"),
        ({"routing_key": None}, "routing_key is text"),
        ({"routing_key": "k" * 256}, "routing_key is over 255 bytes"),
        ({"message_id": 7}, "message_id is text"),
        ({"exchange": "x" * 256}, "exchange is over 255 bytes"),
        ({"exchange": "\udc80"}, "exchange has a character that UTF-8 cannot write"),
        ({"correlation_id": "\udc80"}, "correlation_id has a character"),
        ({"headers": {"mqkit-attempt": 1}}, "mqkit's own"),
        ({"headers": {"": 1}}, "a header's name"),
        ({"expiration": -1}, "expiration is seconds"),
        ({"priority": 256}, "priority is 0 to 255"),
    ],
)
def test_what_cannot_be_sent_is_named(options: dict[str, Any], words: str) -> None:
    """A wrong option is an InvalidMessageError that names it."""
    outgoing = Outgoing(**{"exchange": "x", "routing_key": "k", "body": {}, **options})
    with pytest.raises(InvalidMessageError) as caught:
        to_message(outgoing, None)
    assert words in str(caught.value)
