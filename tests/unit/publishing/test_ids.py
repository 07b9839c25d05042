"""Message ids that are given where a publisher gives none."""

from __future__ import annotations

import os
import uuid

import pytest

from mqkit.publishing.ids import AT_A_TIME, MessageIds


def test_ids_are_random_uuids() -> None:
    """Each is a UUID of version 4 in its usual form, and none comes twice, over several draws."""
    new_id = MessageIds()
    ids = [new_id() for _ in range(4 * AT_A_TIME)]
    read = [uuid.UUID(text) for text in ids]
    assert [str(value) for value in read] == ids
    assert {value.version for value in read} == {4}
    assert {value.variant for value in read} == {uuid.RFC_4122}
    assert len(set(ids)) == len(ids)


def test_ids_are_made_of_all_the_bits_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is what Python's uuid makes of the next 16 bytes, and none of these is used twice."""
    drawn = os.urandom(16 * AT_A_TIME)
    monkeypatch.setattr("mqkit.publishing.ids.os.urandom", lambda size: drawn[:size])
    new_id = MessageIds()
    for at in range(0, len(drawn), 16):
        assert new_id() == str(uuid.UUID(bytes=drawn[at : at + 16], version=4))
