"""What the tests of the console in a browser share: Chromium, axe-core, and a shop to look at."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from mqkit import Outgoing
from mqkit.errors import ChannelClosedError
from tests.console.accessibility import NoAxeError, axe
from tests.console.browser import NoChromiumError, browsing, chromium
from tests.console.services import Order, orders
from tests.console.serving import Console, console
from tests.support import Client, ServiceProcess, connected, eventually, running

SERVICE = "tests.console.services:service"


@pytest.fixture(scope="session")
def _chromium() -> None:
    """Install it where there is none; never skipped in silence."""
    try:
        chromium(os.environ)
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


@dataclass
class Shop:
    """A shop that runs, on a broker of its own, and a console over it."""

    client: Client
    process: ServiceProcess
    console: Console
    faults: Path
    store: str

    async def order(self, key: str, *ids: str) -> None:
        """Publish orders."""
        messages = [
            Outgoing(orders, f"order.{key}", Order(order_id=each), message_id=each) for each in ids
        ]
        async for result in self.client.publisher.publish_many(messages):
            assert result.error is None

    def break_(self, fault: str) -> None:
        """Let something be wrong from now on."""
        (self.faults / fault).touch()

    def mend(self, fault: str) -> None:
        """Let it be well again."""
        (self.faults / fault).unlink()

    async def has(self, queue: str, count: int) -> None:
        """Wait until so many messages are ready in a queue."""

        async def are_there() -> bool:
            return await self.client.messages(queue) == count

        await eventually(are_there, 60, f"{count} messages in {queue}")


@pytest_asyncio.fixture
async def shop(mqkit_vhost: str, tmp_path: Path) -> AsyncIterator[Shop]:
    """One that is well, in a virtual host of its own."""
    url, store = mqkit_vhost, f"sqlite:///{tmp_path / 'shop.sqlite'}"
    faults = tmp_path / "faults"
    faults.mkdir()
    names = {"MQKIT_TEST_DATABASE": store, "MQKIT_TEST_FAULTS": str(faults)}
    with running(SERVICE, url, tmp_path / "shop.log", "--processes", "2", **names) as process:
        async with connected(url) as client:
            await eventually(lambda: _is_consumed(client), 60, "the shop")
            with console(
                url,
                tmp_path / "console.log",
                stores=[store],
                services=[SERVICE],
                allow_changes=True,
                environment=names,
            ) as started:
                yield Shop(client, process, started, faults, store)


async def _is_consumed(client: Client) -> bool:
    try:
        return await client.consumers("shop.stock.3") >= 1
    except ChannelClosedError:  # it is not declared yet
        return False
