"""States as JSON, and what is read of what anybody may have written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from mqkit.observability.states.state import (
    MAX_STATE,
    MAX_TEXT,
    HandlerState,
    StateError,
    clean,
    decode,
    encode,
    head_of,
    rounded,
)
from tests.simulated_states import states

STATE = states(60.0, processes=1, queues=12, services=1)[0]


def test_a_state_is_read_as_it_was_written() -> None:
    """With all of its handlers, its connections and its store."""
    assert decode(encode(STATE)) == STATE
    ledger = states(60.0, processes=2, queues=2, services=2)[1]
    assert ledger.store is not None
    assert decode(encode(ledger)) == ledger


def test_of_a_handler_that_has_done_nothing_its_names_are_written() -> None:
    """The rest is what a reader takes it for anyway; what it has done is written."""
    idle = HandlerState("shop.pay", "orders")
    busy = dataclasses.replace(idle, acked=3, consumers={"paused": 1})
    body = encode(dataclasses.replace(STATE, handlers=(idle, busy)))
    assert json.loads(body)["handlers"] == [
        {"handler": "shop.pay", "queue": "orders"},
        {"handler": "shop.pay", "queue": "orders", "acked": 3, "consumers": {"paused": 1}},
    ]
    assert decode(body).handlers == (idle, busy)


@pytest.mark.parametrize(
    "name",
    [
        "ledger",
        "",
        '"',
        "\\",
        '\\"',
        '\\\\",',
        "x" * MAX_TEXT,
        "\\" * MAX_TEXT,
        "\U0001f4b6" * MAX_TEXT,
    ],
    ids=["plain", "empty", "quote", "backslash", "both", "all", "long", "backslashes", "wide"],
)
@pytest.mark.parametrize("up", [0.0, 60.0, 123456.789012, 999_999_999_999.0])
def test_the_head_of_a_state_is_read_without_the_rest(name: str, up: float) -> None:
    """Whatever its texts are; what is written in another way is none, and is read as a whole."""
    body = encode(dataclasses.replace(STATE, service=name, host=name, up=up))
    assert head_of(body) == (STATE.id, up)
    assert head_of(json.dumps(json.loads(body)).encode()) is None


@pytest.mark.parametrize("up", [0.000001, 1e12])
def test_a_number_that_is_written_otherwise_is_read_with_the_rest(up: float) -> None:
    """It is no reason to lose a state."""
    body = encode(dataclasses.replace(STATE, up=up))
    assert head_of(body) is None
    assert decode(body).up == up


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"id":"' * 100_000, b'{"id":"abcdef01","service":"' + b"\\" * 100_000]
)
def test_nonsense_has_no_head(body: bytes) -> None:
    """And to see that takes no time, whatever its length."""
    assert head_of(body) is None


def test_a_state_of_usual_size_is_a_few_kilobytes() -> None:
    """Ten handlers with reasons and partitions stay under five."""
    assert len(encode(states(60.0, processes=1, queues=10, services=1)[0])) < 5_000


def test_a_field_that_is_not_known_is_left_out() -> None:
    """A later mqkit may add some within a version."""
    told = json.loads(encode(STATE))
    told["weather"] = {"is": "fine"}
    told["handlers"][0]["colour"] = "blue"
    assert decode(json.dumps(told).encode()) == STATE


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The state's JSON with one thing changed."""
    told = json.loads(encode(STATE))
    change(told)
    return json.dumps(told).encode()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"{" * (MAX_STATE + 1), "bytes"),
        (b"x" * 10_000_000, "bytes"),
        (b"null", "version"),
        (b"[]", "version"),
        (b'{"v": true}', "version"),
        (b'{"v": "1"}', "version"),
        (b'{"v": 1}', "no state"),
        (changed(lambda told: told.update(v=2)), "version 2.*reads 1"),
        (changed(lambda told: told.update(v=2, service=7)), "version 2.*reads 1"),
        (changed(lambda told: told.update(v=10**400)), "no JSON|version"),
        (changed(lambda told: told.update(id="../../etc")), "no state: id"),
        (changed(lambda told: told.update(service=7)), "no state: service"),
        (changed(lambda told: told.update(service="\ud800")), "no JSON|no state"),
        (changed(lambda told: told.update(service="x" * 501)), "no state: service"),
        (changed(lambda told: told.update(host="a\x1b[2Jb")), "no state: host"),
        (changed(lambda told: told.update(host="a\nb")), "no state: host"),
        (changed(lambda told: told.update(host="\u202eevil")), "no state: host"),
        (changed(lambda told: told.update(up=-1)), "no state: up"),
        (changed(lambda told: told.update(up=float("nan"))), "no JSON|no state"),
        (changed(lambda told: told.update(up=float("inf"))), "no JSON|no state"),
        (changed(lambda told: told.update(every=0)), "no state: every"),
        (changed(lambda told: told.update(at="yesterday")), "no state: at"),
        (changed(lambda told: told.update(at="2026-01-01T00:00:00")), "time zone"),
        (changed(lambda told: told.update(handlers=None)), "no state: handlers"),
        (changed(lambda told: told["handlers"][0].update(acked=-1)), "handlers.0.acked"),
        (changed(lambda told: told["handlers"][0].update(acked=2**63)), "handlers.0.acked"),
        (changed(lambda told: told["handlers"][0].update(acked=1.5)), "handlers.0.acked"),
        (changed(lambda told: told["handlers"][0].update(partitions=10**9)), "partitions"),
        (changed(lambda told: told.update(problems=["x"] * 21)), "no state: problems"),
        (changed(lambda told: told.pop("handlers") and told.pop("pid")), "no state: pid"),
    ],
)
def test_what_is_no_state_is_refused(body: bytes, why: str) -> None:
    """By its size, its version, or the first field that does not fit; no value is quoted."""
    with pytest.raises(StateError, match=why) as raised:
        decode(body)
    assert str(raised.value).isprintable()


def test_a_text_of_this_process_is_made_one_that_can_be_read() -> None:
    """Names with bytes that are no text, line ends and lengths are no matter."""
    for text in ("a\udc80b", "two\nlines", "x" * 10_000, "\x1b[2J"):
        made = clean(text)
        assert made.isprintable()
        assert len(made) <= 500


@pytest.mark.parametrize(
    ("seconds", "told"), [(1.23456789, 1.234568), (float("inf"), 0.0), (float("nan"), 0.0)]
)
def test_seconds_are_numbers_of_few_characters(seconds: float, told: float) -> None:
    """What is no number is none."""
    assert rounded(seconds) == told
