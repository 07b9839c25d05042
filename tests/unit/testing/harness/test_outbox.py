"""A service with a store in a harness: what the outbox holds is part of what a test waits for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mqkit import Exchange, Queue, Retry, Service
from mqkit.store import Store, Transaction
from mqkit.testing.harness.errors import HarnessTimeoutError
from mqkit.testing.harness.run import harness

events = Exchange("events", type="topic")


def service_of(folder: Path, *, relay: bool = True) -> tuple[Service, Store]:
    """A service that passes on what it gets by its outbox: a number to itself, until it is 0."""
    store = Store(f"sqlite:///{folder / 'test.sqlite'}", relay=relay)
    service = Service("s", retry=Retry.never(), store=store)

    @service.handler(Queue("numbers"), bind=[events.key("number")])
    async def count(number: int, transaction: Transaction) -> None:
        if number:
            await transaction.publish(events, "number", number - 1, key="numbers")

    @service.handler(Queue("texts"), bind=[events.key("text")])
    async def pass_on(key: str, transaction: Transaction) -> None:
        await transaction.publish(events, key, {"n": 1}, headers={"from": "texts"})

    return service, store


async def test_idle_waits_for_the_outbox_and_what_comes_of_it(tmp_path: Path) -> None:
    """Each message of a chain through the outbox is handled, and published once, in order."""
    service, store = service_of(tmp_path)
    async with harness(service) as h:
        await h.publish(events, "number", 5)
        await h.idle()
        assert [each.json() for each in h.published] == [4, 3, 2, 1, 0]
        assert [each.body for each in h.handled] == [5, 4, 3, 2, 1, 0]
        assert await store.pending() == 0
        async with store.transaction() as transaction:
            message_id = await transaction.publish(events, "number", 0)
        await h.idle()
        assert h.published[-1].message_id == message_id
        assert (await h.outcome(message_id)).acked


async def test_a_refused_message_of_the_outbox_waits_for_its_time(tmp_path: Path) -> None:
    """It is tried again as time is moved; what waits for it is told where it is, and why."""
    service, store = service_of(tmp_path)
    async with harness(service) as h:
        await h.publish(events, "text", "nobody")
        # Refused at once and after 0.5, 1, 2 and 4 s more; the next attempt is 8 s after these.
        # What a busy machine takes for each is time, too.
        await h.advance(10)
        expected = (
            r"not idle within 0\.1 s: message \S+ in the outbox, to exchange 'events' with routing "
            r"key 'nobody': refused [45] times \(UnroutableError: .*\), tried again in "
            r"[1-8]\.\d s; let "
        )
        with pytest.raises(HarnessTimeoutError, match=expected):
            await h.idle(within=0.1)
        await h.settled()
        assert h.published == []
        await h.listen(events, "nobody")
        await h.advance(9)
        await h.idle()
        (published,) = h.published
        assert published.json() == {"n": 1}
        assert published.headers["from"] == "texts"
    assert store._ahead == 0, "the clock is back for who uses the store next"


async def test_a_day_of_refusals_is_not_made_up_for_one_by_one(tmp_path: Path) -> None:
    """Some attempts are made at their times, and one at the end."""
    service, store = service_of(tmp_path)
    async with harness(service) as h:
        await h.publish(events, "text", "nobody")
        await h.advance(24 * 3600)
        (left,) = await store.unpublished()
    assert left.attempts == 10


async def test_an_outbox_that_nobody_publishes_from_is_named(tmp_path: Path) -> None:
    """Without a relay the error says so, and which messages wait."""
    service, _ = service_of(tmp_path, relay=False)
    async with harness(service) as h:
        await h.outcome(await h.publish(events, "text", "number"))
        text = r"'number': committed, and not published yet; no relay runs.*Store\(relay=False\)"
        with pytest.raises(HarnessTimeoutError, match=text):
            await h.idle(within=0.1)
