"""What a field means that is left out is compared wherever the field is."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit.asyncapi.defaults import Defaults, Told
from mqkit.asyncapi.reading import Reader

Document = dict[str, Any]

REFERENCE: Document = {"$ref": "#/components/schemas/Item"}


def document(default: int) -> Document:
    """A document with an item, of which there is a count where none is given."""
    count = {"type": "integer", "default": default}
    item = {"type": "object", "title": "Item", "properties": {"count": count}}
    return {"asyncapi": "3.0.0", "components": {"schemas": {"Item": item}}}


def changes(schema: Document, *, receives: bool = True) -> list[Told]:
    """Compare what a schema means in two documents, whose items differ in their default."""
    old, new = (Reader(document(number), "it") for number in (1, 2))
    return list(Defaults(old, new, receives).changes(schema, schema))


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        (REFERENCE, ".count"),
        ({"properties": {"one": REFERENCE}}, ".one.count"),
        ({"type": "array", "items": REFERENCE}, "[].count"),
        ({"type": "array", "items": [{"type": "string"}, REFERENCE]}, "[1].count"),
        ({"type": "object", "additionalProperties": REFERENCE}, ".*.count"),
        ({"anyOf": [REFERENCE, {"type": "null"}]}, ".count"),
        ({"anyOf": [{"type": "array", "items": REFERENCE}, REFERENCE]}, "[].count"),
        ({"allOf": [REFERENCE], "description": "the one"}, ".count"),
    ],
)
def test_a_default_is_compared_wherever_it_stands(schema: Document, path: str) -> None:
    """In objects, lists, tuples and maps, and in what may be left out; once each."""
    found = changes(schema)
    told = Told(path, "is 2 now where it is left out, and was 1", breaking=True)
    assert told in found
    assert len(found) == len(set(found))
    assert [each.breaking for each in changes(schema, receives=False)] == [False] * len(found)


def test_an_alternative_is_compared_with_the_one_that_it_is_now() -> None:
    """By its title where there are several objects; one that is new or gone is no default."""

    def choice(**defaults: int) -> Document:
        return {
            "anyOf": [
                {"type": "object", "title": title, "properties": {"n": {"default": default}}}
                for title, default in defaults.items()
            ]
        }

    reader = Reader(document(1), "it")
    compared = Defaults(reader, reader, receives=True)
    assert list(compared.changes(choice(a=1, b=2), choice(b=2, a=1))) == []
    (found,) = compared.changes(choice(a=1, b=2), choice(b=3, a=1))
    assert (found.path, found.what) == (".n", "is 3 now where it is left out, and was 2")
    assert list(compared.changes(choice(a=1, b=2), choice(c=3, d=1))) == []


def test_a_type_that_refers_to_itself_is_compared_once() -> None:
    """Without an end, whether it refers to itself by a list or as it is."""

    def made(default: int) -> Reader:
        properties = {"n": {"default": default}, "up": REFERENCE}
        properties["below"] = {"type": "array", "items": REFERENCE}
        item = {"type": "object", "properties": properties}
        return Reader({"asyncapi": "3.0.0", "components": {"schemas": {"Item": item}}}, "it")

    found = list(Defaults(made(1), made(2), receives=True).changes(REFERENCE, REFERENCE))
    assert [each.path for each in found] == [".n"]


def test_true_is_not_the_default_1() -> None:
    """Values of JSON are compared, which Python takes for the same."""
    reader = Reader(document(1), "it")
    was, is_ = ({"properties": {"n": {"default": each}}} for each in (1, True))
    (found,) = Defaults(reader, reader, receives=True).changes(was, is_)
    assert found.what == "is true now where it is left out, and was 1"
