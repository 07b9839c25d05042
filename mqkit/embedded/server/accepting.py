"""Stops listening without losing the connections that the loop has just accepted."""

from __future__ import annotations

import asyncio
import contextlib

JOINING = 3
"""Turns of the loop from when it has accepted a connection until that has joined."""


async def stop_accepting(server: asyncio.Server) -> None:
    """Accept no connection more, and close the server once those joined that were accepted before.

    Where it is closed in between, Python loses such a socket without closing it: the transport's
    constructor fails, for its server is closed.
    """
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # loops without readers
        for each in server.sockets:
            loop.remove_reader(each.fileno())
        for _ in range(JOINING):
            await asyncio.sleep(0)
    server.close()
