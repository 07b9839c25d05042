"""Content headers: what comes is kept as it came, and copies have it to the bit."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mqkit.amqp.content_header import (
    carry,
    decode,
    encode,
    is_without_id,
    size,
    split,
    without,
)
from mqkit.amqp.field_tables import UNREADABLE, entries
from mqkit.consuming.copies import dead_letter_copy, fitted, retry_copy
from mqkit.consuming.headers import drop_untrusted_headers
from mqkit.drivers.base import Incoming
from mqkit.errors import DecodeError, HeadersTooLargeError
from mqkit.message import Delivery, Header, Message, Properties
from mqkit.outcome import DeadLetter, DeathReason, RetryAfter
from tests.tables import ENTRIES, NASTY, entry, long, nested, payload, properties, short

NOW = datetime(2026, 1, 2, tzinfo=UTC)
BAD = short(b"\xff\xfe")
ODD = {
    "content_type": BAD,
    "content_encoding": BAD,
    "priority": b"\xff",
    "correlation_id": BAD,
    "reply_to": BAD,
    "message_id": BAD,
    "timestamp": b"\xff" * 8,
    "type": BAD,
    "app_id": BAD,
    "cluster_id": short(b"c"),
}
"""What RabbitMQ (4.0.5, 4.3.6) takes for properties, and Python's types do not."""


def received(encoded: bytes) -> Properties:
    """The properties as a driver reads them."""
    data = payload(encoded, 7)
    body_size, found = decode(b"before" + data + b"after", 6, 6 + len(data))
    assert body_size == 7
    return found


def delivery(encoded: bytes, exchange: str = "x") -> Delivery:
    """A delivery of the message, as a consumer makes it."""
    incoming = Incoming(1, False, exchange, "k", received(encoded), b"")
    drop_untrusted_headers(incoming, "q")
    return Delivery(properties=incoming.properties, exchange=exchange, routing_key="k", queue="q")


def copies(of: Delivery) -> list[Message]:
    """A retry and a dead letter of it."""
    retry = retry_copy(of, RetryAfter(1.0, LookupError(), 0.0), "ladder", "k", NOW)
    error = DecodeError("e")
    dead = DeadLetter(DeathReason.UNDECODABLE, error)
    return [retry, dead_letter_copy(of, dead, "service", "handler", NOW)]


def written(message: Message) -> dict[str, bytes]:
    """The properties of a message as they are written."""
    return split(encode(message.properties, {**message.properties.headers, Header.PUBLISH: 1}))


def foreign(properties: dict[str, bytes]) -> list[bytes]:
    """The header entries that are not mqkit's, in their order."""
    table = properties.get("headers", long(b""))
    return [each for name, each in entries(table) if not name.startswith("mqkit-")]


def is_copied(data: bytes) -> bool:
    """Whether an entry has a name that copies keep."""
    return not data[1 : 1 + data[0]].startswith((b"mqkit-", b"x-death", b"x-delivery-count"))


@given(ENTRIES)
@example([entry(b"h", b"f", b"\x7f\xc0\0\1"), entry(b"h", b"d", b"\xff\xf0\0\0\0\0\0\1")])
@example([entry(b"mqkit-attempt", b"I", b"\0\0\0\x63"), entry(b"mqkit-\xff", b"V")])
@example([entry(b"mqkit-attempt", b"V"), entry(b"a", b"V"), entry(b"mqkit-attempt", b"b", b"\1")])
def test_a_copy_has_the_headers_as_they_came(table: list[bytes]) -> None:
    """Whatever their types and names, in the same order; none under mqkit's names, if forged."""
    of = delivery(properties(b"".join(table)))
    assert not [name for name in of.headers if name.startswith("mqkit-")]
    for copy in copies(of):
        expected: dict[bytes, bytes] = {}
        for each in filter(is_copied, table):  # those of one name stand together
            name = each[1 : 1 + each[0]]
            expected[name] = expected.get(name, b"") + each
        assert b"".join(foreign(written(copy))) == b"".join(expected.values())
        own = [n for n, _ in entries(written(copy)["headers"]) if n.startswith("mqkit-")]
        assert len(own) == len(set(own))


@pytest.mark.parametrize("what", NASTY)
def test_a_nasty_header_survives_in_copies_of_copies(what: str) -> None:
    """Retry after retry and in the dead letter; also where it cannot be read."""
    first = delivery(properties(NASTY[what]))
    again = delivery(
        encode((copy := copies(first)[0]).properties, copy.properties.headers),
        "mqkit.delay.v1.deliver",
    )
    assert again.headers[Header.ATTEMPT] == 2
    for each in (*copies(first), *copies(again)):
        assert foreign(written(each)) == [NASTY[what]]
    assert (Header.UNREADABLE in again.headers) == ("too many" in what)


def test_odd_properties_survive_in_copies() -> None:
    """What is no UTF-8, no time of Python's or unknown to mqkit is None, and in the copy."""
    of = delivery(properties(**ODD))
    assert of.properties == Properties(persistent=False, priority=255)
    for copy in copies(of):
        found = written(copy)
        assert {name: found.get(name) for name in ODD} == ODD
        assert found["delivery_mode"] == b"\2"
        assert copy.properties.message_id is None


def test_what_was_for_the_original_alone_is_not_in_copies() -> None:
    """Neither its expiration nor its user id, in whatever form."""
    for expiration in (b"5000", b"\xff", b"-1"):
        of = delivery(properties(b"", expiration=short(expiration), user_id=short(b"guest")))
        for copy in copies(of):
            found = written(copy)
            assert not found.keys() & {"expiration", "user_id"}


