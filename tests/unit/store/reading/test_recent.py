"""The messages whose state was noted last."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit.errors import OptionError
from mqkit.outcome import Ack, DeadLetter, DeathReason, RetryAfter
from mqkit.store import State, Store, Transaction
from tests.unit.store.support import Jumping, delivery


async def nothing(_: Transaction) -> None:
    """Have no effect."""


async def test_states_are_listed_the_last_noted_first(database: str) -> None:
    """Those that are asked for, a page at a time; without what the inbox says is done by now"""
    clock = Jumping()
    async with Store(database, relay=False, clock=clock) as store:
        for number in range(4):
            clock.jump(seconds=1)
            dead = DeadLetter(DeathReason.UNDECODABLE, ValueError("bad"))
            store.settled("h", delivery(f"dead {number}"), dead)
        clock.jump(seconds=1)
        store.settled("h", delivery("waits"), RetryAfter(5, ValueError("later")))
        clock.jump(seconds=1)
        store.settled("h", delivery("done"), RetryAfter(5, ValueError("later")))
        await store._open().recorder.flush()
        store.settled(
            "h", delivery("done"), Ack(await store.run_once("h", delivery("done"), nothing))
        )
        await store._open().recorder.flush()
        failed = (State.DEAD, State.RETRYING)
        found = [each.message_id for each in await store.recent(among=failed)]
        assert found == ["waits", "dead 3", "dead 2", "dead 1", "dead 0"]
        some = await store.recent(among=[State.DEAD], limit=2, offset=1)
        assert [(each.message_id, each.error) for each in some] == [
            ("dead 2", "bad"),
            ("dead 1", "bad"),
        ]
        store.settled("other", delivery("done"), RetryAfter(5, ValueError("later")))
        await store._open().recorder.flush()
        (first, *_) = await store.recent()
        assert (first.message_id, first.handler) == ("done", "other")


@pytest.mark.parametrize("page", [{"limit": -1}, {"limit": 1 << 63}, {"offset": 10**30}])
async def test_a_page_that_no_database_knows_is_refused(
    database: str, page: dict[str, Any]
) -> None:
    """The driver's own error named nothing; whichever is listed"""
    async with Store(database, relay=False) as store:
        for listing in (store.recent, store.sagas, store.unpublished):
            with pytest.raises(OptionError, match=rf"{next(iter(page))} is 0 to"):
                await listing(**page)
        most = (1 << 63) - 1
        assert await store.recent(limit=most, offset=most) == []
        assert await store.sagas(limit=0) == []
