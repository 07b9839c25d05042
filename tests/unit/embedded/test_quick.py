"""What is written and read by hand is what pamqp writes and reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, commands, frame

from mqkit.embedded import quick
from mqkit.embedded.frames import MALFORMED

NAMES = st.text(st.sampled_from("abc.-_"), max_size=127)
TAGS = st.integers(0, 2**63 - 1)
CHANNELS = st.integers(0, 2**16 - 1)


@given(NAMES, st.text(max_size=60), st.booleans(), st.booleans())
def test_publish(exchange: str, key: str, mandatory: bool, immediate: bool) -> None:
    """`basic.publish` is read as pamqp reads it."""
    method = commands.Basic.Publish(0, exchange, key, mandatory, immediate)
    payload = quick.PUBLISH + method.marshal()
    assert dict(quick.READERS[payload[:4]](payload)) == dict(method)


@given(TAGS, st.booleans(), CHANNELS)
def test_ack(tag: int, multiple: bool, channel: int) -> None:
    """`basic.ack` is read and written as pamqp does."""
    method = commands.Basic.Ack(tag, multiple)
    payload = quick.ACK + method.marshal()
    assert dict(quick.READERS[payload[:4]](payload)) == dict(method)
    assert quick.ack(channel, tag, multiple=multiple) == frame.marshal(method, channel)


@given(NAMES, TAGS, st.booleans(), NAMES, st.text(max_size=60), CHANNELS)
def test_deliver(
    consumer_tag: str, tag: int, redelivered: bool, exchange: str, key: str, channel: int
) -> None:
    """`basic.deliver` is written as pamqp writes it."""
    method = commands.Basic.Deliver(consumer_tag, tag, redelivered, exchange, key)
    assert quick.deliver(
        channel, consumer_tag, tag, redelivered=redelivered, exchange=exchange, routing_key=key
    ) == frame.marshal(method, channel)


def test_names_may_be_all_of_utf8() -> None:
    """A consumer tag, exchange or routing key with other letters is written all the same."""
    data = quick.deliver(1, "Ä", 1, redelivered=False, exchange="€", routing_key="ж" * 127)
    method = frame.unmarshal(data)[2]
    assert isinstance(method, commands.Basic.Deliver)
    assert (method.consumer_tag, method.exchange, method.routing_key) == ("Ä", "€", "ж" * 127)


@given(st.binary(max_size=40), CHANNELS)
def test_any_frame(payload: bytes, channel: int) -> None:
    """Type, channel, length, payload and end octet."""
    assert quick.frame(3, channel, payload) == frame.marshal(body.ContentBody(payload), channel)


@pytest.mark.parametrize("index", sorted(quick.READERS))
@given(data=st.data())
def test_what_ends_too_early_is_malformed(index: bytes, data: st.DataObject) -> None:
    """However few octets there are, the error is one that closes the connection with 502."""
    method = commands.Basic.Publish(0, "exchange", "key", mandatory=True)
    whole = index + (method.marshal() if index == quick.PUBLISH else bytes(9))
    with pytest.raises(MALFORMED):
        quick.READERS[index](whole[: data.draw(st.integers(4, len(whole) - 1))])


def test_names_that_are_no_utf8_are_malformed() -> None:
    """As with pamqp, they are a ValueError."""
    with pytest.raises(UnicodeDecodeError):
        quick.read_publish(quick.PUBLISH + b"\0\0\x01\xff\x00\x00")
