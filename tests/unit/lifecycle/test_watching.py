"""What is read of a service while it runs: its store above all, which has to be asked."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from mqkit import Queue, Retry, Service
from mqkit.broker.connection import Connection
from mqkit.errors import StoreUnavailableError
from mqkit.lifecycle import watching
from mqkit.lifecycle.watching import ServiceWatch
from mqkit.middleware import StoreReading
from mqkit.pause import ConsumerState, Status


class Line:
    """Stands in for a connection."""

    is_up, generation, blocked_seconds = True, 3, 1.5


class Shelf:
    """Stands in for a store that says, and raises, what it is told."""

    def __init__(self) -> None:
        self.says: StoreReading | BaseException = StoreReading(5)
        self.asked = asyncio.Event()

    async def backlog(self) -> StoreReading:
        """Say it."""
        self.asked.set()
        if isinstance(self.says, BaseException):
            raise self.says
        return self.says

    async def hang(self) -> StoreReading:
        """Say nothing, in the place of the above."""
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


class Own:
    """A store of the application's own, which has no outbox to tell of."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def ping(self) -> None:
        """Be there."""
        self.asked.set()


def watch(store: Any) -> ServiceWatch:
    """Watch a service with that store, and no consumer."""
    service = Service("ledger", retry=Retry.never())
    service.handler(Queue("q"))(_handle)
    service.store = store
    connections = cast(tuple[Connection, Connection], (Line(), Line()))
    return ServiceWatch(service, connections, [], lambda: {"q": ConsumerState(Status.DETACHED)})


async def _handle(body: bytes) -> None:
    """Do nothing."""


async def looked(watched: ServiceWatch, store: Any) -> StoreReading | None:
    """Look at the store once, and return what is known of it then."""
    task = asyncio.create_task(watched.run(store))
    async with asyncio.timeout(10):
        await store.asked.wait()
        store.asked.clear()
        await asyncio.sleep(0.1)
    assert not task.done()
    task.cancel()
    return watched.read().store


async def test_the_store_s_backlog_is_read() -> None:
    """What it said last, until it says something else, or does not answer"""
    store = Shelf()
    watched = watch(store)
    assert watched.read().store is None
    assert await looked(watched, store) == StoreReading(5)
    store.says = StoreUnavailableError("away")
    assert await looked(watched, store) is None
    assert watched.read().has_store


async def test_a_store_of_the_application_s_own_is_pinged() -> None:
    """It is there, and has no outbox"""
    store = Own()
    assert await looked(watch(store), store) == StoreReading()


async def test_a_store_that_hangs_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has so many seconds to answer, and is asked again"""
    monkeypatch.setattr(watching, "STORE_TIMEOUT", 0.02)
    store = Shelf()
    watched = watch(store)
    await looked(watched, store)
    monkeypatch.setattr(store, "backlog", store.hang)
    assert await looked(watched, store) is None


async def test_what_a_store_should_not_raise_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And ends neither the watch nor the service"""
    store = Shelf()
    store.says = ZeroDivisionError("in the application's code")
    watched = watch(store)
    with caplog.at_level(logging.ERROR, "mqkit"):
        for _ in range(2):
            assert await looked(watched, store) is None
    assert caplog.text.count("ledger: looking at the store failed: ZeroDivisionError") == 1


def test_connections_and_the_stages_of_a_service_are_read() -> None:
    """Without a store there is none, and it has neither started nor stopped before it does"""
    watched = watch(None)
    found = watched.read()
    assert (found.service, found.has_store, found.store) == ("ledger", False, None)
    assert (found.is_started, found.is_stopping) == (False, False)
    assert [(c.name, c.opened, c.blocked_seconds) for c in found.connections] == [
        ("consume", 3, 1.5),
        ("publish", 3, 1.5),
    ]
