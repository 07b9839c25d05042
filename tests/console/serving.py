"""Runs `mqkit console` as a process of its own, and lets a browser in."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from playwright.async_api import Browser, Page, ViewportSize

from tests.console.browser import WIDE, Complaints, Scheme, looking
from tests.forked import Command

TOKEN = "a token for tests only"

_LINK = re.compile(r"(?P<origin>http://[^/\s]+)/login\?code=\S+")

START = 30.0
"""Seconds for it to start."""


@dataclass(frozen=True, slots=True)
class Console:
    """A console that runs."""

    origin: str
    link: str
    """Opens it once, without the token."""
    log: Path

    @contextlib.asynccontextmanager
    async def window(
        self, browser: Browser, *, size: ViewportSize = WIDE, scheme: Scheme = "light"
    ) -> AsyncIterator[tuple[Page, Complaints]]:
        """Open a window of a person who has given the token."""
        async with looking(browser, self.origin, size=size, scheme=scheme) as (page, complaints):
            await page.goto("/login")
            await page.get_by_label("Token").fill(TOKEN)
            await page.get_by_role("button", name="Log in").click()
            await page.get_by_role("heading", name="Overview", level=1).wait_for()
            try:
                yield page, complaints
            except Exception as error:
                picture = self.log.with_suffix(".png")
                await page.screenshot(path=picture, full_page=True)
                error.add_note(f"{page.url} as it was then: {picture}")
                raise


@contextlib.contextmanager
def console(
    url: str,
    log: Path,
    *options: str,
    stores: Sequence[str] = (),
    services: Sequence[str] = (),
    allow_changes: bool = False,
    environment: Mapping[str, str] = {},
) -> Iterator[Console]:
    """Run one for the block, on a free port of this machine."""
    arguments = ["console", "--listen", "0", "--who", "ann", *options]
    arguments += [word for each in stores for word in ("--store", each)]
    arguments += [word for each in services for word in ("--service", each)]
    arguments += ["--allow-changes"] * allow_changes
    variables = {"MQKIT_URL": url, "MQKIT_CONSOLE_TOKEN": TOKEN, **environment}
    with log.open("wb") as out:
        process = Command(arguments, env={**os.environ, **variables}, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + START
        while (found := _LINK.search(log.read_text())) is None:
            assert process.poll() is None, f"the console has ended:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"the console does not start:\n{log.read_text()}"
            time.sleep(0.05)
        yield Console(found["origin"], found[0], log)
    finally:
        process.terminate()
        process.wait()
