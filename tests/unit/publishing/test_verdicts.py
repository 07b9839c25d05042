"""What the broker's verdict makes of a publish, and what a passed deadline leaves unknown."""

from __future__ import annotations

import pytest

from mqkit import (
    BlockedError,
    ConnectionLostError,
    ExchangeNotFoundError,
    NackedError,
    PublishTimeoutError,
    UnroutableError,
)
from mqkit.drivers.base import Acked, Closed, Gone, Nacked, Returned
from mqkit.errors import PublishError, PublishRefusedError
from mqkit.message import Message, Properties
from mqkit.publishing.verdicts import HARMLESS_CODES, Doubt, Stage, deadline_passed, judge

MESSAGE = Message("orders", "order.paid", b"four", Properties(message_id="m"))

NO_EXCHANGE = "NOT_FOUND - no exchange '{}' in vhost '/'"


@pytest.mark.parametrize("alone", [False, True])
def test_the_brokers_word_is_judged_alike_on_every_channel(*, alone: bool) -> None:
    """Stored, nacked or returned: no error, an unknown result, and a certain one."""
    assert judge(MESSAGE, Acked(), alone=alone) is None
    nacked = judge(MESSAGE, Nacked(), alone=alone)
    assert isinstance(nacked, NackedError)
    assert nacked.may_be_stored
    returned = judge(MESSAGE, Returned(312, "NO_ROUTE", "", "", Properties()), alone=alone)
    assert isinstance(returned, UnroutableError)
    assert not returned.may_be_stored
    assert "312 NO_ROUTE" in str(returned)


@pytest.mark.parametrize("code", sorted(HARMLESS_CODES))
@pytest.mark.parametrize("alone", [False, True])
def test_a_loss_that_blames_nobody_is_in_doubt(code: int, *, alone: bool) -> None:
    """A lost stream, a close by us or by an operator, a failing broker."""
    assert judge(MESSAGE, Gone(Closed(code, "lost")), alone=alone) is Doubt.LOST


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (404, NO_EXCHANGE.format("orders"), ExchangeNotFoundError),
        (404, NO_EXCHANGE.format("others"), Doubt.LOST),
        (403, "access to exchange 'orders' in vhost '/' refused", PublishRefusedError),
        (403, "access to topic 'order.paid' in exchange 'orders' refused", PublishRefusedError),
        (403, "access to topic 'order.lost' in exchange 'orders' refused", Doubt.LOST),
        (406, "message size 4 is larger than configured max size 3", PublishRefusedError),
        (406, "message size 40 is larger than configured max size 3", Doubt.SUSPECT),
        (406, "user_id property set to 'a' but authenticated user was 'b'", Doubt.SUSPECT),
    ],
)
def test_whom_the_broker_blames_on_a_shared_channel(
    code: int, text: str, expected: type[PublishError] | Doubt
) -> None:
    """This message if the text names it, another one if it names that, else perhaps this one."""
    judgement = judge(MESSAGE, Gone(Closed(code, text)))
    if isinstance(expected, Doubt):
        assert judgement is expected
    else:
        assert type(judgement) is expected


def test_on_the_default_exchange_the_broker_uses_another_name() -> None:
    """It is 'amq.default' in a refusal."""
    text = "access to exchange 'amq.default' in vhost '/' refused"
    judgement = judge(Message("", "queue", b""), Gone(Closed(403, text)))
    assert isinstance(judgement, PublishRefusedError)


@pytest.mark.parametrize(
    ("code", "expected"), [(404, ExchangeNotFoundError), (403, PublishRefusedError)]
)
def test_a_message_alone_on_its_channel_is_what_it_closed_over(
    code: int, expected: type[PublishError]
) -> None:
    """Whatever the text says; and it is certain that it is not stored."""
    judgement = judge(MESSAGE, Gone(Closed(code, "any text")), alone=True)
    assert type(judgement) is expected
    assert not judgement.may_be_stored


def test_an_exchange_that_is_deleted_under_a_publish_may_have_taken_it() -> None:
    """On a shared channel its confirm was lost with the channel."""
    judgement = judge(MESSAGE, Gone(Closed(404, NO_EXCHANGE.format("orders"))))
    assert isinstance(judgement, ExchangeNotFoundError)
    assert judgement.may_be_stored


@pytest.mark.parametrize(
    ("waited_for", "blocked", "written", "expected", "text"),
    [
        (Stage.CONFIRM, None, True, PublishTimeoutError, "no confirm within 2 s; it may be stored"),
        (Stage.CONFIRM, "low on memory", True, PublishTimeoutError, "(the broker blocks publi"),
        (Stage.BLOCKED, "low on memory", True, PublishTimeoutError, "(the broker blocks publi"),
        (Stage.BLOCKED, "low on memory", False, BlockedError, "nothing was written"),
        (Stage.CONNECTION, "low on memory", False, BlockedError, "(low on memory)"),
        (Stage.CONNECTION, None, True, ConnectionLostError, "within 2 s; it may be stored"),
        (Stage.CONNECTION, None, False, ConnectionLostError, "waited for a connection to the br"),
        (Stage.PROBE, None, False, ConnectionLostError, "broker's answer to a probe, which did"),
    ],
)
def test_a_passed_deadline_is_told_as_what_it_is(
    *,
    waited_for: Stage,
    blocked: str | None,
    written: bool,
    expected: type[PublishError],
    text: str,
) -> None:
    """What was waited for, whether there is an alarm, and whether the message may be stored."""
    error = deadline_passed(MESSAGE, waited_for, 2, blocked=blocked, written=written)
    assert type(error) is expected
    assert text in str(error)
    assert error.may_be_stored is written
    assert error.message_id == "m"
