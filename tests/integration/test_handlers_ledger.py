"""The ledger service, run in the test harness on either database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest

from handlers.accounting.reading import open_ledger
from handlers.events import EntryRecorded
from handlers.ledger import service
from handlers.statements import ENTRIES, entry_message_id, entry_routing_key
from mqkit.outcome import DeathReason
from mqkit.testing.harness import Harness
from tests.unit.handlers.entries import entry, post, writing

pytestmark = pytest.mark.in_turn


@pytest.fixture
async def h(
    database: str,
    mqkit_harness: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Harness]:
    monkeypatch.setenv("LEDGER_DATABASE", database)
    async with mqkit_harness(service) as h:
        yield h


async def publish(h: Harness, entry: EntryRecorded, line: int) -> None:
    """Publish an entry as the statements service does."""
    await h.publish(
        ENTRIES,
        entry_routing_key(entry),
        entry,
        message_id=entry_message_id(entry),
        headers={"file": "s.csv", "line": line},
    )


async def posted(database: str) -> list[int]:
    async with open_ledger(database) as ledger:
        return (await ledger.posted_after(0))[1]


async def test_an_entry_that_comes_twice_has_its_effect_once(h: Harness, database: str) -> None:
    """The second message is acknowledged, also where it stands in another line of the file."""
    for line in (2, 2, 3):
        await publish(h, entry(1), line)
        await h.idle()
    assert len(h.handled) == 3
    assert await posted(database) == [1]


async def test_another_entry_under_the_same_id_is_dead_lettered(h: Harness, database: str) -> None:
    """It changes nothing, and what comes after it is posted."""
    for each in (entry(1, "1.00"), entry(1, "2.00"), entry(2, "3.00")):
        await publish(h, each, 2)
        await h.idle()
    assert [each.reason for each in h.dead_lettered] == [DeathReason.ID_REUSED]
    async with open_ledger(database) as ledger:
        assert await ledger.balance(7) == Decimal("4.00")


async def test_a_ledger_without_a_store_goes_on_with_one(
    database: str,
    mqkit_harness: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store makes its tables beside those of an earlier version; what is posted stays so."""
    monkeypatch.setenv("LEDGER_DATABASE", database)
    async with writing(database) as connection:
        await post(connection, entry(1))
    async with mqkit_harness(service) as h:
        for number in (1, 2):
            await publish(h, entry(number), 2)
        await h.idle()
    assert await posted(database) == [1, 2]
