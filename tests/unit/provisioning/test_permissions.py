"""The least permissions of a service, as regular expressions."""

from __future__ import annotations

import re

from mqkit import Exchange, Queue
from mqkit.provisioning.permissions import expression, permissions_of
from tests.unit.provisioning.support import service
from tests.unit.provisioning.test_compare import ODD


def test_names_match_themselves_alone() -> None:
    """Also those with characters that mean something in an expression."""
    configure, write, read = permissions_of(service(Queue(ODD))).expressions
    for each in (configure, write, read):
        assert re.search(each, ODD)
        assert not re.search(each, f"{ODD}x")
        assert not re.search(each, f"x{ODD}")
    assert not re.search(permissions_of(service(Queue("a.b"))).expressions[0], "aXb")


def test_each_of_the_three_has_what_its_methods_ask_for() -> None:
    """Declare, bind and publish, consume."""
    found = permissions_of(service(Queue("q"), publishes=[Exchange("posted")]))
    ladder, states = r"mqkit\.delay\.v1\..+", r"mqkit\.states\.v1"
    assert set(found.configure) == {"payments", "posted", "q", r"q\.dead", ladder, states}
    assert set(found.write) == {"posted", "q", ladder, states, r"amq\.default"}
    assert set(found.read) == {"payments", "q", ladder}
    assert found.notes == ()


def test_a_service_that_declares_nothing_configures_nothing() -> None:
    """It sees what is there, publishes and consumes."""
    made = service(Queue("q", partitions=2), publishes=[])
    found = permissions_of(made, declares=False)
    assert found.expressions[0] == "^$"
    assert set(found.read) == {"payments", "q", r"q\.[0-9]+"}


def test_what_is_not_known_is_said() -> None:
    """A service that does not say what it publishes to may need more."""
    assert "Service(publishes=[...])" in permissions_of(service(Queue("q"))).notes[0]


def test_no_pattern_matches_no_name() -> None:
    """An empty expression would match all of them."""
    assert expression([]) == "^$"
