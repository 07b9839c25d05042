"""What pika received, in mqkit's values."""

from __future__ import annotations

import pika

from mqkit.drivers.pika_wire import from_pika
from mqkit.message import Properties


def test_a_property_that_is_no_text_is_left_out() -> None:
    """Of a short string that is no UTF-8 pika hands over the bytes, which nobody could take."""
    names = (
        "content_type",
        "content_encoding",
        "correlation_id",
        "reply_to",
        "expiration",
        "message_id",
        "type",
        "user_id",
        "app_id",
    )
    received = pika.BasicProperties(**dict.fromkeys(names, b"\xff"))
    assert from_pika(received) == Properties(persistent=False)
    received = pika.BasicProperties(content_type="text/plain", correlation_id="c")
    assert from_pika(received).correlation_id == "c"
