"""Opens a store when it is told to, as one of several processes at the same time.

python -m tests.unit.store.opening URL [ID]
"""

from __future__ import annotations

import asyncio
import sys
import warnings

from mqkit.message import Delivery, Properties
from mqkit.store import Store


async def main(url: str, message_id: str | None = None) -> None:
    """Open it once a line is read; what was handled under an id is not handled again."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    async with Store(url, relay=message_id is None) as store:
        await store.ping()
        if message_id is not None:
            given = Delivery(properties=Properties(message_id=message_id), queue="q")
            assert await store.run_once("h", given, never) == {"n": 1}


async def never(_: object) -> None:
    raise AssertionError


if __name__ == "__main__":
    warnings.simplefilter("error")
    asyncio.run(main(*sys.argv[1:]))
