"""Pages that look again by themselves: in a browser, whose clock the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page, expect

from mqkit.console.rendering.templates import REFRESH
from tests.console.serving import TOKEN, console

AWAY = "amqp://guest:guest@127.0.0.1:1/"

MOMENT = (REFRESH + 1) * 1_000
"""Milliseconds after which a page has looked again."""


@asynccontextmanager
async def queues(browser: Browser, log: Path) -> AsyncIterator[Page]:
    """The page of queues, on which time stands still."""
    with console(AWAY, log) as one:
        async with one.window(browser) as (page, complaints):
            await page.clock.install()
            await page.goto("/queues")
            yield page
            assert complaints.said == []


async def looks(page: Page) -> None:
    """Let the page look again."""
    async with page.expect_response(lambda answer: answer.url == page.url):
        await page.clock.run_for(MOMENT)


async def test_a_page_looks_again_and_leaves_the_focus_where_it_is(
    browser: Browser, tmp_path: Path
) -> None:
    """What has it is in the new page, too; what was there before is gone."""
    async with queues(browser, tmp_path / "log") as page:
        await page.evaluate("document.querySelector('#live').append('of the page before')")
        button = page.get_by_role("button", name="Show", exact=True)
        await button.focus()
        await looks(page)
        await expect(page.get_by_text("of the page before")).to_have_count(0)
        await expect(button).to_be_focused()
        await looks(page)


async def test_a_page_that_is_paused_stands_still(browser: Browser, tmp_path: Path) -> None:
    """Also after it is loaded anew, until it is to go on."""
    async with queues(browser, tmp_path / "log") as page:
        asked: list[str] = []
        await page.get_by_role("button", name="Pause").click()
        await page.reload()
        page.on("request", lambda it: asked.append(it.url) if it.resource_type == "fetch" else None)
        await page.clock.run_for(10 * MOMENT)
        await expect(page.get_by_text("This page stands still.")).to_be_visible()
        assert asked == []
        await page.get_by_role("button", name="Go on").click()
        await looks(page)


async def test_what_is_typed_is_not_taken_away(browser: Browser, tmp_path: Path) -> None:
    """It waits while something is typed, with the focus or without, and says so."""
    async with queues(browser, tmp_path / "log") as page:
        field = page.get_by_label("Name")
        await field.fill("led")
        await field.blur()
        await page.clock.run_for(MOMENT)
        await expect(page.get_by_text("This page waits while")).to_be_visible()
        await expect(field).to_have_value("led")
        await field.fill("")
        await field.blur()
        await looks(page)


async def test_the_end_of_a_session_leads_to_the_login(browser: Browser, tmp_path: Path) -> None:
    """A page that is left open shows nothing that is old without end."""
    async with queues(browser, tmp_path / "log") as page:
        await page.context.clear_cookies()
        await page.clock.run_for(MOMENT)
        await page.wait_for_url("**/login?next=%2Fqueues")


async def test_without_scripts_a_link_looks_again(browser: Browser, tmp_path: Path) -> None:
    """And nothing says that the page does so by itself."""
    with console(AWAY, tmp_path / "log") as one:
        context = await browser.new_context(base_url=one.origin, java_script_enabled=False)
        async with context:
            page = await context.new_page()
            await page.goto("/login?next=/queues")
            await page.get_by_label("Token").fill(TOKEN)
            await page.get_by_role("button", name="Log in").click()
            await expect(page.get_by_text("looks again every")).to_be_hidden()
            await page.get_by_role("link", name="Look again").click()
            await expect(page.get_by_role("heading", name="Queues", level=1)).to_be_visible()
