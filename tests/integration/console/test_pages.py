"""Every page that links lead to: for who cannot see it, on a phone, in light and dark."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page

from tests.console.accessibility import cut_tables, findings, overflowing
from tests.console.browser import LOOKS, NARROW, looking
from tests.console.crawling import crawl
from tests.integration.console.conftest import Shop

pytestmark = [pytest.mark.long, pytest.mark.in_turn, pytest.mark.timeout(600)]

EXPECTED = {
    "/",
    "/dead-letters",
    "/dead-letters/audit",
    "/dead-letters/group",
    "/dead-letters/job",
    "/dead-letters/letter",
    "/dead-letters/queue",
    "/handlers",
    "/handlers/handler",
    "/message",
    "/outbox",
    "/partitions",
    "/processes",
    "/queues",
    "/sagas",
    "/sagas/saga",
    "/topology",
}
"""Pages that must be found by following links."""


async def make_history(shop: Shop, page: Page) -> None:
    """Let there be something of all that pages show."""
    shop.break_("broken")
    await shop.order("post", "order-1", "order-2")
    await shop.order("place", "order-3")
    await shop.order("stock", *(f"order-{number}" for number in range(20)))
    await shop.has("shop.post.dead", 2)
    shop.break_("down")
    await shop.order("place", "order-4")
    await page.get_by_role("link", name="services.charge is paused").wait_for()
    await page.goto("/dead-letters/queue?queue=shop.post")
    await page.get_by_role("link", name="ValueError").click()
    await page.get_by_role("button", name="Dry run of a replay").click()
    await page.get_by_text("It would publish 2 messages").wait_for()


async def test_every_page_is_accessible_in_each_look(
    shop: Shop, browser: Browser, axe_script: Path
) -> None:
    """Axe has no serious finding, nothing is cut or scrolls sideways, no browser complains"""
    async with shop.console.window(browser) as (page, _):
        await make_history(shop, page)
        pages = await crawl(page, "/")
    assert {path for path, *_ in pages} >= EXPECTED
    wrong: list[str] = []
    for size, scheme in LOOKS:
        async with shop.console.window(browser, size=size, scheme=scheme) as (page, complaints):
            for address in pages.values():
                await page.goto(address)
                # A queue that is still gone through is a page that is soon replaced by another.
                await page.get_by_text("Going through the queue").wait_for(state="detached")
                look = f"{address} {scheme} {size['width']}"
                wrong += [f"{look}: {each}" for each in await findings(page, axe_script)]
                wrong += [f"{look}: {each}" for each in await overflowing(page)]
                wrong += [f"{look}: {each}" for each in await cut_tables(page)]
                assert "hunter2" not in await page.content(), look
            wrong += complaints.said
    assert wrong == [], "\n".join(wrong)


async def test_pages_without_a_session_are_accessible(
    shop: Shop, browser: Browser, axe_script: Path
) -> None:
    """The login, and what is said of a page that is none"""
    for size, scheme in LOOKS:
        async with looking(browser, shop.console.origin, size=size, scheme=scheme) as (page, _):
            await page.goto("/queues?q=x")
            assert urlsplit(page.url).path == "/login"
            assert await findings(page, axe_script) == []
            assert await overflowing(page) == []
        async with shop.console.window(browser, size=size, scheme=scheme) as (page, _):
            await page.goto("/nowhere")
            assert await findings(page, axe_script) == []
            assert await overflowing(page) == []


async def test_a_theme_that_is_chosen_holds_for_pictures_too(shop: Shop, browser: Browser) -> None:
    """On a light system a page that was made dark has no light picture in it"""
    async with shop.console.window(browser, size=NARROW) as (page, complaints):
        await page.goto("/topology")
        paper = "getComputedStyle(document.querySelector('svg.mq-picture')).backgroundColor"
        light = await page.evaluate(paper)
        await page.get_by_role("button", name="Dark").click()
        await page.wait_for_url(re.compile("/topology"))
        dark = await page.evaluate(paper)
        assert (light, dark) == ("rgb(255, 255, 255)", "rgb(20, 24, 29)")
        assert complaints.said == []
