"""Takes pictures of each page of the console, over the payment services with faults.

    python -m tests.console.screenshots DIR

The services run on the embedded broker and SQLite. While orders come, the provider that risk asks
is away for a while, and two services are killed; pictures are taken then, of what runs, and at the
end of every page that links lead to. Each is taken on a laptop and on a phone, in light and dark.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from playwright.async_api import Browser, Page
from rich.console import Console as Terminal

from handlers.demo.folder import fresh_folder
from handlers.demo.plan import make_plan
from handlers.demo.run import ORDERS_DONE, REFUNDS_DONE, Demo, refunds_of
from handlers.demo.services import Services, databases_in, running_broker
from handlers.running.progress import Progress
from tests.console.accessibility import cut_tables
from tests.console.browser import LOOKS, browsing
from tests.console.crawling import Kind, crawl
from tests.console.serving import Console, console
from tests.support import eventually

MEANWHILE = ("/", "/queues", "/handlers", "/processes", "/partitions", "/outbox", "/sagas")
"""Pages that are of interest while orders come."""

FIRST, EACH_SECOND = 50, 4
"""Orders that are sent at once, and then each second."""

KILLED = ("ledger", "orders")


async def take(browser: Browser, shown: Console, pages: dict[str, str], folder: Path) -> None:
    """Take a picture of each page in each look; `pages` are addresses by their file's name."""
    for size, scheme in LOOKS:
        async with shown.window(browser, size=size, scheme=scheme) as (page, complaints):
            for name, address in pages.items():
                await page.goto(address)
                file = folder / f"{name}-{size['width']}-{scheme}.png"
                await page.screenshot(path=file, full_page=True)
                complaints.said += [f"{file.name}: {each}" for each in await cut_tables(page)]
            assert complaints.said == [], complaints.said


def named(kinds: dict[Kind, str], prefix: str = "") -> dict[str, str]:
    """Name files after the kinds of pages: 'queues', 'dead-letters-group'."""
    found: dict[str, str] = {}
    for (path, *asked), address in sorted(kinds.items()):
        name = re.sub(r"[^a-z]+", "-", path).strip("-") or "overview"
        more = "-".join(each for each in asked if each in ("archived", "what", "among", "state"))
        found.setdefault(prefix + "-".join(filter(None, (name, more))), address)
    return found


class Trouble:
    """Lets things go wrong while orders come, and has pictures taken of that."""

    def __init__(
        self, services: Services, faults: Path, browser: Browser, shown: Console, out: Path
    ) -> None:
        self._services = services
        self._down = faults / "down"
        self._browser = browser
        self._shown = shown
        self._out = out
        self._turn = 0
        self._began_at, self._sent = time.monotonic(), FIRST

    def most_sent(self) -> int:
        """Say how many orders may be sent until now: a few each second, so that some come.

        While the first pictures are taken some are held back, for what goes wrong after them.
        """
        sent = self._sent + int((time.monotonic() - self._began_at) * EACH_SECOND)
        return sent if self._sent > FIRST else min(sent, 2 * FIRST)

    async def __call__(self, ended: int) -> None:
        """Do what is due once so many orders have ended."""
        if self._turn == 0 and ended >= FIRST:
            self._turn = 1
            await self._take("busy")
            self._down.touch()
            self._sent, self._began_at = self.most_sent() + 1, time.monotonic()
            await self._is_paused()
            await self._services.kill(KILLED[0], "meanwhile")
            await self._take("paused")
            self._down.unlink()
        elif self._turn == 1 and ended >= 3 * FIRST:
            self._turn = 2
            await self._services.kill(KILLED[1], "meanwhile")

    async def _take(self, moment: str) -> None:
        pages = named({(each,): each for each in MEANWHILE}, f"{moment}-")
        await take(self._browser, self._shown, pages, self._out)

    async def _is_paused(self) -> None:
        """Wait until the console says that a handler is paused."""
        async with self._shown.window(self._browser) as (page, _):
            await page.get_by_role("link", name="is paused").first.wait_for(timeout=60_000)


async def rehearse(page: Page) -> None:
    """Have a dry run made of the first group of dead letters, so that there is such a page."""
    await page.goto("/dead-letters/queue?queue=orders.place")
    await page.locator("tbody th a").first.click(timeout=60_000)
    await page.get_by_role("button", name="Dry run of a replay").click()
    await page.get_by_text("It would publish").wait_for(timeout=60_000)


async def settled(page: Page) -> bool:
    """Whether all services are seen to run again."""
    await page.goto("/processes")
    return await page.locator("tbody tr").count() >= 7


@contextlib.asynccontextmanager
async def payments(orders: int, out: Path, browser: Browser) -> AsyncIterator[Console]:
    """Run the payment services until all orders have ended, and let them run on for the block."""
    terminal = Terminal(stderr=True)
    plan = make_plan(seed=1993, orders=orders, accounts=50)
    totals = {ORDERS_DONE: orders, REFUNDS_DONE: refunds_of(plan)}
    place, faults = out / "run", out / "faults"
    faults.mkdir(exist_ok=True)
    (faults / "down").unlink(missing_ok=True)
    os.environ["MQKIT_TEST_FAULTS"] = str(faults)  # of the services, which inherit it
    with fresh_folder(place), Progress(totals, terminal) as progress:
        async with running_broker(place, 0, progress.tell) as url:
            modules = {"risk": "tests.console.faulty_risk"}
            services = Services(url, databases_in(place), place, progress.tell, modules)
            with console(
                url,
                place / "console.log",
                stores=list(services.databases.values()),
                services=[f"{each}:service" for each in services.modules.values()],
                allow_changes=True,
                environment=services.environment,
            ) as shown:
                trouble = Trouble(services, faults, browser, shown, out)
                demo = Demo(
                    plan,
                    url,
                    services,
                    trouble=trouble,
                    timeout=120,
                    progress=progress,
                    most_sent=trouble.most_sent,
                )
                report = await demo.run()
                assert report.adds_up
                await services.start()
                try:
                    yield shown
                finally:
                    await services.stop()


async def run(out: Path, orders: int) -> None:
    """Take all pictures."""
    out.mkdir(parents=True, exist_ok=True)
    async with browsing() as browser, payments(orders, out, browser) as shown:
        async with shown.window(browser) as (page, _):
            await eventually(lambda: settled(page), 60, "the services")
            await rehearse(page)
            found = await crawl(
                page,
                "/",
                "/sagas/saga?name=payment&id=order-000007",
                "/message?id=order-000007",
                "/topology?service=ledger&view=live",
                "/topology?service=orders&view=declared",
            )
        await take(browser, shown, named(found), out)
    sys.stdout.write(f"{len(list(out.glob('*.png')))} pictures are in {out}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--orders", type=int, default=400)
    given = parser.parse_args(arguments)
    asyncio.run(run(given.folder, given.orders))


if __name__ == "__main__":
    main()
