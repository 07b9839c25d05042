"""One look at all dead letters of a queue."""

from __future__ import annotations

from dataclasses import replace

from mqkit.dead_letters.messages.surveys import Surveying
from tests.unit.dead_letters.samples import failed, letter, raised


def test_all_are_counted_and_the_first_are_listed() -> None:
    """What is listed has what a list says, and not what would fill memory."""
    first = letter(failed(raised(ValueError("no")), b'{"a": 1}', more="x"))
    second = replace(first, message_id="m-2", place="elsewhere.py:1 in f")
    surveying = Surveying(2)
    for each in (first, second, second):
        surveying.add(each)
    found = surveying.result()
    assert found.count == 3
    assert [each.count for each in found.groups] == [2, 1]
    assert [each.message_id for each in found.letters] == ["m-1", "m-2"]
    listed = found.letters[0]
    assert found.by_group == {first.group: [listed], second.group: found.letters[1:]}
    assert (listed.group, listed.ref, listed.error_message) == (
        first.group,
        first.ref,
        first.error_message,
    )
    assert listed.traceback is None
    assert listed.properties.headers == {}
    assert listed.body is None
