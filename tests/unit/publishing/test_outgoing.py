"""What is checked before a message is written."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import BaseModel, model_serializer

from mqkit import Exchange, InvalidMessageError, Outgoing, Queue
from mqkit.outcome import MAX_DELAY
from mqkit.publishing.outgoing import AT_A_TIME, MessageIds, to_message

NO_PRIORITIES: tuple[Any, ...] = ("5", 1.5, 1.0, True, math.nan, -1, 10**5000, [], b"5")

MONTHS = timedelta(days=60)
"""Longer than an expiration may be, and not than a delay."""

NO_TIMES: tuple[Any, ...] = (
    "5000",
    b"5",
    True,
    math.nan,
    math.inf,
    -1,
    timedelta(seconds=-1),
    MONTHS,
    10**400,
    Decimal(5),
    [],
)

TEXTS = ("routing_key", "message_id", "correlation_id", "reply_to", "type", "content_type")


class Odd(Mapping[str, Any]):
    """A mapping of the application's own, which fails."""

    def __getitem__(self, name: str) -> Any:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


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
    ("exchange", "said", "mandatory"),
    [
        ("x", None, True),
        (Exchange("x"), None, True),
        (Exchange("x", mandatory=False), None, False),
        (Exchange("x", mandatory=False), True, True),
        (Exchange("x"), False, False),
    ],
)
def test_the_exchange_says_what_the_message_does_not(
    exchange: Exchange | str, said: bool | None, mandatory: bool
) -> None:
    """Whether it is mandatory; of an exchange that is given by its name, it is."""
    message = to_message(Outgoing(exchange, "k", b"", mandatory=said), None)
    assert message.mandatory is mandatory


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
        *(({"expiration": value}, "expiration is seconds") for value in NO_TIMES),
        ({"delay": MAX_DELAY + 1}, "delay is seconds from 0 to 26843545.5 (310 days)"),
        ({"delay": timedelta(days=311)}, "delay is seconds from 0 to 26843545.5"),
        *(({"delay": value}, "delay is seconds") for value in NO_TIMES if value != MONTHS),
        ({"at": datetime(2030, 1, 1)}, "at is a datetime with a time zone"),  # noqa: DTZ001 - the wrong one
        ({"at": "2030-01-01"}, "at is a datetime with a time zone"),
        ({"at": datetime.max.replace(tzinfo=UTC)}, "at is within 26843545.5 seconds (310 days)"),
        ({"delay": 1, "at": datetime.now(UTC)}, "a delay and a time (at)"),
        ({"delay": 1, "expiration": 5}, "an expiration and is to be published later"),
        ({"delay": 1, "mandatory": False}, "not mandatory and is to be published later"),
        ({"at": datetime.now(UTC), "exchange": Exchange("x", mandatory=False)}, "not mandatory"),
        *(({"priority": value}, "priority is 0 to 255") for value in NO_PRIORITIES),
        *(({name: 5}, f"{name} is text, not 5") for name in TEXTS),
        *(({name: b"x"}, f"{name} is text, not b'x'") for name in TEXTS),
        *(({name: "a\0b"}, f"{name} has a NUL character") for name in TEXTS),
        *(({name: "\ud800"}, f"{name} has a character that UTF-8 cannot") for name in TEXTS),
        *(({name: "\u00e9" * 128}, f"{name} is over 255 bytes long") for name in TEXTS),
        ({"exchange": None}, "an Exchange or its name, not None"),
        ({"exchange": Queue("q")}, "an Exchange or its name, not Queue"),
        ({"message_id": ""}, "message_id is empty"),
        ({"message_id": uuid.UUID(int=5)}, "message_id is text, not UUID"),
        ({"persistent": "no"}, "persistent is True or False"),
        ({"mandatory": 1}, "mandatory is True or False"),
        ({"headers": [("a", 1)]}, "headers is a dict, not a list"),
        ({"headers": "a"}, "headers is a dict, not a str"),
        ({"headers": {5: 1}}, "a header's name is text of 1 to 255 bytes, not 5"),
        ({"headers": {"\ud800": 1}}, "a header's name is text"),
        ({"headers": {"a\0": 1}}, "has a NUL character"),
        ({"headers": {"n": 2**70}}, "header 'n' is a whole number that takes over 64 bits"),
        ({"headers": {"n": (1, 2)}}, "header 'n' is a tuple; there may be text"),
        ({"headers": {"n": [{1}]}}, "header 'n' holds a value that is a set"),
        ({"headers": {"n": {"a": {5: 1}}}}, "holds a table in which the name 5 is no text"),
        ({"headers": {"n": math.nan}}, "header 'n' is no finite number"),
        ({"headers": {"n": Decimal("1E+12")}}, "header 'n' is a Decimal of more digits"),
        ({"headers": {"n": datetime(2020, 1, 1)}}, "header 'n' is a datetime without a time zone"),  # noqa: DTZ001 - the wrong one
        ({"headers": {"CC": "other"}}, "header 'CC': RabbitMQ takes a list of routing keys"),
        ({"headers": {"BCC": None}}, "header 'BCC': RabbitMQ takes a list of routing keys"),
        ({"headers": Odd()}, "headers cannot be read: KeyError"),
    ],
)
def test_what_cannot_be_sent_is_named(options: dict[str, Any], words: str) -> None:
    """A wrong option is an InvalidMessageError that names it."""
    outgoing = Outgoing(**{"exchange": "x", "routing_key": "k", "body": {}, **options})
    with pytest.raises(InvalidMessageError) as caught:
        to_message(outgoing, None)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (5, 5),
        (0, 0),
        (0.0001, 0.001),
        (timedelta(minutes=1), 60),
        (timedelta(microseconds=1), 0.001),
    ],
)
def test_an_expiration_is_a_number_or_a_timedelta(given: Any, kept: float) -> None:
    """What is shorter than a millisecond is one: 0 would expire the message at once."""
    message = to_message(Outgoing("x", "k", {}, expiration=given), None)
    assert message.properties.expiration == kept


NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
"""The time by the clock of the next tests."""


@pytest.mark.parametrize(
    ("options", "due"),
    [
        ({"delay": 90}, NOON + timedelta(seconds=90)),
        ({"delay": timedelta(days=310)}, NOON + timedelta(days=310)),
        ({"delay": 0.05}, NOON + timedelta(seconds=0.05)),
        ({"at": NOON + timedelta(hours=2)}, NOON + timedelta(hours=2)),
        (
            {"at": datetime(2026, 12, 1, 1, tzinfo=timezone(timedelta(hours=1)))},
            NOON.replace(day=1, month=12, hour=0),
        ),
        ({}, None),
        ({"delay": 0}, None),
        ({"at": NOON}, None),
        ({"at": datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))}, None),
    ],
)
def test_a_message_is_due_by_its_delay_or_its_time(
    options: dict[str, Any], due: datetime | None
) -> None:
    """A delay begins now, a time stands, and what is due already is published at once."""
    message = to_message(Outgoing("x", "k", {}, **options), None, clock=lambda: NOON)
    assert message.due == due


def test_a_delay_is_kept_by_the_monotonic_clock_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time by the wall clock is not: it is meant."""
    monkeypatch.setattr("mqkit.publishing.outgoing.monotonic", lambda: 1000.0)
    for options, due_after in (({"delay": 90}, 1090.0), ({"at": NOON + timedelta(hours=2)}, None)):
        message = to_message(Outgoing("x", "k", {}, **options), None, clock=lambda: NOON)
        assert message.due_after == due_after


def test_what_may_have_no_queue_is_published_later_if_that_is_said_to_be_right() -> None:
    """`mandatory=True` is for the one message, whatever its exchange says."""
    outgoing = Outgoing(Exchange("x", mandatory=False), "k", {}, delay=5, mandatory=True)
    assert to_message(outgoing, None, clock=lambda: NOON).due == NOON + timedelta(seconds=5)


@pytest.mark.parametrize("headers", [None, {}, {"a": 1}, MappingProxyType({"a": 1})])
def test_headers_are_any_mapping_or_none(headers: Any) -> None:
    """They are copied: what the application does with its own afterwards changes nothing."""
    message = to_message(Outgoing("x", "k", {}, headers=headers), None)
    assert message.properties.headers == (headers or {})
    assert message.properties.headers is not headers


def test_a_headers_value_is_not_quoted() -> None:
    """It may be secret."""
    wrong: Any = {"card": {"4111111111111111"}}
    with pytest.raises(InvalidMessageError) as caught:
        to_message(Outgoing("x", "k", {}, headers=wrong), None)
    assert "4111" not in str(caught.value)


class Failing(BaseModel):
    """A model that cannot be written."""

    @model_serializer
    def serialize(self) -> dict[str, str]:
        raise KeyError("amount")


def released() -> memoryview:
    """Bytes that are no longer there."""
    view = memoryview(b"x")
    view.release()
    return view


@pytest.mark.parametrize("body", [Failing(), released(), object(), {"a": {1, object()}}])
def test_whatever_a_body_raises_is_the_messages_error(body: object) -> None:
    """Be it a model's own serializer."""
    with pytest.raises(InvalidMessageError, match="message m to exchange 'x' with routing key 'k'"):
        to_message(Outgoing("x", "k", body, message_id="m"), None)


def test_ids_are_random_uuids() -> None:
    """Each is a UUID of version 4 in its usual form, and none comes twice, over several draws."""
    new_id = MessageIds()
    ids = [new_id() for _ in range(4 * AT_A_TIME)]
    read = [uuid.UUID(text) for text in ids]
    assert [str(value) for value in read] == ids
    assert {value.version for value in read} == {4}
    assert {value.variant for value in read} == {uuid.RFC_4122}
    assert len(set(ids)) == len(ids)


def test_ids_are_made_of_all_the_bits_of_the_system() -> None:
    """Each is what Python's uuid makes of the next 16 bytes, and none of these is used twice."""
    drawn = os.urandom(16 * AT_A_TIME)
    new_id = MessageIds(lambda size: drawn[:size])
    for at in range(0, len(drawn), 16):
        assert new_id() == str(uuid.UUID(bytes=drawn[at : at + 16], version=4))
