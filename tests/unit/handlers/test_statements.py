"""The statements service, its handler called directly."""

from __future__ import annotations

import pytest

from handlers.events import EntryRecorded
from handlers.statements import entry_message_id, record
from mqkit import Delivery, Reject
from mqkit.message import Properties
from tests.unit.handlers.test_bank_format import GOOD, changed


class Published:
    """In the place of a publisher, for a handler that is called directly."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    async def publish(self, *call: object, message_id: str, headers: object) -> str:
        self.calls.append((*call, message_id, headers))
        return message_id


async def test_the_handler_publishes_the_entry_under_the_banks_identity() -> None:
    """Called directly, it publishes one entry, keyed so that its copies are the same message."""
    publisher = Published()
    delivery = Delivery(properties=Properties(headers={"file": "s.csv", "line": 17}))
    await record(GOOD, delivery, publisher)  # type: ignore[arg-type]
    ((_, key, entry, message_id, headers),) = publisher.calls
    assert isinstance(entry, EntryRecorded)
    assert (key, message_id) == ("entry.credit.2378", "bank-entry-695247")
    assert message_id == entry_message_id(entry)
    assert headers == {"file": "s.csv", "line": 17}


async def test_an_entry_that_stands_in_two_places_is_the_same_message() -> None:
    """Where it stands is in the headers alone: a store compares the bodies of one message id."""
    publisher = Published()
    for line in (2, 3):
        delivery = Delivery(properties=Properties(headers={"file": "s.csv", "line": line}))
        await record(GOOD, delivery, publisher)  # type: ignore[arg-type]
    one, other = publisher.calls
    assert one[:-1] == other[:-1]
    assert one[-1] != other[-1]


async def test_the_handler_rejects_a_malformed_row_with_its_line() -> None:
    """The reason begins with the line, and nothing is published."""
    publisher = Published()
    delivery = Delivery(properties=Properties(headers={"line": 17}))
    with pytest.raises(Reject, match=r"^line 17: amount 'abc' is not an amount"):
        await record(changed(5, "abc"), delivery, publisher)  # type: ignore[arg-type]
    assert publisher.calls == []
