"""The frames of messages, held against pika's own codec in both directions."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec

from mqkit.amqp import content_header
from mqkit.drivers import frames
from mqkit.drivers.aio_pika.assembly import Assembly
from mqkit.drivers.base import Incoming, Returned
from mqkit.drivers.frames import HEAD
from mqkit.drivers.pika import convert as pika_wire
from mqkit.drivers.pika.connection import Inbound
from mqkit.errors import InvalidMessageError
from mqkit.message import Message, Properties
from tests.tables import ENTRIES, payload, properties, short

SHORT = st.text(st.characters(codec="utf-8"), max_size=60)
MAYBE = st.one_of(st.none(), SHORT)
MOMENT = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=0)
)
VALUE: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.text(st.characters(codec="utf-8"), max_size=20),
        st.binary(max_size=20),
        st.decimals(-1000, 1000, places=2, allow_nan=False).map(Decimal.normalize),  # as pika does
        MOMENT,
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHORT, inner, max_size=3),
    max_leaves=6,
)
PROPERTIES = st.builds(
    Properties,
    content_type=MAYBE,
    content_encoding=MAYBE,
    headers=st.dictionaries(SHORT, VALUE, max_size=4),
    persistent=st.booleans(),
    priority=st.one_of(st.none(), st.integers(0, 255)),
    correlation_id=MAYBE,
    reply_to=MAYBE,
    expiration=st.one_of(st.none(), st.integers(0, 10**6).map(float)),
    message_id=MAYBE,
    timestamp=st.one_of(st.none(), MOMENT),
    type=MAYBE,
    user_id=MAYBE,
    app_id=MAYBE,
)


def to_pika(properties: Properties) -> pika.BasicProperties:
    """Properties as pika has them, to be written by its own codec."""
    seconds, moment = properties.expiration, properties.timestamp
    return pika.BasicProperties(
        properties.content_type,
        properties.content_encoding,
        dict(properties.headers) or None,
        2 if properties.persistent else 1,
        properties.priority,
        properties.correlation_id,
        properties.reply_to,
        None if seconds is None else str(round(seconds * 1000)),
        properties.message_id,
        None if moment is None else int(moment.timestamp()),
        properties.type,
        properties.user_id,
        properties.app_id,
    )


def by_pika(channel: int, message: Message, limit: int) -> bytes:
    """The frames of a publish as pika writes them."""
    method = spec.Basic.Publish(
        exchange=message.exchange, routing_key=message.routing_key, mandatory=message.mandatory
    )
    body = message.body
    parts = [
        frame.Method(channel, method),
        frame.Header(channel, len(body), to_pika(message.properties)),
        *(frame.Body(channel, body[at : at + limit]) for at in range(0, len(body), limit)),
    ]
    return b"".join(part.marshal() for part in parts)


@given(
    st.integers(1, 65535),
    st.builds(Message, SHORT, SHORT, st.binary(max_size=200), PROPERTIES, st.booleans()),
    st.integers(1, 70),
)
def test_a_publish_is_what_pika_writes(channel: int, message: Message, piece: int) -> None:
    """The same octets, whatever the properties, and however often the body must be cut."""
    limit = max(piece, len(b"".join(frames.publish(channel, message, 2**20))))
    assert b"".join(frames.publish(channel, message, limit)) == by_pika(channel, message, limit)


@pytest.mark.parametrize(
    ("message", "headers"),
    [
        (Message("", "q", b""), {"n" * 256: 1}),
        (Message("", "q", b""), {"n" * 256: "one", "m": 2}),
        (Message("", "q", b""), {7: 1}),
        (Message("x" * 256, "q", b""), {}),
        (Message("", "q" * 256, b""), {}),
        (Message("", None, b""), {}),  # type: ignore[arg-type]
        (Message("", "q", "text"), {}),  # type: ignore[arg-type]
        (Message("", "q", b"", Properties(type=7)), {}),  # type: ignore[arg-type]
        (Message("", "q", b"", Properties(timestamp=7)), {}),  # type: ignore[arg-type]
        (Message("", "q", b"", Properties(expiration="7")), {}),  # type: ignore[arg-type]
        (Message("", "q", b"", Properties(priority="7")), {}),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_encoded_is_an_invalid_message(message: Message, headers: Any) -> None:
    """It raises an InvalidMessageError of the encoder's own, and nothing else."""
    with pytest.raises(InvalidMessageError, match="cannot be encoded") as caught:
        frames.publish(1, message, 1000, headers)
    assert isinstance(caught.value.__cause__, frames.ENCODING_ERRORS)


def test_what_can_be_written_is_known_without_its_body() -> None:
    """Headers of any size may be; what cannot be encoded is refused with its id and exchange."""
    many = Properties(headers={"h": "x" * 1_000_000})
    frames.check_writable(Message("", "q", None, many))  # type: ignore[arg-type]
    bad = Properties(message_id="m", headers={"h": object()})  # type: ignore[dict-item]
    with pytest.raises(InvalidMessageError, match="message m to exchange 'x': a header or"):
        frames.check_writable(Message("x", "q", b"", bad))


def test_extra_headers_are_written_with_the_message_s_own() -> None:
    """In the place of those of the same name; the message's stay as they are."""
    own = Message("", "q", b"", Properties(headers={"a": 1, "b": 2}))
    both = Message("", "q", b"", Properties(headers={"a": 1, "b": 3, "c": 4}))
    assert frames.publish(1, own, 1000, {"b": 3, "c": 4}) == frames.publish(1, both, 1000)
    bare = Message("", "q", b"")
    assert frames.publish(1, bare, 1000, own.properties.headers) == frames.publish(1, own, 1000)
    assert own.properties.headers == {"a": 1, "b": 2}


