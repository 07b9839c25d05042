"""Finds a page of each kind by following links, as a person would."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from playwright.async_api import Page

MOST = 60
"""Pages that are found at most."""

Kind = tuple[str, ...]


def kind_of(address: str) -> Kind:
    """Say what kind of page an address is of: its path, and what it is asked for."""
    parts = urlsplit(address)
    return (parts.path, *sorted(name for name, _ in parse_qsl(parts.query) if name != "page"))


async def crawl(page: Page, *begin: str) -> dict[Kind, str]:
    """Follow links from these pages on; returns an address of each kind of page."""
    found = {kind_of(each): each for each in begin}
    waiting = list(begin)
    while waiting and len(found) < MOST:
        answer = await page.goto(waiting.pop(0))
        assert answer is not None
        assert answer.ok, f"{answer.status} for {answer.url}"
        # Such a page loads itself anew when the queue is gone through, and would abort the next.
        await page.get_by_text("Going through the queue").wait_for(state="detached")
        await page.wait_for_load_state()
        links = await page.locator("a[href^='/']").evaluate_all(
            "all => all.map(each => each.getAttribute('href'))"
        )
        for link in links:
            if (kind := kind_of(link)) not in found:
                found[kind] = link
                waiting.append(link)
    return found
