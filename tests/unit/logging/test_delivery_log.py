"""What is logged of the end of a delivery."""

from __future__ import annotations

import logging

import pytest

from mqkit import Delivery, Reject
from mqkit.logging.delivery_log import DeliveryLog
from mqkit.logging.error_reports import Detail, ErrorReports
from mqkit.message import Properties

DELIVERY = Delivery(
    properties=Properties(message_id="m\n"),
    exchange="payments",
    routing_key="order.x",
    queue="q",
    attempt=2,
)


def log(detail: Detail = "text", attempts: int | None = 6) -> DeliveryLog:
    return DeliveryLog("s", "shop.post", reports=ErrorReports(detail), attempts=attempts)


def told(caplog: pytest.LogCaptureFixture) -> tuple[str, str]:
    (record,) = caplog.records
    return record.levelname, record.getMessage()


WHICH = " [message m\\n, exchange payments, key order.x, queue q]"


def test_a_retry_is_a_warning_with_all_that_identifies_it(caplog: pytest.LogCaptureFixture) -> None:
    """As words and as fields."""
    log().retried(DELIVERY, ValueError("pin=1234"), 1.44)
    words = "shop.post: attempt 2 of 6 failed, retry in 1.4 s: ValueError: pin=***"
    assert told(caplog) == ("WARNING", words + WHICH)
    fields = {
        "service": "s",
        "handler": "shop.post",
        "queue": "q",
        "message_id": "m\n",
        "attempt": 2,
        "exchange": "payments",
        "routing_key": "order.x",
        "outcome": "retry",
        "max_attempts": 6,
        "retry_in": 1.4,
        "error": {"type": "ValueError", "text": "pin=***"},
    }
    (record,) = caplog.records
    assert fields.items() <= record.__dict__.items()
    assert (record.name, record.exc_text) == ("mqkit.deliveries", None)


def test_a_dead_letter_is_an_error_that_says_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """And why; the number of attempts is left out where a policy does not say it."""
    log(attempts=None).dead_lettered(DELIVERY, KeyError("a"), "not-retryable")
    words = "shop.post: attempt 2 failed, dead-lettered to q.dead (not-retryable): KeyError: 'a'"
    assert told(caplog) == ("ERROR", words + WHICH)
    assert caplog.records[0].__dict__["reason"] == "not-retryable"


@pytest.mark.parametrize("detail", ["type", "text", "traceback"])
def test_a_rejects_reason_is_always_shown(detail: Detail, caplog: pytest.LogCaptureFixture) -> None:
    """Masked; it was written for whoever reads the log."""
    log(detail).dead_lettered(DELIVERY, Reject("closed, token=x"), "rejected", keeps_text=True)
    words = "attempt 2 of 6 rejected it, dead-lettered to q.dead: closed, token=***"
    assert told(caplog) == ("ERROR", f"shop.post: {words}{WHICH}")


def test_types_alone_are_shown_if_that_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    """The text is nowhere in the record."""
    log("type").retried(DELIVERY, ValueError("Bob"), 0)
    assert "Bob" not in str(caplog.records[0].__dict__)


def test_a_traceback_is_shown_if_that_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    """Masked, below the line."""
    log("traceback").retried(DELIVERY, ValueError("pin=1234"), 0)
    assert caplog.records[0].exc_text == "ValueError: pin=***"


def test_the_rest_is_for_who_looks_closely(caplog: pytest.LogCaptureFixture) -> None:
    """What is done, given back, lost, or failed for a reason that is told elsewhere."""
    caplog.set_level(logging.DEBUG)
    log().done(DELIVERY)
    log().given_back(DELIVERY)
    log().lost(DELIVERY)
    log().retried(DELIVERY, ValueError(), 1, counted=False)
    assert {each.levelname for each in caplog.records} == {"DEBUG"}
    outcomes = [each.__dict__["outcome"] for each in caplog.records]
    assert outcomes == ["ack", "requeue", "lost", "retry"]
