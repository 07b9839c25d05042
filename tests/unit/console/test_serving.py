"""Addresses of the console."""

from __future__ import annotations

import socket

import pytest

from mqkit.console.serving import ConsoleError, address, listen


@pytest.mark.parametrize(
    ("host", "there"),
    [
        ("127.0.0.1", "http://127.0.0.1:8472"),
        ("0.0.0.0", "http://127.0.0.1:8472"),  # noqa: S104 - it is only written
        ("::", "http://127.0.0.1:8472"),
        ("::1", "http://[::1]:8472"),
        ("console.example", "http://console.example:8472"),
    ],
)
def test_the_address_is_one_that_a_browser_of_this_machine_reaches(host: str, there: str) -> None:
    """Also where it listens on all of the machine's."""
    assert address(host, 8472) == there


@pytest.mark.parametrize("host", ["127.0.0.1", "no such host", "x" * 300])
def test_what_cannot_be_listened_on_is_said(host: str) -> None:
    """A port that is taken, a name that is none."""
    why = r"cannot listen on .* --listen names another port"
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConsoleError, match=why),
    ):
        listen(host, taken.getsockname()[1])
