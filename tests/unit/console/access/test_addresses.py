"""Addresses of the console's own."""

from __future__ import annotations

import pytest

from mqkit.console.access.addresses import LONGEST, own_path
from tests.unit.console.samples import browser

OTHERS = (
    *("http://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example"),
    *("javascript:alert(1)", "", "queues", "/a\r\nset-cookie: x", "/" + "a" * LONGEST),
)


@pytest.mark.parametrize("there", OTHERS)
def test_what_a_browser_would_take_for_another_address_is_none(there: str) -> None:
    """The first page stands in its place."""
    assert own_path(there) == "/"


def test_paths_are_the_consoles_own() -> None:
    """With whatever is in their queries."""
    for there in ("/", "/queues", "/queues?q=//evil.example&page=2"):
        assert own_path(there) == there


@pytest.mark.parametrize("path", ["//evil.example/", "//evil.example/%0aa", "//evil.example?a=1"])
async def test_nobody_is_led_on_to_another_host(path: str) -> None:
    """By a path that a browser takes for a host, asked for from here or from another site."""
    for site in ("none", "cross-site"):
        async with browser(logged_in=False) as one:
            url = f"http://127.0.0.1:8472{path}"
            answer = await one.http.get(url, headers={"sec-fetch-site": site})
        where = answer.text + answer.headers.get("location", "")
        assert "evil" not in where