@pytest.mark.parametrize("size", [frames.SHORT_BODY, frames.SHORT_BODY + 1, 100_000])
def test_a_long_body_is_cut_into_frames_and_not_copied(size: int) -> None:
    """It is the same octets as pika's; what is long goes as it is in memory."""
    message = Message("x", "k", bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    pieces = frames.publish(7, message, 30_000)
    assert b"".join(pieces) == by_pika(7, message, 30_000)
    assert all(len(piece) < 200 for piece in pieces if isinstance(piece, bytes)) == (
        size > frames.SHORT_BODY
    )


@given(PROPERTIES, st.integers(0, 2**40))
def test_properties_are_read_that_pika_wrote(properties: Properties, size: int) -> None:
    """The values are those that pika was given, whether pika asks for them or mqkit itself."""
    data = frame.Header(1, size, to_pika(properties)).marshal()
    found = content_header.decode(data, HEAD.size, len(data) - 1)
    assert found == (size, properties)
    assert type(found[1].headers) is dict
    taken = pika_wire.header_frame(data + b"more")
    assert taken is not None
    consumed, header = taken
    assert (consumed, header.channel_number, header.body_size) == (len(data), 1, size)
    assert header.properties.decoded == properties


def test_other_frames_are_left_to_pika() -> None:
    """Those of methods and bodies, and what is no whole frame yet."""
    data = frame.Header(1, 0, to_pika(Properties())).marshal()
    for other in (b"", data[:6], data[:-1], frame.Body(1, b"b").marshal(), b"AMQP\0\0\x09\x01"):
        assert pika_wire.header_frame(other) is None


@given(SHORT, st.integers(0, 2**64 - 1), st.booleans(), SHORT, SHORT)
def test_a_delivery_is_read(
    consumer: str, tag: int, redelivered: bool, exchange: str, key: str
) -> None:
    """Its method's fields are those that were written."""
    method = spec.Basic.Deliver(consumer, tag, redelivered, exchange, key)
    data = frame.Method(1, method).marshal()
    read = frames.deliver(data, HEAD.size + 4)
    assert read == (consumer, tag, redelivered, exchange, key)


@given(st.integers(0, 2**64 - 1), st.booleans())
def test_a_confirm_is_read(tag: int, multiple: bool) -> None:
    """Its tag, and whether it stands for all before it."""
    data = frame.Method(1, spec.Basic.Ack(tag, multiple)).marshal()
    assert frames.confirm(data, HEAD.size + 4) == (tag, multiple)


NOT_UTF_8 = b"\x03a\xff\xfe"


def test_names_that_are_no_utf_8_are_read() -> None:
    """Of a delivery, of what was asked for and of what came back; their bytes can be had back."""
    name = "a\udcff\udcfe"
    names = NOT_UTF_8 * 2
    tag = b"\0" * 7 + b"\7\1"
    assert frames.deliver(b"...." + NOT_UTF_8 + tag + names, 4) == (name, 7, True, name, name)
    assert frames.got(tag + names + b"\0" * 4, 0) == (7, True, name, name)
    assert frames.returned(b"\1\x38" + NOT_UTF_8 + names, 0) == (312, name, name, name)


@pytest.mark.parametrize("raw", [b"a", "a"])
def test_names_that_pika_read_are_texts(raw: Any) -> None:
    """Also where pika hands over the bytes of one that is no UTF-8."""
    properties = pika_wire.ReceivedProperties(Properties(message_id="m"))
    got = spec.Basic.GetOk(1, True, raw, raw)
    assert pika_wire.incoming(got, properties, b"b") == Incoming(
        1, True, "a", "a", Properties(message_id="m"), b"b"
    )
    sent_back = spec.Basic.Return(312, raw, raw, raw)
    assert pika_wire.returned(sent_back, properties) == Returned(
        312, "a", "a", "a", Properties(message_id="m")
    )


@given(ENTRIES, st.integers(0, 3))
def test_both_drivers_read_the_same(table: list[bytes], bodies: int) -> None:
    """Whatever the headers are, each makes the same message of the same frames, and loses none."""
    data = payload(properties(b"".join(table), message_id=short(b"m")), bodies)
    method = b"\0\x3c\0\x3c" + short(b"tag") + b"\0" * 7 + b"\7\1" + short(b"x") + short(b"k\xff")
    inbound, assembly = Inbound(), Assembly()
    by_pika: list[Incoming] = []
    inbound.on_delivery["tag"] = by_pika.append
    by_aio_pika: Any = None
    for kind, part in [(1, method), (2, data), *[(3, b"b")] * bodies]:
        assert inbound.take(kind, b"before" + part + b"after", 6, 6 + len(part))
        assert by_aio_pika is None
        by_aio_pika = assembly.add(part)
    (incoming,) = by_pika
    raw, found, body = by_aio_pika
    assert (raw, body, incoming.body) == (method, b"b" * bodies, b"b" * bodies)
    assert repr(found) == repr(incoming.properties)
    assert found.received == incoming.properties.received == (data[12:] if table else None)
    assert (incoming.routing_key, incoming.exchange) == ("k\udcff", "x")
