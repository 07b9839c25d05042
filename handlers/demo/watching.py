"""Opens the console beside the demo, so that one can look at the services while they are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import webbrowser
from collections.abc import AsyncIterator, Callable

from handlers.demo.services import START_TIMEOUT, Services
from handlers.running.processes import MqkitProcess

_SAYS = re.compile(r"at (?P<link>http://\S+/login\?\S+)\n.*the token (?P<token>\S+)\n")
"""What the console says when it has started: where it opens once, and the token for later."""


@contextlib.asynccontextmanager
async def watched(services: Services, tell: Callable[[str], None]) -> AsyncIterator[str]:
    """Run the console for the block, over the services' broker and databases; gives its link.

    It may replay what is dead-lettered. A browser is opened where there is one with a window.

    :raises ProcessError: it did not start
    """
    log = services.folder / "console.log"
    console = MqkitProcess(
        "the console",
        *("console", "--listen", "0", "--who", "demo", "--allow-changes"),
        *(word for url in services.databases.values() for word in ("--store", url)),
        *(word for each in services.modules.values() for word in ("--service", f"{each}:service")),
        environment=services.environment,
        log=log,
        tell=tell,
    )
    log.touch(0o600)  # its token is in it
    await console.start()
    try:
        said = await console.said(_SAYS, within=START_TIMEOUT)
        tell(f"watch it in a browser: {said['link']}")
        tell(f"(the link works once; after that the console asks for the token {said['token']})")
        if has_browser():
            await asyncio.to_thread(webbrowser.open, said["link"])
        yield said["link"]
    finally:
        await console.stop()


def has_browser() -> bool:
    """Tell whether there is a browser with a window: one in this terminal would take it over."""
    if sys.platform in ("darwin", "win32"):
        return True
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    with contextlib.suppress(webbrowser.Error):
        webbrowser.get()
        return True
    return False


async def stay(services: Services, tell: Callable[[str], None]) -> None:
    """Start the services again, and let people look until Ctrl-C."""
    await services.start()
    tell("the services run again, for who watches; Ctrl-C ends it")
    try:
        # Ctrl-C cancels this task; what was asked for is done all the same.
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                services.check()
                await asyncio.sleep(1)
    finally:
        await services.stop()
