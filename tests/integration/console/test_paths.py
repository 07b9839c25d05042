"""What a person does with the console, to the end; with the mouse, and without."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page

from tests.console.accessibility import tab_to
from tests.console.browser import NARROW
from tests.integration.console.conftest import Shop

pytestmark = [pytest.mark.long, pytest.mark.in_turn, pytest.mark.timeout(300)]

FAILED = ("order-1", "order-2", "order-3")


async def dead_letters(shop: Shop) -> None:
    """Let a bug make some, and mend it."""
    shop.break_("broken")
    await shop.order("post", *FAILED)
    await shop.has("shop.post.dead", len(FAILED))
    shop.mend("broken")


async def test_a_failing_group_is_found_understood_rehearsed_and_replayed(
    shop: Shop, browser: Browser
) -> None:
    """From the first page on, by what is written there; then the queue has no dead letters left"""
    await dead_letters(shop)
    async with shop.console.window(browser) as (page, complaints):
        await page.get_by_role("link", name="3 dead letters of shop.post").click()
        await page.get_by_role("link", name="ValueError").click()
        await page.get_by_text("tests/console/services.py:").first.wait_for()
        await page.get_by_text("no scales for order-").first.wait_for()
        await page.get_by_role("link", name="order-2").click()
        await page.get_by_role("heading", name="Traceback").wait_for()
        assert "hunter2" not in await page.content()
        await page.get_by_role("link", name="Those that failed alike").click()
        await page.get_by_role("button", name="Dry run of a replay").click()
        await page.get_by_text("It would publish 3 messages to shop.post again.").wait_for()
        await page.get_by_text("3 have a body that the handler takes, 0 not.").wait_for()
        await page.get_by_label("Why you replay them").fill("the scales are back")
        await page.get_by_role("button", name="Replay 3 dead letters").click()
        await page.get_by_text("3 dead letters were replayed.").wait_for()
        await page.get_by_text("None of them failed again").wait_for()
        await shop.has("shop.post.dead", 0)
        await page.get_by_role("link", name="What was done with the dead letters").click()
        await page.get_by_text("the scales are back").first.wait_for()
        assert complaints.said == []


async def test_the_same_with_the_keyboard_alone(shop: Shop, browser: Browser) -> None:
    """By Tab, Enter and what one types; one always sees where one is"""
    await dead_letters(shop)
    async with shop.console.window(browser) as (page, complaints):
        await enter(page, "3 dead letters of shop.post")
        await enter(page, "ValueError")
        await enter(page, "Dry run of a replay")
        await page.get_by_text("It would publish 3 messages to shop.post again.").wait_for()
        await tab_to(page, "Why you replay them")
        await page.keyboard.type("the scales are back")
        await enter(page, "Replay 3 dead letters")
        await page.get_by_text("3 dead letters were replayed.").wait_for()
        await shop.has("shop.post.dead", 0)
        assert complaints.said == []


async def enter(page: Page, name: str) -> None:
    """Go to a link or a button by Tab, and press Enter; returns once the next page is there."""
    await page.locator("a, button").filter(has_text=name).first.wait_for()
    await tab_to(page, name)
    async with page.expect_navigation():
        await page.keyboard.press("Enter")


async def test_an_order_is_followed_from_its_id_to_its_saga(shop: Shop, browser: Browser) -> None:
    """And from there to each message that it published, on a phone"""
    await shop.order("place", "order-17")
    async with shop.console.window(browser, size=NARROW) as (page, complaints):
        await page.get_by_label("Message or order id").fill("order-17")
        await page.get_by_role("button", name="Find").click()
        await page.get_by_role("link", name="Saga purchase order-17").click()
        await is_completed(page)
        assert "hunter2" not in await page.content()
        assert (await page.title()).startswith("Saga order-17 ")
        history = page.get_by_role("region", name="Each message that came to it, in order")
        await history.get_by_text("Paid").first.wait_for()
        async with page.expect_navigation():
            await history.locator("td a").first.click()
        await page.get_by_role("heading", name="Its way").wait_for()
        await page.locator("svg text", has_text="services.charge").first.wait_for()
        assert complaints.said == []


async def is_completed(page: Page) -> None:
    """Load a saga's page until the saga is completed."""
    done = page.get_by_text("completed", exact=True).first
    for _ in range(50):
        if await done.is_visible():
            return
        await page.reload()
    raise AssertionError(await page.content())


async def test_an_order_is_followed_with_the_keyboard_alone(shop: Shop, browser: Browser) -> None:
    """The box is on each page, and Enter in it finds"""
    await shop.order("place", "order-18")
    async with shop.console.window(browser) as (page, complaints):
        await page.goto("/queues")
        await tab_to(page, "Message or order id")
        await page.keyboard.type("order-18")
        async with page.expect_navigation():
            await page.keyboard.press("Enter")
        await enter(page, "Saga purchase order-18")
        await is_completed(page)
        assert complaints.said == []


async def test_a_handler_is_seen_to_pause_and_to_resume(shop: Shop, browser: Browser) -> None:
    """The page shows why it waits, and by itself that it goes on once the dependency is back"""
    shop.break_("down")
    await shop.order("place", "order-21")
    async with shop.console.window(browser) as (page, complaints):
        paused = page.get_by_role("link", name="charge is paused: 1 of the last")
        await paused.wait_for()  # the page looks again by itself
        await paused.click()
        await page.get_by_text("It is paused").wait_for()
        await page.get_by_text("BankDownError").first.wait_for()
        before = page.url
        shop.mend("down")
        await page.get_by_text("It is paused").wait_for(state="detached")
        await page.get_by_text("consuming").first.wait_for()
        assert page.url == before
        assert complaints.said == []


async def test_a_pause_is_seen_with_the_keyboard_alone(shop: Shop, browser: Browser) -> None:
    """What looks again by itself takes the keyboard from nobody"""
    shop.break_("down")
    await shop.order("place", "order-22")
    async with shop.console.window(browser) as (page, complaints):
        await enter(page, "Handlers")
        row = page.get_by_role("row").filter(has_text="BankDownError")
        await row.wait_for()
        name = (await row.get_by_role("link").first.inner_text()).strip()
        await tab_to(page, name)
        shop.mend("down")
        await page.get_by_text("BankDownError").first.wait_for(state="detached")
        focus = "document.activeElement.innerText.trim()"
        assert await page.evaluate(focus) == name, "the keyboard is where it was"
        await page.keyboard.press("Enter")
        await page.get_by_text("consuming").first.wait_for()
        assert complaints.said == []
