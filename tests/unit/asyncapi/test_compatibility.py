"""Maps are compared by their keys, and by what they hold."""

from __future__ import annotations

import pytest

from mqkit.asyncapi.comparing import differences
from mqkit.asyncapi.reading import Reader
from tests.unit.asyncapi.support import Document, made, order


@pytest.mark.parametrize(
    ("was", "is_", "told"),
    [
        ({"propertyNames": {"enum": ["a", "b"]}}, {"propertyNames": {"enum": ["a"]}}, '"b"'),
        ({}, {"propertyNames": {"enum": ["a"]}}, 'takes "a" alone'),
        ({}, {"patternProperties": {"^x": {"type": "integer"}}}, "has a pattern now"),
        (
            {"patternProperties": {"^x": {"type": "integer"}}},
            {"patternProperties": {"^y": {"type": "integer"}}},
            "pattern was",
        ),
    ],
)
def test_the_keys_of_a_map_are_compared(was: Document, is_: Document, told: str) -> None:
    """Fewer of them break who receives, and more of them who sends."""

    def differ(action: str, before: Document, after: Document) -> list[str]:
        old, new = made(action), made(action)
        for document, keys in ((old, before), (new, after)):
            whole = {"type": "object", "additionalProperties": {"type": "integer"}, **keys}
            order(document)["properties"]["rates"] = whole
        found = differences(Reader(old, "old"), Reader(new, "new"))
        told = [f"{each.where} {each.what}" for each in found if each.breaking]
        return [each for each in told if ".parent" not in each]  # it is an order, too

    (received,) = differ("receive", was, is_)
    assert "Order.rates keys" in received
    assert told in received
    assert len(differ("send", is_, was)) == 1
    if "pattern was" not in told:
        assert differ("send", was, is_) == differ("receive", is_, was) == []


def test_a_map_of_a_pattern_compares_what_it_holds() -> None:
    """The values of the same keys, and of any key where the pattern is gone."""
    old, new, wider = made(), made(), made()
    for document, schema in (
        (old, {"patternProperties": {"^x": {"type": "integer"}}}),
        (new, {"patternProperties": {"^x": {"type": "string"}}}),
        (wider, {"additionalProperties": {"type": "integer"}}),
    ):
        order(document)["properties"]["rates"] = {"type": "object", **schema}
    reader = Reader(old, "old")
    found = [each for each in differences(reader, Reader(new, "new")) if each.breaking]
    assert {(each.where.rpartition(".rates")[2], each.what) for each in found} == {
        (".*", "takes string now, and took integer")
    }
    assert not [each for each in differences(reader, Reader(wider, "new")) if each.breaking]
