"""The copies that replace a delivery."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest

from mqkit import Delivery
from mqkit.consuming.copies import dead_letter_copy, fitted, forward_copy, retry_copy
from mqkit.consuming.headers import attempt_number, elapsed_seconds, first_published_to
from mqkit.errors import HeadersTooLargeError, InvalidMessageError
from mqkit.limits import MAX_HEADERS, table_size
from mqkit.logging.masking import Masker
from mqkit.message import Header, Message, Properties
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


def test_a_dead_letter_says_what_happened() -> None:
    """Error, attempts, times, handler, service and queue are in its headers, cut to size."""
    outcome = DeadLetter(DeathReason.ATTEMPTS_EXHAUSTED, raised("ä" * 10_000))
    copy = dead_letter_copy(delivery(**{"mqkit-attempt": 3}), outcome, "s", "h", NOW)
    headers = copy.properties.headers
    assert (copy.exchange, copy.routing_key) == ("", "q.dead")
    assert headers["mqkit-attempts"] == 3
    assert "mqkit-attempt" not in headers
    assert headers["mqkit-error-type"] == "ValueError"
    assert 990 < len(str(headers["mqkit-error-message"]).encode()) <= 1_000
    assert 5_990 < len(str(headers["mqkit-error-traceback"]).encode()) <= 6_000
    assert headers["mqkit-last-failure"] == "2026-01-02T03:04:05.000+00:00"
    assert (headers["mqkit-service"], headers["mqkit-handler"]) == ("s", "h")


def test_a_dead_letters_account_has_no_secrets() -> None:
    """Neither those that are known by their form, nor those that the application names."""
    outcome = DeadLetter(DeathReason.REJECTED, raised("password=hunter2, iban=DE1"))
    masker = Masker(["iban"])
    copy = dead_letter_copy(delivery(), outcome, "s", "h", NOW, masker=masker)
    assert copy.properties.headers["mqkit-error-message"] == "password=***, iban=***"
    traceback = str(copy.properties.headers["mqkit-error-traceback"])
    assert traceback.endswith("ValueError: password=***, iban=***\n")


def test_nonsense_in_our_headers_is_not_believed() -> None:
    """An attempt that is no number of 1 or more counts as the first, and no time as none."""
    for nonsense in (0, -1, True, "3", None, 2.5):
        assert attempt_number({"mqkit-attempt": nonsense}) == 1
    for nonsense in (-1, True, "3", None, 2.5):
        assert elapsed_seconds({"mqkit-elapsed": nonsense}) == 0
    assert first_published_to({"mqkit-exchange": 5}, "x", "k") == ("x", "k")


class OddName(type):
    """A class that does not tell its name, while it is asked to be so."""

    is_odd = False

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__qualname__", "__module__") and OddName.is_odd:
            raise RuntimeError
        return super().__getattribute__(name)


class Nameless(Exception, metaclass=OddName):  # noqa: N818
    """An error of such a class."""


class Text(str):
    """A text that fails where it is cut or encoded."""

    __slots__ = ()

    def encode(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError

    def __getitem__(self, _: Any) -> NoReturn:
        raise RuntimeError


class Silent(Exception):  # noqa: N818
    """An error whose text is whatever `told` gives."""

    def __init__(self, told: Any) -> None:
        super().__init__()
        self.told = told

    def __str__(self) -> Any:
        return self.told() if callable(self.told) else self.told

    __repr__ = __str__


def leaves() -> NoReturn:
    raise SystemExit


def looped() -> BaseException:
    """An error that is its own cause."""
    error = ValueError("round")
    error.__cause__ = error
    return error


def deep() -> BaseException:
    """Groups within each other."""
    error: Exception = ValueError("inmost")
    for _ in range(3_000):
        error = ExceptionGroup("group", [error])
    return error


def with_odd_position() -> BaseException:
    """An error of syntax at a place that is none."""
    error = SyntaxError("bad")
    error.text, error.lineno, error.offset = 7, "one", object()  # type: ignore[assignment]
    error.filename = b"\xff"  # type: ignore[assignment]
    return error


@pytest.mark.parametrize(
    "error",
    [
        Silent(leaves),
        Silent(5),
        Silent(None),
        Silent(Text("x" * 9_000)),
        Silent("\ud800" * 9_000),
        Silent("\0\x1b[31m" * 9_000),
        Silent("x" * 5_000_000),
        Nameless("x"),
        looped(),
        deep(),
        with_odd_position(),
        ExceptionGroup("many", [Silent(leaves) for _ in range(1_000)]),
        KeyboardInterrupt(),
    ],
    ids=range(13),
)
def test_a_dead_letter_can_be_written_whatever_the_error_is(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its texts are cut, or replaced where the error cannot tell them."""
    # Not longer than this: other tests look at all classes that there are.
    monkeypatch.setattr(OddName, "is_odd", True)
    error.__notes__ = 5  # type: ignore[assignment]
    copy = dead_letter_copy(delivery(), DeadLetter(DeathReason.REJECTED, error), "s", "h", NOW)
    headers = copy.properties.headers
    for name in (Header.ERROR_TYPE, Header.ERROR_MESSAGE, Header.ERROR_TRACEBACK):
        assert type(headers[name]) is str
    assert (table_size(headers, MAX_HEADERS) or 0) < 8_000


