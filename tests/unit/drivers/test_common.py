"""What the drivers share."""

from __future__ import annotations

import logging

from mqkit.drivers.common import product, quiet


def test_a_broker_is_named_by_what_it_tells_of_itself() -> None:
    """And what it does not tell is no reason to fail."""
    assert product({"product": "RabbitMQ", "version": "4.3.6"}) == "RabbitMQ 4.3.6"
    assert product({}) == "broker ?"


def test_a_client_library_s_log_is_kept_quiet_unless_the_application_chose() -> None:
    """A level that is set already stays."""
    chosen, other = logging.getLogger("test.common.chosen"), logging.getLogger("test.common.other")
    chosen.setLevel(logging.DEBUG)
    quiet(chosen.name, other.name, level=logging.WARNING)
    assert (chosen.level, other.level) == (logging.DEBUG, logging.WARNING)
