"""What dead letters become when they are moved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mqkit.dead_letters.messages import copies
from mqkit.dead_letters.messages.letters import MAX_HISTORY
from mqkit.message import Header
from tests.unit.dead_letters.samples import NOW, failed, letter, raised

RUN = "0123456789ab"


def test_a_replay_begins_anew_under_its_own_id() -> None:
    """Of mqkit's headers it has its origin, its history and the count of its replays."""
    found = letter(failed(raised(ValueError("x")), b'{"n": 1}', tenant="t"))
    message = copies.replayed(found, "ladder", "0.q", RUN)
    assert (message.exchange, message.routing_key, message.body) == ("ladder", "0.q", b'{"n": 1}')
    assert message.properties.message_id == "m-1"
    headers = dict(message.properties.headers)
    history = headers.pop(Header.HISTORY)
    assert isinstance(history, list)
    assert ["ValueError at " in str(each) for each in history] == [True]
    assert headers == {
        "tenant": "t",
        Header.EXCHANGE: "payments",
        Header.ROUTING_KEY: "order.accepted",
        Header.REPLAYS: 1,
        Header.REPLAY: RUN,
        Header.FIRST_FAILURE: "2026-01-02T03:04:05.000+00:00",
    }


def test_what_an_outsider_wrote_does_not_steer_a_replay() -> None:
    """No attempt, time to live, target or copy that is forged in a dead letter goes along."""
    forged: dict[str, Any] = {
        Header.ATTEMPT: 99,
        Header.ELAPSED: 10**9,
        Header.TIME_TO_LIVE: 1,
        Header.QUEUE: "other",
        Header.REPLAYS: 10**12,
        "CC": ["other"],
        "BCC": ["other"],
        "x-delivery-count": 7,
        "x-death": [{"queue": "other"}],
        "x-first-death-queue": "other",
    }
    message = copies.replayed(letter(failed(raised(ValueError()), **forged)), "ladder", "k", RUN)
    assert set(message.properties.headers) == {
        Header.EXCHANGE,
        Header.ROUTING_KEY,
        Header.REPLAYS,
        Header.REPLAY,
        Header.HISTORY,
        Header.FIRST_FAILURE,
    }
    assert message.properties.headers[Header.REPLAYS] == 1
    assert message.properties.expiration is None
    assert message.properties.user_id is None


def test_the_history_grows_to_its_bound() -> None:
    """The oldest failure goes when another one comes."""
    found = letter()
    for number in range(MAX_HISTORY + 3):
        message = copies.replayed(found, "ladder", "k", RUN)
        assert message.properties.headers[Header.REPLAYS] == number + 1
        properties = message.properties
        headers = {**properties.headers, Header.LAST_FAILURE: f"2026-02-{number + 1:02}T00:00Z"}
        found = letter(replace(message, properties=replace(properties, headers=headers)))
    assert len(found.history) == MAX_HISTORY
    assert found.history[-1].startswith("2026-02-12")


def test_a_moved_message_is_the_same() -> None:
    """The archive has every header of it, but for what would send it elsewhere."""
    message = failed(raised(ValueError()), tenant="t")
    there = dict(message.properties.headers)
    message.properties.headers["CC"] = ["other"]  # type: ignore[index]
    found = letter(message)
    moved = copies.moved(found, "q.dead.archive")
    assert (moved.exchange, moved.routing_key, moved.body) == ("", "q.dead.archive", b"{}")
    assert moved.properties.headers == there
    assert letter(moved).ref == found.ref


def test_an_edited_copy_names_its_origin() -> None:
    """It has the new body, an id of its own that the same edit has again, and the failure."""
    found = letter()
    copy = copies.edited(found, "ledger.post.dead", b'{"amount": 1}')
    again = copies.edited(found, "ledger.post.dead", b'{"amount": 1}')
    other = copies.edited(found, "ledger.post.dead", b'{"amount": 2}')
    made = letter(copy)
    assert (made.body, made.edited_from) == (b'{"amount": 1}', "m-1")
    assert made.group == found.group
    assert made.last_failure == NOW
    assert copy.properties.message_id == again.properties.message_id
    assert len({"m-1", copy.properties.message_id, other.properties.message_id}) == 3
