"""Drives the distribution's Chromium by Playwright, and notes what a page complains about.

`MQKIT_TEST_CHROMIUM` names another one. Where there is none, `deploy/install-chromium.sh` is run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    Response,
    ViewportSize,
    async_playwright,
)

from tests.support import ROOT

LAUNCH_TIMEOUT = 100_000.0
"""Milliseconds for a Chromium to start on a machine that is busy with other tests."""

NAMES = ("chromium", "chromium-browser", "google-chrome")
"""What distributions call it; the first of them that is there is taken."""

WIDE: ViewportSize = {"width": 1280, "height": 900}
NARROW: ViewportSize = {"width": 390, "height": 844}
"""A laptop's window, and a phone's."""

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")

LOOKS: tuple[tuple[ViewportSize, Scheme], ...] = tuple(
    (size, scheme) for size in (WIDE, NARROW) for scheme in SCHEMES
)
"""The ways in which each page is looked at."""

TIMEOUT = 20.0
"""Seconds for what is waited for on a page."""


class NoChromiumError(Exception):
    """There is no Chromium, and none could be installed."""


def chromium(environment: Mapping[str, str] = os.environ) -> str:
    """Return the path of a Chromium, which is installed where there is none.

    :raises NoChromiumError: it could not be installed; the message says what to do
    """
    if named := environment.get("MQKIT_TEST_CHROMIUM"):
        return named
    found = _found(NAMES)
    if found is None:
        install = ["/bin/sh", str(ROOT / "deploy" / "install-chromium.sh")]
        if subprocess.run(install, check=False).returncode:
            raise NoChromiumError("there is no Chromium: deploy/install-chromium.sh failed")
        found = _found(NAMES)
    if found is None:
        raise NoChromiumError(f"Chromium is installed, and none of {', '.join(NAMES)} is in PATH")
    return found


def _found(names: Iterable[str]) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


@contextlib.asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """Run a Chromium without a window for the block."""
    # The sandbox needs rights that a container's root has not; only our own pages are opened.
    arguments = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=arguments, timeout=LAUNCH_TIMEOUT
        )
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Complaints:
    """What a page's browser says is wrong: scripts, styles, refused contents, other hosts."""

    origin: str
    said: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Note what is wrong from now on."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.said.append(f"script: {error}"))
        page.on("request", self._request)
        page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        # A refusal by the content security policy is one of these, too.
        if message.type in ("error", "warning"):
            self.said.append(f"{message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.origin, "data:")):
            self.said.append(f"it loads from another host: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 500:
            self.said.append(f"{response.status}: {response.url}")


@contextlib.asynccontextmanager
async def looking(
    browser: Browser, origin: str, *, size: ViewportSize = WIDE, scheme: Scheme = "light"
) -> AsyncIterator[tuple[Page, Complaints]]:
    """Open a window of a person of its own, with no cookies, for the block.

    :param origin: of the pages that are to be opened: anything of another one is a complaint
    """
    context = await browser.new_context(
        viewport=size,
        color_scheme=scheme,
        reduced_motion="reduce",
        base_url=origin,
        locale="en-GB",
        timezone_id="UTC",
    )
    context.set_default_timeout(TIMEOUT * 1000)
    complaints = Complaints(origin)
    try:
        page = await context.new_page()
        complaints.watch(page)
        yield page, complaints
    finally:
        await context.close()
