"""What finds fault with the console's pages finds it in pages that are known to be wrong."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.console.accessibility import findings, overflowing, tab_to
from tests.console.browser import NARROW, looking

pytestmark = pytest.mark.long

HEAD = "<!doctype html><html lang=en><head><title>A page</title></head><body><main><h1>A page</h1>"

PAGES = {
    "/good": f"{HEAD}<label>Name <input></label> <a href=/bad>More</a></main></body></html>",
    "/bad": (
        f"{HEAD}<input><p style='color:#ccc;background:#fff'>Pale</p></main>"
        "<div style='width:900px'>wide</div><div style='overflow-x:auto'><pre style='width:2000px'>"
        "it may</pre></div><style>input:focus{outline:none}</style><label>Bare <input></label>"
        "<script src=http://other.invalid/x.js></script><script>nothing.there()</script>"
    ),
}


class Pages(http.server.BaseHTTPRequestHandler):
    """Serves these pages."""

    def do_GET(self) -> None:
        """Answer a page; what is not there is an error of the server."""
        found = PAGES.get(self.path)
        self.send_response(200 if found else 500)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write((found or "it failed").encode())

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - its base names it
        """Say nothing."""


@pytest.fixture
def origin() -> Iterator[str]:
    """Where they are served."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_they_find_fault_with_a_bad_page(
    browser: Browser, axe_script: Path, origin: str
) -> None:
    """Names, contrast, width, focus, errors of scripts and other hosts, each one is seen"""
    async with looking(browser, origin, size=NARROW) as (page, complaints):
        await page.goto("/bad")
        found = "\n".join(await findings(page, axe_script))
        assert "label (critical)" in found
        assert "color-contrast (serious)" in found
        wide = await overflowing(page)
        assert [each for each in wide if "wide</div>" in each]
        assert not [each for each in wide if "it may" in each], "what scrolls by itself may"
        with pytest.raises(AssertionError, match="one does not see"):
            await tab_to(page, "Bare")
        said = "\n".join(complaints.said)
        assert "script: nothing is not defined" in said
        assert "it loads from another host: http://other.invalid/x.js" in said
        await page.goto("/missing")
        assert [each for each in complaints.said if each.startswith("500: ")]


async def test_they_find_none_with_a_good_page(
    browser: Browser, axe_script: Path, origin: str
) -> None:
    """And the keyboard reaches what is there, and says what is not"""
    async with looking(browser, origin, size=NARROW) as (page, complaints):
        # The browser asks for an icon by itself, which is not there.
        await page.route("**/favicon.ico", lambda route: route.abort())
        await page.goto("/good")
        assert await findings(page, axe_script) == []
        assert await overflowing(page) == []
        await tab_to(page, "Name")
        await tab_to(page, "More")
        with pytest.raises(AssertionError, match="'Less' cannot be reached"):
            await tab_to(page, "Less", most=3)
        await page.keyboard.press("Escape")
        assert [each for each in complaints.said if "favicon" not in each] == []
