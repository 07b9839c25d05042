"""What the tests of the console in a browser share: Chromium, and axe-core."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.console.accessibility import NoAxeError, axe
from tests.console.browser import NoChromiumError, browsing, chromium


@pytest.fixture(scope="session")
def _chromium() -> None:
    """Install it where there is none; never skipped in silence."""
    try:
        chromium()
    except NoChromiumError as error:
        pytest.fail(str(error), pytrace=False)


@pytest_asyncio.fixture
async def browser(_chromium: None) -> AsyncIterator[Browser]:
    """A Chromium of this test alone."""
    async with browsing() as started:
        yield started


@pytest.fixture(scope="session")
def axe_script(pytestconfig: pytest.Config) -> Path:
    """The script of axe-core, kept with pytest's cache."""
    assert pytestconfig.cache is not None
    try:
        return axe(Path(pytestconfig.cache.mkdir("axe-core")))
    except NoAxeError as error:
        pytest.fail(str(error), pytrace=False)
