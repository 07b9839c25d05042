"""What a reply says, and what is read from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from mqkit import DecodeError, Delivery, Reject, RequestFailedError, RequestRejectedError
from mqkit.codec import BodyDecoder
from mqkit.message import Header, HeaderValue, Message, Properties
from mqkit.outcome import Ack, DeadLetter, DeathReason
from mqkit.publishing.outgoing import MessageIds
from mqkit.publishing.replies import DIRECT_REPLY_TO, MAX_TEXT, read_reply, reply_to

ADDRESS = f"{DIRECT_REPLY_TO}.g1h2A"
REQUEST = Message("x", "k", b"", Properties(message_id="m"))


class Balance(BaseModel):
    """A reply."""

    amount: int


def asking(address: Any = ADDRESS) -> Delivery:
    """A request as its handler got it."""
    return Delivery(properties=Properties(reply_to=address, correlation_id="c", message_id="m"))


def replied(outcome: Ack | DeadLetter) -> Message:
    """The reply that there must be."""
    reply = reply_to(asking(), outcome, MessageIds())
    assert reply is not None
    return reply


def read(reply: Message, reply_type: Any = Balance) -> Any:
    """What the asker makes of it."""
    return read_reply(reply.body, reply.properties, BodyDecoder(reply_type), REQUEST)


def test_a_result_is_sent_to_who_asked() -> None:
    """To the address, with the request's correlation id, as what was encoded of the result."""
    reply = replied(Ack(Balance(amount=5), (b'{"amount":5}', "application/json")))
    assert (reply.exchange, reply.routing_key, reply.body) == ("", ADDRESS, b'{"amount":5}')
    assert reply.properties.correlation_id == "c"
    assert reply.properties.headers == {Header.REPLY: "ok"}
    assert read(reply) == Balance(amount=5)


@pytest.mark.parametrize("address", [None, ""])
def test_nobody_asked(address: str | None) -> None:
    """A message without an address gets no reply."""
    assert reply_to(asking(address), Ack(1), MessageIds()) is None


@pytest.mark.parametrize(("address", "mandatory"), [(ADDRESS, False), ("replies", True)])
def test_only_a_queue_can_return_a_reply(address: str, mandatory: bool) -> None:
    """Direct replies are not mandatory: before 4.3 RabbitMQ returns them though it delivers."""
    reply = reply_to(asking(address), Ack(1), MessageIds())
    assert reply is not None
    assert reply.mandatory is mandatory


def test_a_reject_tells_its_reason() -> None:
    """What the handler gave as its reason reaches the caller, cut to size."""
    with pytest.raises(RequestRejectedError, match=r"request m .*it was rejected: no account") as e:
        read(replied(DeadLetter(DeathReason.REJECTED, Reject("no account"))))
    assert (e.value.reason, e.value.exchange, e.value.routing_key) == ("no account", "x", "k")
    long = replied(DeadLetter(DeathReason.REJECTED, Reject("x" * 100_000)))
    assert len(long.body) < MAX_TEXT + 100
    foreign = replace(long, body=b'{"reason":"%s"}' % (b"x" * 100_000))
    for reply in (long, foreign):
        with pytest.raises(RequestRejectedError) as caught:
            read(reply)
        assert caught.value.reason == "x" * MAX_TEXT


@pytest.mark.parametrize("reason", [r for r in DeathReason if r is not DeathReason.REJECTED])
def test_a_failure_tells_its_reason_and_not_its_error(reason: DeathReason) -> None:
    """Whatever the error was: its text stays in the dead letter."""
    reply = replied(DeadLetter(reason, ValueError("secret")))
    assert b"secret" not in reply.body
    with pytest.raises(RequestFailedError) as caught:
        read(reply)
    assert (caught.value.reason, caught.value.explanation) == (reason.value, None)


def test_an_undecodable_request_is_explained() -> None:
    """The explanation names fields and no values."""
    with pytest.raises(RequestFailedError, match="n: wrong") as caught:
        read(replied(DeadLetter(DeathReason.UNDECODABLE, DecodeError("n: wrong"))))
    assert caught.value.explanation == "n: wrong"
    reply = replied(DeadLetter(DeathReason.NOT_RETRYABLE, DecodeError("of something else")))
    with pytest.raises(RequestFailedError) as caught:
        read(reply)
    assert caught.value.explanation is None


def test_a_reply_of_another_library_is_a_result() -> None:
    """Without mqkit's header, the body is what was asked for."""
    assert read(Message("", ADDRESS, b'{"amount":1}')) == Balance(amount=1)


def test_a_reason_of_a_later_mqkit_is_told() -> None:
    """The asker need not know it."""
    reply = Message("", "", b'{"reason":"new"}', Properties(headers={Header.REPLY: "failed"}))
    with pytest.raises(RequestFailedError) as caught:
        read(reply)
    assert caught.value.reason == "new"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"nonsense"),
        ({Header.REPLY: "later"}, b'{"amount":1}'),
        ({Header.REPLY: None}, b'{"amount":1}'),
        ({Header.REPLY: ["ok"]}, b'{"amount":1}'),
        ({Header.REPLY: "failed"}, b"[]"),
        ({Header.REPLY: "rejected"}, b'{"reason":null}'),
    ],
)
def test_what_is_no_reply_does_not_decode(headers: dict[str, HeaderValue], body: bytes) -> None:
    """The error names the request."""
    with pytest.raises(DecodeError, match="the reply to request m"):
        read(Message("", "", body, Properties(headers=headers)))
