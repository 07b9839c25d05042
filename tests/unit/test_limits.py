"""Limits: what is measured is what is on the wire, and a giant is refused quickly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import data
from pydantic import TypeAdapter

from mqkit import ConfigurationError, DecodeError, InvalidMessageError, Limits, Outgoing, Service
from mqkit.codec import BodyDecoder, check_received
from mqkit.limits import MAX_DEPTH, MAX_HEADER_DEPTH, is_deeper, table_size
from mqkit.message import Properties
from mqkit.publishing.outgoing import to_message

QUICKLY = 5.0
"""Seconds; generous, where what is meant takes milliseconds and its opposite minutes."""

SECRET = "4711-secret"

text = st.text(st.sampled_from('[]{}"\\,: aé\n')) | st.text(st.characters(codec="utf-8"))
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=30,
)


def depth_of(value: Any) -> int:
    """Arrays and objects within each other, found by walking the value."""
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(json_values, st.integers(0, 8), st.booleans(), st.sampled_from([None, 1]))
def test_depth_is_exact_for_json(
    value: object, limit: int, ascii_only: bool, indent: int | None
) -> None:
    """JSON is too deep if and only if a walk of its value says so, whatever its strings hold."""
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert is_deeper(body, limit) == (depth_of(value) > limit)


@given(
    st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b'"', b"\\", b"x"])) | st.lists(st.binary()),
    st.integers(0, 4),
)
def test_what_is_no_json_does_no_harm(parts: list[bytes], limit: int) -> None:
    """Of any bytes the scan says yes or no."""
    assert is_deeper(b"".join(parts), limit) in (True, False)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    """What is wide is let through, also over many pieces of the scan, and found where it ends."""
    wide = b"[" + b"[{}]," * 20_000
    assert not is_deeper(wide + b"[]]", 3)
    assert is_deeper(wide + b"[[[]]]]", 3)


names = st.text(st.characters(codec="utf-8"), max_size=60)
header_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | text
    | st.binary()
    | st.decimals(-(10**6), 10**6, places=2)
    | st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - the strategy adds it
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(names, header_values, max_size=6), st.integers(0, 400))
def test_headers_are_measured_as_they_are_written(headers: dict[str, Any], limit: int) -> None:
    """The size is that of the encoded table to the byte; with a limit, the answer is the same."""
    pieces: list[bytes] = []
    written = data.encode_table(pieces, headers)
    assert written == len(b"".join(pieces))
    assert table_size(headers, 2**32) == written
    measured = table_size(headers, limit)
    assert measured is not None
    assert (measured > limit) == (written > limit)
    problem = Limits(headers=limit).headers_problem(headers)
    assert (problem is not None) == (written > limit and bool(headers))


def nested(levels: int) -> dict[str, Any]:
    """So many tables within each other."""
    table: dict[str, Any] = {}
    for _ in range(levels - 1):
        table = {"a": table}
    return table


def test_headers_may_be_nested_only_so_deep() -> None:
    """The deepest that is allowed passes; one more is refused, and so is what has no end."""
    assert Limits().headers_problem(nested(MAX_HEADER_DEPTH)) is None
    endless: dict[str, Any] = {}
    endless["again"] = [endless]
    for headers in (nested(MAX_HEADER_DEPTH + 1), endless):
        problem = Limits().headers_problem(headers)
        assert (
            problem == f"its headers are nested deeper than the limit of {MAX_HEADER_DEPTH} levels"
        )


def deep_list(levels: int) -> list[Any]:
    """So many lists within each other."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def endless() -> list[Any]:
    """A list that is in itself."""
    value: list[Any] = []
    value.append(value)
    return value


OVER_THE_BODY = "bytes is over the limit of 16777216 (Limits.body)"
OVER_THE_HEADERS = "headers take more than the limit of 65536 bytes (Limits.headers)"
TOO_DEEP = "its JSON is nested deeper than the limit of 100 levels (Limits.depth)"
ENCODING = "cannot be written as JSON"

GIANTS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "100 MB of bytes": (
        lambda: {"body": SECRET.encode() * 10_000_000},
        f"its body of 110000000 {OVER_THE_BODY}",
    ),
    "100 MB of text": (
        lambda: {"body": SECRET * 10_000_000},
        f"its body of 110000002 {OVER_THE_BODY}",
    ),
    "a memoryview of wide items": (
        lambda: {"body": memoryview(bytearray(32 * 1024 * 1024)).cast("q")},
        f"its body of 33554432 {OVER_THE_BODY}",
    ),
    "JSON of a million levels": (
        lambda: {
            "body": b"[" * 1_000_000 + b"]" * 1_000_000,
            "content_type": "application/json",
        },
        TOO_DEEP,
    ),
    "a value of 150 levels": (lambda: {"body": deep_list(150)}, TOO_DEEP),
    "a value of 50,000 levels": (lambda: {"body": deep_list(50_000)}, ENCODING),
    "a value without an end": (lambda: {"body": endless()}, ENCODING),
    "10 MB of headers": (
        lambda: {"headers": {"a": SECRET * 1_000_000}},
        f"its 1 {OVER_THE_HEADERS}",
    ),
    "a million headers": (
        lambda: {"headers": {f"{SECRET}{n}": n for n in range(1_000_000)}},
        f"its 1000000 {OVER_THE_HEADERS}",
    ),
    "headers of 50,000 levels": (
        lambda: {"headers": {"a": deep_list(50_000)}},
        f"its headers are nested deeper than the limit of {MAX_HEADER_DEPTH} levels",
    ),
    "a header's name of 1 MB": (
        lambda: {"headers": {SECRET * 100_000: 1}},
        f"its 1 {OVER_THE_HEADERS}",
    ),
    "a header's name of 1 kB": (
        lambda: {"headers": {"n" * 1_000: 1}},
        "a header's name is text of 1 to 255 bytes",
    ),
    "a routing key of 1 MB": (
        lambda: {"routing_key": "k" * 1_000_000},
        "routing_key is over 255 bytes long",
    ),
}
"""What nobody should send: how it is made, and the words of its refusal."""


