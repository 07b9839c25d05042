"""What is read of a message in a dead letter queue."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.dead_letters.messages.letters import MAX_HISTORY, read
from mqkit.dead_letters.messages.view import detail, summary
from mqkit.logging.masking import DEFAULT
from mqkit.message import Header
from tests.unit.dead_letters.samples import NOW, QUEUE, failed, incoming, letter, named, raised

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.just(UTC))
    | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)

NAMES = [value for name, value in vars(Header).items() if name.isupper()] + ["x-death", "tenant"]


def test_a_dead_letter_tells_why_it_failed_and_where() -> None:
    """Error, place in the code, handler, attempts and origin are those of the failure."""
    found = letter()
    assert (found.error_type, found.error_message) == ("ValueError", "no amount")
    assert found.place is not None
    assert found.place.endswith("in fail")
    assert "tests/unit/dead_letters/samples.py:" in found.place
    assert (found.handler, found.service) == ("shop.ledger.post", "ledger")
    assert (found.exchange, found.routing_key) == ("payments", "order.accepted")
    assert (found.attempts, found.last_failure, found.first_failure) == (3, NOW, NOW)
    assert (found.replays, found.history) == (0, ())


def test_alike_failures_are_one_group() -> None:
    """The type and the place of an error make a group, not its text or its message."""

    def fail(text: str) -> BaseException:
        return raised(ValueError(text))

    first, second = (letter(failed(fail(text), text.encode())) for text in ("a", "b"))
    other = letter(failed(raised(KeyError("a"))))
    assert first.group == second.group != other.group
    assert first.ref != second.ref


def test_what_the_broker_dead_lettered_says_so() -> None:
    """Its x-death has the reason, the time, and where it was first published."""
    death = {
        "reason": "delivery_limit",
        "queue": QUEUE,
        "exchange": "payments",
        "routing-keys": ["order.accepted"],
        "time": NOW,
        "count": 1,
    }
    found = read(named({"x-death": [death]}), queue=QUEUE)
    assert found.reason == "broker: delivery_limit"
    assert (found.exchange, found.routing_key) == ("payments", "order.accepted")
    assert found.last_failure == NOW


def test_a_foreign_message_is_read_as_unknown() -> None:
    """Without a header that tells, it came to its queue by the default exchange."""
    found = read(incoming(b"\xff", None), queue=QUEUE)
    assert (found.reason, found.message_id, found.handler) == ("unknown", None, None)
    assert (found.exchange, found.routing_key) == ("", QUEUE)
    assert len(found.ref) == 12


@pytest.mark.parametrize(
    "headers",
    [
        {Header.REPLAYS: -1},
        {Header.REPLAYS: 10**30},
        {Header.REPLAYS: True},
        {Header.REPLAYS: "9"},
        {Header.HISTORY: "one"},
        {Header.HISTORY: {"a": 1}},
        {Header.LAST_FAILURE: "yesterday"},
        {Header.LAST_FAILURE: "2026-01-01T00:00"},
        {Header.LAST_FAILURE: "0001-01-01T00:00+14:00"},
        {Header.LAST_FAILURE: b"\xff"},
        {Header.REASON: 5, Header.ERROR_TYPE: b"\xff", Header.ERROR_PLACE: ["x"]},
        {Header.EXCHANGE: 5, Header.ROUTING_KEY: "k"},
        {"x-death": "no"},
        {"x-death": [5]},
        {"x-death": [{"routing-keys": [], "exchange": 5}]},
    ],
)
def test_nonsense_in_a_header_is_as_if_it_were_not_there(headers: dict[str, Any]) -> None:
    """Counts, times and texts that are none are not believed."""
    found = read(named(headers), queue=QUEUE)
    assert (found.replays, found.history, found.last_failure) == (0, (), None)
    assert (found.exchange, found.routing_key) == ("", QUEUE)
    assert found.error_type is None


def test_the_history_is_bounded() -> None:
    """Of a long one the latest entries count, and of a long entry its beginning."""
    found = read(named({Header.HISTORY: ["x" * 9_999, 5, *map(str, range(50))]}), queue=QUEUE)
    assert found.history == tuple(map(str, range(40, 50)))
    assert len(found.history) == MAX_HISTORY
    (only,) = read(named({Header.HISTORY: ["x" * 9_999]}), queue=QUEUE).history
    assert len(only) == 400


@given(
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6),
    st.binary(max_size=50),
    st.none() | st.text(max_size=20),
)
def test_whatever_is_there_is_read_and_shown(
    headers: dict[str, Any], body: bytes, message_id: str | None
) -> None:
    """No header, body or id makes reading or showing fail."""
    found = read(incoming(body, message_id, **headers), queue=QUEUE, has_body=True)
    summary(found, DEFAULT)
    detail(found, DEFAULT)
    assert len(found.group) == 8
    assert isinstance(found.failure(), str)
    if found.last_failure is not None:
        assert isinstance(found.last_failure, datetime)
        assert found.last_failure.tzinfo is not None
