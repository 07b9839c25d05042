"""Message ids that are given where a publisher gives none."""

from __future__ import annotations

import uuid

from mqkit.ids import AT_A_TIME, MessageIds


def test_ids_are_random_uuids() -> None:
    """Each is a UUID of version 4 in its usual form, and none comes twice, over several draws."""
    new_id = MessageIds()
    ids = [new_id() for _ in range(4 * AT_A_TIME)]
    read = [uuid.UUID(text) for text in ids]
    assert [str(value) for value in read] == ids
    assert {value.version for value in read} == {4}
    assert {value.variant for value in read} == {uuid.RFC_4122}
    assert len(set(ids)) == len(ids)


def test_all_random_bits_are_used() -> None:
    """Every digit but the version's has all the values that it may have."""
    new_id = MessageIds()
    digits = list(zip(*(new_id().replace("-", "") for _ in range(20 * AT_A_TIME)), strict=True))
    different = [len(set(values)) for values in digits]
    assert different == [16] * 12 + [1] + [16] * 3 + [4] + [16] * 15
