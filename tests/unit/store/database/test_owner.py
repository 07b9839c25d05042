"""A store belongs to the event loop that it is open on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from mqkit.errors import ConfigurationError
from mqkit.store import Store
from mqkit.store.database.owner import Owner
from tests.unit.store.support import delivery, publish


def elsewhere(work: Callable[[], Coroutine[Any, Any, Any]]) -> BaseException | None:
    """What work on an event loop of another thread ends with."""
    ends: list[BaseException | None] = []

    def run() -> None:
        try:
            asyncio.run(work())
        except Exception as error:  # noqa: BLE001 - it is what is asked for
            ends.append(error)
        else:
            ends.append(None)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    return ends[0]


async def test_a_store_is_refused_on_a_second_loop(database: str) -> None:
    """To open and to use; the first one goes on, and after its close another may have it."""
    store = Store(database, relay=False)

    async def once() -> None:
        await store.run_once("h", delivery("m"), lambda t: publish(store, "x"))

    uses: list[Callable[[], Coroutine[Any, Any, Any]]] = [
        store.open,
        store.close,
        store.ping,
        store.pending,
        once,
        lambda: store.status("m"),
        lambda: publish(store, "m"),
    ]
    async with store:
        for use in uses:
            error = await asyncio.to_thread(elsewhere, use)
            assert isinstance(error, ConfigurationError)
            assert "give each event loop" in str(error)
        await publish(store, "m")
        assert await store.pending() == 1

    async def use_again() -> None:
        async with store:
            assert await store.pending() == 1

    assert await asyncio.to_thread(elsewhere, use_again) is None


def test_of_two_loops_that_open_a_store_at_once_one_is_refused(database: str) -> None:
    """Before anything is shared between them."""
    store = Store(database, relay=False)
    together, ends = threading.Barrier(2), list[BaseException | None]()
    both = threading.Barrier(2)

    async def use() -> None:
        together.wait(10)
        try:
            async with store:
                await asyncio.to_thread(both.wait, 10)
                await store.ping()
        except ConfigurationError:
            both.wait(10)
            raise

    threads = [threading.Thread(target=lambda: ends.append(elsewhere(use))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(type(end).__name__ for end in ends) == ["ConfigurationError", "NoneType"]


def test_one_loop_after_the_other_may_have_it(database: str) -> None:
    """Once it is closed on the first one."""
    store = Store(database, relay=False)

    async def use() -> None:
        async with store:
            await publish(store, "m")

    for _ in range(2):
        asyncio.run(use())


def test_what_a_loop_left_open_that_has_ended_is_in_nobody_s_way() -> None:
    """The next one begins anew."""
    owner = Owner()

    async def use() -> int:
        async with owner.changing():
            owner.users += 1
        owner.check()
        return owner.users

    assert [asyncio.run(use()) for _ in range(2)] == [1, 1]


async def test_several_users_on_one_loop_share_it(database: str) -> None:
    """It is open until the last one closes it."""
    store = Store(database, relay=False)
    async with store:
        async with store:
            await store.ping()
        await store.ping()


@pytest.mark.parametrize("url", ["sqlite:///no/such/directory/x.sqlite"])
async def test_a_store_that_could_not_be_opened_is_nobody_s(url: str) -> None:
    """The next one may try on another loop."""
    store = Store(url)
    for _ in range(2):
        with pytest.raises(Exception, match="unable to open"):
            await store.open()
    error = await asyncio.to_thread(elsewhere, store.open)
    assert "unable to open" in str(error)
