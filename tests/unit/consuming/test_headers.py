"""The rule of trust for mqkit's own headers."""

from __future__ import annotations

import logging

import pytest

from mqkit.broker.delays import DELIVER, level_name
from mqkit.consuming.headers import drop_unbelievable
from mqkit.drivers.base import Incoming
from mqkit.message import HeaderValue, Properties


def left(exchange: str, routing_key: str, queue: str, *names: str) -> set[str]:
    """The names of the headers that are left of these."""
    headers: dict[str, HeaderValue] = dict.fromkeys(names, "4711")
    incoming = Incoming(1, False, exchange, routing_key, Properties(headers=headers), b"")
    drop_unbelievable(incoming, queue)
    return set(incoming.properties.headers)


ALL = ("mqkit-publish", "mqkit-attempt", "mqkit-elapsed", "mqkit-reason", "mqkit-new", "tenant")


@pytest.mark.parametrize(
    ("exchange", "routing_key", "queue", "names"),
    [
        (DELIVER, "0.0.q", "q", {*ALL} - {"mqkit-publish"}),
        (level_name(3), "0.0.q", "q", {*ALL} - {"mqkit-publish"}),
        ("mqkit.delay.v10.deliver", "0.0.q", "q", {"tenant"}),
        ("orders", "new", "q", {"tenant"}),
        ("", "q", "q", {"tenant"}),
        ("", "q.dead", "q.dead", {"mqkit-reason", "mqkit-new", "tenant"}),
        ("orders", "q.dead", "q.dead", {"tenant"}),
        ("", "q.dead", "q", {"tenant"}),
    ],
)
def test_a_header_is_believed_by_the_way_it_came(
    exchange: str, routing_key: str, queue: str, names: set[str]
) -> None:
    """All but the publish number from the ladder; what tells of a failure in a dead letter."""
    assert left(exchange, routing_key, queue, *ALL) == names


def test_what_is_dropped_is_logged_without_its_value(caplog: pytest.LogCaptureFixture) -> None:
    """The log says how many were dropped of which message, and nothing of what they held."""
    caplog.set_level(logging.DEBUG, "mqkit.consuming.headers")
    left("orders", "new", "q", *ALL)
    assert "4 are dropped" in caplog.text
    assert "4711" not in caplog.text


def test_the_number_of_a_publish_alone_is_not_worth_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every message from mqkit has one; it goes, and nothing is logged."""
    caplog.set_level(logging.DEBUG, "mqkit.consuming.headers")
    assert left("orders", "new", "q", "mqkit-publish", "tenant") == {"tenant"}
    assert caplog.text == ""


def test_names_that_are_no_utf_8_are_the_applications() -> None:
    """They stay, but for those that begin as mqkit's do."""
    assert left("x", "k", "q", "\udcff", "mqkit-\udcff", "\udcffmqkit-") == {
        "\udcff",
        "\udcffmqkit-",
    }
