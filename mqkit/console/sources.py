"""Says where the console's figures come from: one view of the system, and the services' stores."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from mqkit.errors import StoreError
from mqkit.overview.values import Overview
from mqkit.store import Store

AGAIN = 5.0
"""Seconds after which a store that could not be opened is tried again."""


class Watching(Protocol):
    """Watches a system while it is entered."""

    def overview(self) -> Overview:
        """Return what is known of the system now, at once."""
        ...

    async def fresh(self) -> object:
        """Look at the system, unless that was done a moment ago; it raises nothing."""
        ...


class OpenedStore:
    """The store of a service, opened when it is first asked, to be read alone."""

    def __init__(self, url: SecretStr) -> None:
        """Open nothing yet.

        :raises ConfigurationError: the URL is malformed, or of another database
        """
        self.name = _name(url.get_secret_value())
        """Its kind, host and database, without who may enter it."""
        self._store = Store(url.get_secret_value(), relay=False, create_tables=False)
        self._is_open = False
        self._opening = asyncio.Lock()
        self._failed: StoreError | None = None
        self._again_at = 0.0

    async def store(self) -> Store:
        """Return the store, open.

        :raises StoreError: it cannot be opened now; it is tried again some seconds later
        """
        async with self._opening:
            if self._is_open:
                return self._store
            now = asyncio.get_running_loop().time()
            if self._failed is not None and now < self._again_at:
                raise self._failed
            try:
                await self._store.open()
            except StoreError as error:
                self._failed, self._again_at = error, now + AGAIN
                raise
            self._is_open = True
            return self._store

    async def close(self) -> None:
        """Close it, if it is open."""
        if self._is_open:
            self._is_open = False
            await self._store.close()


def _name(url: str) -> str:
    parts = urlsplit(url)
    kind = parts.scheme.partition("+")[0]
    host = parts.hostname or ""
    return f"{kind}: {host}{parts.path}" if host else f"{kind}: {parts.path.removeprefix('/')}"


def stores_of(urls: Sequence[SecretStr]) -> tuple[OpenedStore, ...]:
    """Make the stores of some URLs, each with a name of its own.

    A file of SQLite is called by its name alone, where no two have the same.

    :raises ConfigurationError: as `OpenedStore`
    """
    found = tuple(map(OpenedStore, urls))
    names = Counter(_short(each.name) for each in found)
    for each in found:
        if names[short := _short(each.name)] == 1:
            each.name = short
    return found


def _short(name: str) -> str:
    return name.rpartition("/")[2] if name.startswith("sqlite: ") else name


async def close_all(stores: Sequence[OpenedStore]) -> None:
    """Close stores, each though another fails."""
    async with contextlib.AsyncExitStack() as stack:
        for store in stores:
            stack.push_async_callback(store.close)