def test_an_id_that_is_no_utf_8_is_one() -> None:
    """Copies keep it, while a message that came with none, or an empty one, is given one."""
    assert not is_without_id(delivery(properties(b"", message_id=short(b"\xff"))).properties)
    assert not is_without_id(delivery(properties(b"", message_id=short(b"m"))).properties)
    assert is_without_id(delivery(properties(b"", message_id=short(b""))).properties)
    assert is_without_id(delivery(properties(b"")).properties)
    assert is_without_id(Properties())


def test_headers_that_cannot_be_read_are_left_out_for_the_handler_alone() -> None:
    """It sees the others and `mqkit-unreadable`; the copy has all but mqkit's and the broker's."""
    deep = nested(150)[2:]
    table = deep.join(
        [short(b"a"), short(b"mqkit-attempt"), short(b"x-death"), entry(b"b", b"b", b"\1")]
    )
    of = delivery(properties(table, message_id=short(b"m")))
    assert of.headers == {"b": 1, Header.UNREADABLE: True}
    assert of.message_id == "m"
    for copy in copies(of):
        assert foreign(written(copy)) == [nested(150), entry(b"b", b"b", b"\1")]


def test_a_table_of_unknown_types_is_left_out_of_copies() -> None:
    """No broker would take it, and RabbitMQ passes none on."""
    of = delivery(properties(entry(b"a", b"Z", b"\0")))
    assert of.headers == {Header.UNREADABLE: True}
    assert [foreign(written(copy)) for copy in copies(of)] == [[], []]


def test_headers_that_were_taken_from_a_delivery_are_not_in_its_copies() -> None:
    """By whoever did it: what `headers` lacks does not come back by the bytes."""
    of = delivery(properties(entry(b"a", b"b", b"\1") + entry(b"b", b"b", b"\1")))
    changed = Properties(headers={"a": of.headers["a"]}, received=of.properties.received)
    for copy in copies(Delivery(properties=changed)):
        assert foreign(written(copy)) == [entry(b"a", b"b", b"\1")]


def test_headers_can_be_left_out_of_a_copy() -> None:
    """One by one, or all but mqkit's own, of what goes as it came as well."""
    of = delivery(properties(entry(b"a", b"b", b"\1") + entry(b"b", b"b", b"\1")))
    for copy in copies(of):
        cut = replace(copy, properties=without(copy.properties, "a", Header.SERVICE))
        assert foreign(written(cut)) == [entry(b"b", b"b", b"\1")]
        assert Header.SERVICE not in cut.properties.headers
        assert foreign(written(without_room(copy))) == []


def without_room(copy: Message) -> Message:
    """What is left of a copy for which no frame is large enough."""
    too_large = HeadersTooLargeError("too large", size=2**40, limit=1)
    with contextlib.suppress(HeadersTooLargeError):
        while True:
            copy = fitted(copy, too_large)
    return copy


def test_headers_that_cannot_be_read_are_foreign_as_well() -> None:
    """A copy that is to have only mqkit's own has none of them."""
    for copy in copies(delivery(properties(nested(150)))):
        assert foreign(written(without_room(copy))) == []


def test_the_size_is_that_of_the_frame() -> None:
    """Never less than what is written with the largest number of a publish, and nearly that."""
    plain = Properties(message_id="m", content_type="t")
    of = delivery(properties(entry(b"a", b"b", b"\1"), app_id=BAD))
    for each in (plain, replace(plain, headers={"a": 1}), *(c.properties for c in copies(of))):
        headers = {**each.headers, Header.PUBLISH: 2**62}
        assert 0 <= size(each) - (12 + len(encode(each, headers))) <= 4


def test_a_message_without_headers_keeps_nothing() -> None:
    """It is read as before, with no bytes beside its values."""
    found = received(properties(message_id=short(b"m"), delivery_mode=b"\2"))
    assert found == Properties(message_id="m")
    assert found.received is None


@pytest.mark.parametrize("mode", [0, 1, 3, 255])
def test_only_delivery_mode_2_is_persistent(mode: int) -> None:
    """RabbitMQ takes any, and keeps the others in memory."""
    assert not received(properties(delivery_mode=bytes((mode,)))).persistent


@pytest.mark.parametrize("text", ["", "ten", "-1", "1.5", "²", "٣"])
def test_an_expiration_that_is_no_number_is_none(text: str) -> None:
    """Whatever Unicode takes for digits."""
    assert received(properties(expiration=short(text.encode()))).expiration is None


@pytest.mark.parametrize("encoded", [b"", b"\x80", b"\x80\0", b"\x80\0\5ab", b"\x20\0\0\0\0\5a"])
def test_what_is_no_content_header_is_an_error(encoded: bytes) -> None:
    """What is cut off is not taken for something shorter."""
    with pytest.raises(UNREADABLE):
        received(encoded)


short_texts = st.none() | st.text(st.characters(codec="utf-8"), max_size=20)


@given(
    st.builds(
        Properties,
        content_type=short_texts,
        content_encoding=short_texts,
        headers=st.dictionaries(st.text(max_size=3).filter(str.isascii), st.integers(0, 2**40)),
        persistent=st.booleans(),
        priority=st.none() | st.integers(0, 255),
        correlation_id=short_texts,
        reply_to=short_texts,
        expiration=st.none() | st.integers(0, 10**9).map(float),
        message_id=short_texts,
        timestamp=st.none()
        | st.integers(0, 10**9).map(lambda each: datetime.fromtimestamp(each, UTC)),
        type=short_texts,
        user_id=short_texts,
        app_id=short_texts,
    )
)
def test_properties_are_read_as_they_were_written(each: Properties) -> None:
    """Every property, in every combination; and from the bytes that are kept."""
    found = received(encode(each, each.headers))
    assert found == each
    assert found.received in (None, encode(each, each.headers))
    assert carry(each, each, lambda _: True) is each