def test_names_of_any_length_are_cut() -> None:
    """Of a handler, of a service: nobody limits them, and all must fit into a frame."""
    outcome = DeadLetter(DeathReason.REJECTED, raised("x"))
    copy = dead_letter_copy(delivery(), outcome, "s" * 70_000, "h" * 70_000, NOW)
    assert (table_size(copy.properties.headers, MAX_HEADERS) or 0) < 8_000


def excess(message: Message, room: int) -> HeadersTooLargeError | None:
    """What a connection with so much room for headers says of the message."""
    size = table_size(message.properties.headers, MAX_HEADERS) or 0
    return HeadersTooLargeError("too large", size=size, limit=room) if size > room else None


@pytest.mark.parametrize(
    ("theirs", "room", "kept"),
    [
        ({"tenant": "t"}, 4_000, {"tenant"}),
        ({"tenant": "t", "large": "x" * 3_000}, 4_000, {"tenant", "large"}),
        ({"a": "x" * 900, "b": "y" * 2_000, "c": "z" * 800}, 3_000, {"a", "c"}),
        ({"a": "x" * 9_000}, 4_000, set()),
        ({}, 900, set()),
    ],
)
def test_what_does_not_fit_a_frame_makes_room_in_order(
    theirs: dict[str, Any], room: int, kept: set[str]
) -> None:
    """The account of the failure goes first, then the application's largest header."""
    outcome = DeadLetter(DeathReason.REJECTED, raised("e" * 5_000))
    copy = dead_letter_copy(delivery(**theirs), outcome, "s", "h", NOW)
    for _ in range(20):
        if (error := excess(copy, room)) is None:
            break
        copy = fitted(copy, error)
    assert excess(copy, room) is None
    headers = copy.properties.headers
    assert {name for name in headers if not name.startswith("mqkit-")} == kept
    assert all(headers[name] == theirs[name] for name in kept)
    assert headers["mqkit-reason"] == "rejected"


def test_headers_that_cannot_be_encoded_go_one_by_one() -> None:
    """The others of the application stay; nothing of mqkit's goes."""
    odd = {"big": 2**70, "text": "\ud800", "kind": object(), "fine": 7, "deep": [{"a": {1, 2}}]}
    copy = fitted(retry_copy(delivery(**odd), RETRY, "", "q", NOW), InvalidMessageError("no"))
    assert {n for n in copy.properties.headers if not n.startswith("mqkit-")} == {"fine"}
    assert attempt_number(copy.properties.headers) == 2


def test_a_copy_that_nothing_helps_ends_as_an_error() -> None:
    """All headers go, then all properties but the id; what is refused then, is refused."""
    refused = InvalidMessageError("no")
    copy = retry_copy(delivery(tenant="t"), RETRY, "", "q", NOW)
    for _ in range(2):
        copy = fitted(copy, refused)
    with pytest.raises(InvalidMessageError, match="no"):
        fitted(copy, refused)
    assert "tenant" not in copy.properties.headers
    assert copy.properties.correlation_id is None
    assert copy.properties.message_id == "m"


def test_a_copy_carries_what_is_left_of_its_time_to_live() -> None:
    """A retry in a header, which the ladder leaves alone; one for a partition as the property."""
    retry = retry_copy(delivery(), RETRY, "", "q", NOW, time_to_live=1.5)
    assert retry.properties.headers["mqkit-time-to-live"] == 1500
    assert retry.properties.expiration is None
    forward = forward_copy(delivery(**retry.properties.headers), "", "q.1", time_to_live=1.2)
    assert forward.properties.expiration == 1.2
    assert "mqkit-time-to-live" not in forward.properties.headers


def test_a_dead_letter_names_the_place_in_the_code() -> None:
    """Without secrets and within its bound; a failure in no code of one's own names none."""
    secret = Masker([re.compile("test_copies")])
    outcome = DeadLetter(DeathReason.ATTEMPTS_EXHAUSTED, raised("x"))
    place = "mqkit-error-place"
    copy = dead_letter_copy(delivery(), outcome, "s", "h", NOW, masker=secret)
    assert str(copy.properties.headers[place]).startswith("tests/unit/consuming/***.py:")
    assert str(copy.properties.headers[place]).endswith(" in fail")
    nowhere = DeadLetter(DeathReason.UNDECODABLE, ValueError())
    again = dead_letter_copy(delivery(**{place: "before.py:1 in f"}), nowhere, "s", "h", NOW)
    assert place not in again.properties.headers