@pytest.mark.parametrize("what", GIANTS)
def test_a_giant_is_refused_quickly_and_not_quoted(what: str) -> None:
    """Its error names the message, what is wrong and the limit, in few words and little time."""
    make, words = GIANTS[what]
    outgoing = Outgoing(**{"exchange": "x", "routing_key": "k", "body": b"", **make()})
    began = time.process_time()
    with pytest.raises(InvalidMessageError) as caught:
        to_message(outgoing, None)
    assert time.process_time() - began < QUICKLY
    said = str(caught.value)
    assert words in said
    assert said.startswith("message None to exchange 'x' with routing key 'k")
    assert SECRET not in said
    assert len(said) < 300


def test_limits_are_the_services_own() -> None:
    """What is on a limit passes, and one more is refused."""
    limits = Limits(body=4, headers=11, depth=2)
    within: list[tuple[object, dict[str, Any]]] = [(b"1234", {}), ([[]], {}), (b"", {"abcd": True})]
    for body, headers in within:
        to_message(Outgoing("x", "k", body, headers=headers), None, limits=limits)
    over: list[tuple[object, dict[str, Any]]] = [(b"12345", {}), ("123", {}), (b"", {"abcde": 1})]
    for body, headers in over:
        with pytest.raises(InvalidMessageError, match="the limit of"):
            to_message(Outgoing("x", "k", body, headers=headers), None, limits=limits)
    with pytest.raises(InvalidMessageError, match="limit of 1 levels"):
        to_message(Outgoing("x", "k", [[]]), None, limits=Limits(depth=1))


def test_bytes_are_looked_into_only_where_they_say_that_they_are_json() -> None:
    """Brackets in other bytes are no depth."""
    body = b"[" * 200
    assert to_message(Outgoing("x", "k", body), None).body == body
    for content_type in ("application/json; charset=utf-8", "application/vnd.x+json"):
        with pytest.raises(InvalidMessageError, match="nested deeper"):
            to_message(Outgoing("x", "k", body, content_type=content_type), None)


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b"x" * 101, {}, "its body of 101 bytes is over the limit of 100 (Limits.body)"),
        (b"{}", {"a": "x" * 90}, "its 1 headers take more than the limit of 50 bytes"),
        (b"{}", {"a": nested(40)}, "its headers are nested deeper"),
    ],
)
def test_what_came_and_is_over_the_limits_is_refused(
    body: bytes, headers: dict[str, Any], words: str
) -> None:
    """A received message is checked like one to be published."""
    limits = Limits(body=100, headers=50) if "nested" not in words else Limits(body=100)
    with pytest.raises(DecodeError) as caught:
        check_received(body, Properties(headers=headers), limits)
    assert words in str(caught.value)


def test_what_mqkit_and_the_broker_add_does_not_count() -> None:
    """A message that was published within its limits is so after a retry and a dead letter too."""
    death = {"queue": "q" * 200, "reason": "rejected", "exchange": "", "count": 1}
    headers: dict[str, Any] = {
        "tenant": "t1",
        "mqkit-routing-key": "k" * 200,
        "x-death": [death, death],
        "x-first-death-queue": "q" * 200,
        "x-delivery-count": 3,
    }
    check_received(b"{}", Properties(headers=headers), Limits(headers=40))
    with pytest.raises(DecodeError, match="its 1 headers take more than the limit of 10 bytes"):
        check_received(b"{}", Properties(headers=headers), Limits(headers=10))


def test_a_body_is_looked_into_before_it_is_decoded() -> None:
    """Depth is refused for a model and for bytes that are JSON; other bytes are a handler's own."""
    deep = b"[" * 101 + b"]" * 101
    as_json = Properties(content_type="application/json")
    for kind, properties in ((list, Properties()), (list, as_json), (bytes, as_json)):
        with pytest.raises(DecodeError, match="limit of 100 levels"):
            BodyDecoder(kind).decode(deep, properties)
    assert BodyDecoder(bytes).decode(deep, Properties()) == deep
    assert BodyDecoder(list).decode(deep[1:-1], as_json)


def test_pydantic_reads_and_writes_as_deep_as_can_be_allowed() -> None:
    """A message at the greatest depth that `Limits` takes goes all the way."""
    limits = Limits(depth=MAX_DEPTH)
    message = to_message(Outgoing("x", "k", deep_list(MAX_DEPTH)), None, limits=limits)
    decoded = BodyDecoder(list).decode(message.body, message.properties, limits)
    assert depth_of(decoded) == MAX_DEPTH
    assert TypeAdapter(Any).validate_json(message.body)


@pytest.mark.parametrize(
    "wrong",
    [
        {"body": -1},
        {"body": 2**30},
        {"headers": True},
        {"headers": "64k"},
        {"depth": 0},
        {"depth": 201},
        {"depth": Decimal(5)},
    ],
)
def test_wrong_limits_are_refused(wrong: dict[str, Any]) -> None:
    """Each value is a whole number in its range; the error names it."""
    (name,) = wrong
    with pytest.raises(ConfigurationError, match=name):
        Limits(**wrong)
    with pytest.raises(ConfigurationError, match="limits takes"):
        Service("s", limits=5)  # type: ignore[arg-type]
