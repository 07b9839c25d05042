"""When a console looks at the system that it shows."""

from __future__ import annotations

import pytest

from tests.unit.console.samples import Watch, browser


async def looks(monkeypatch: pytest.MonkeyPatch, path: str, *, logged_in: bool) -> int:
    """Return how often it looks when a path is asked for."""
    count = 0

    async def fresh(self: Watch) -> None:
        nonlocal count
        count += 1

    monkeypatch.setattr(Watch, "fresh", fresh)
    async with browser(logged_in=logged_in) as one:
        await one.get(path)
    return count


@pytest.mark.parametrize("path", ["/", "/queues", "/handlers", "/topology", "/dead-letters"])
async def test_it_looks_before_a_page_is_made(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """So that a page is not older than it says."""
    assert await looks(monkeypatch, path, logged_in=True) == 1


@pytest.mark.parametrize(
    ("path", "logged_in"),
    [("/", False), ("/queues", False), ("/login", False), ("/static/console.css", True)],
)
async def test_who_is_not_logged_in_makes_it_do_nothing(
    monkeypatch: pytest.MonkeyPatch, path: str, logged_in: bool
) -> None:
    """Nor does a style sheet."""
    assert await looks(monkeypatch, path, logged_in=logged_in) == 0
