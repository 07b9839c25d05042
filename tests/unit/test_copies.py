"""The copies that replace a delivery."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mqkit import Delivery
from mqkit.copies import dead_letter_copy, retry_copy
from mqkit.errors import describe
from mqkit.message import Properties, attempt_number, elapsed_seconds, first_published_to
from mqkit.outcome import DeadLetter, DeathReason, RetryAfter

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RETRY = RetryAfter(1.0, ValueError(), elapsed=1.0)


def raised(text: str) -> ValueError:
    """An error with a traceback."""

    def fail() -> None:
        raise ValueError(text)

    try:
        fail()
    except ValueError as error:
        return error
    raise AssertionError


def delivery(**headers: object) -> Delivery:
    """One that came by an exchange, with what other clients may have put on it."""
    return Delivery(
        body=b"body",
        properties=Properties(
            headers=headers,  # type: ignore[arg-type]
            message_id="m",
            correlation_id="c",
            expiration=5.0,
            user_id="somebody",
            persistent=False,
        ),
        exchange="payments",
        routing_key="order.accepted",
        queue="q",
        attempt=attempt_number(headers),  # type: ignore[arg-type]
    )


def test_a_retry_copy_keeps_identity_and_origin() -> None:
    """Id, body and headers go along; the attempt counts up; the first failure stays the first."""
    first = retry_copy(delivery(tenant="t"), RETRY, "ladder", "0.1.q", NOW)
    assert (first.exchange, first.routing_key, first.body) == ("ladder", "0.1.q", b"body")
    assert (first.properties.message_id, first.properties.correlation_id) == ("m", "c")
    headers = first.properties.headers
    assert headers["tenant"] == "t"
    assert attempt_number(headers) == 2
    assert first_published_to(headers, "", "") == ("payments", "order.accepted")
    second = retry_copy(delivery(**headers), RETRY, "ladder", "0.1.q", NOW + timedelta(minutes=1))
    assert attempt_number(second.properties.headers) == 3
    assert (
        second.properties.headers["mqkit-first-failure"]
        == first.properties.headers["mqkit-first-failure"]
    )


def test_what_would_harm_the_copy_is_left_out() -> None:
    """No second route, no borrowed user, no early expiry, none of the broker's own accounts."""
    copy = retry_copy(
        delivery(
            CC=["elsewhere"],
            BCC=["hidden"],
            **{"x-death": [], "x-delivery-count": 3, "x-first-death-queue": "a"},
            **{"mqkit-publish": 7},
        ),
        RETRY,
        "",
        "q",
        NOW,
    )
    assert set(copy.properties.headers) == {
        "mqkit-attempt",
        "mqkit-elapsed",
        "mqkit-exchange",
        "mqkit-routing-key",
        "mqkit-first-failure",
    }
    assert (copy.properties.expiration, copy.properties.user_id) == (None, None)
    assert copy.properties.persistent


def test_an_attempt_that_is_not_counted_has_the_same_number_again() -> None:
    """What the message was not to blame for costs it none of its attempts."""
    outcome = RetryAfter(1.0, ValueError(), elapsed=2.5, counted=False)
    copy = retry_copy(delivery(**{"mqkit-attempt": 3}), outcome, "", "q", NOW)
    assert attempt_number(copy.properties.headers) == 3
    assert elapsed_seconds(copy.properties.headers) == 2.5


def test_a_copy_of_a_message_without_id_gets_one() -> None:
    """A publisher that gave no id does not leave its retries without one."""
    copy = retry_copy(Delivery(queue="q"), RETRY, "", "q", NOW)
    assert copy.properties.message_id


def test_a_dead_letter_says_what_happened() -> None:
    """Error, attempts, times, handler, service and queue are in its headers, cut to size."""
    outcome = DeadLetter(DeathReason.ATTEMPTS_EXHAUSTED, raised("ä" * 10_000))
    copy = dead_letter_copy(delivery(**{"mqkit-attempt": 3}), outcome, "s", "h", NOW)
    headers = copy.properties.headers
    assert (copy.exchange, copy.routing_key) == ("", "q.dead")
    assert headers["mqkit-attempts"] == 3
    assert "mqkit-attempt" not in headers
    assert headers["mqkit-error-type"] == "ValueError"
    assert len(str(headers["mqkit-error-message"]).encode()) < 1_010
    assert len(str(headers["mqkit-error-traceback"]).encode()) < 6_010
    assert headers["mqkit-last-failure"] == "2026-01-02T03:04:05.000+00:00"
    assert (headers["mqkit-service"], headers["mqkit-handler"]) == ("s", "h")


def test_nonsense_in_our_headers_is_not_believed() -> None:
    """An attempt that is no number of 1 or more counts as the first, and no time as none."""
    for nonsense in (0, -1, True, "3", None, 2.5):
        assert attempt_number({"mqkit-attempt": nonsense}) == 1
    for nonsense in (-1, True, "3", None, 2.5):
        assert elapsed_seconds({"mqkit-elapsed": nonsense}) == 0
    assert first_published_to({"mqkit-exchange": 5}, "x", "k") == ("x", "k")


def test_the_log_gets_an_errors_type_and_place_but_not_its_text() -> None:
    """What is logged of an error never quotes it: the text may hold what the message held."""
    text = describe(raised("card 4111"))
    assert text.startswith("ValueError at ")
    assert "4111" not in text
