"""What is no document, or a broken one, is named as such."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mqkit.asyncapi.comparing import differences
from mqkit.asyncapi.pages import page
from mqkit.asyncapi.reading import AsyncapiError, Reader, read
from tests.unit.asyncapi.support import Document, made, message, order

STRANGE: list[Any] = [
    {"allOf": [{"$ref": "#/components/schemas/Order"}]},
    {"anyOf": [{"$ref": "#/components/schemas/Line"}]},
    {"$ref": "#/components/schemas"},
    None,
    7,
    "x",
    [],
    {},
    [7],
    {"$ref": 7},
    {"$ref": "#/"},
    {"type": []},
    {"enum": [[]]},
    True,
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Each part of a document, as the way to it."""
    if isinstance(value, dict):
        inner = list(value.items())
    else:
        inner = list(enumerate(value)) if isinstance(value, list) else []
    return [path, *(found for key, each in inner for found in places(each, (*path, key)))]


def edited(path: tuple[Any, ...], value: Any) -> Document:
    """A document with something else in place of a part."""
    document = made()
    parent: Any = document
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return document


def broken(change: Callable[[Document], Any]) -> bytes:
    document = made()
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "is not JSON"),
        (b"asyncapi: 3.0.0\n", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "the document is no object, but list"),
        (b"null", "the document is no object"),
        (b'{"openapi": "3.1.0"}', "it says no version"),
        (b'{"asyncapi": "2.6.0"}', "it is of version 2.6.0"),
        (b'{"asyncapi": 3}', "it is of version 3"),
        (broken(lambda d: d.update(channels=[])), "channels is no object, but list"),
        (broken(lambda d: d.update(operations={"o": 3})), "operations/o is no object"),
        (
            broken(lambda d: d["operations"]["o"].pop("channel")),
            "operations/o/channel is no object",
        ),
        (broken(lambda d: d["operations"]["o"].update(action="publish")), "receive or send"),
        (
            broken(lambda d: d["operations"]["o"].update(channel={"$ref": "#/channels/x"})),
            "there is nothing at #/channels/x",
        ),
        (
            broken(lambda d: d["operations"]["o"].update(channel={"$ref": "other.json#/c"})),
            "leads out of the document",
        ),
        (broken(lambda d: d["operations"]["o"].update(messages="x")), "is no list"),
        (
            broken(
                lambda d: d["components"]["schemas"].update(
                    Order={"$ref": "#/components/schemas/Order"}
                )
            ),
            "leads in a circle",
        ),
        (
            broken(lambda d: order(d).update(allOf=[{"$ref": "#/components/schemas/Order"}])),
            "circle",
        ),
        (
            broken(lambda d: order(d).update(anyOf=[{"$ref": "#/components/schemas/Order"}])),
            "circle",
        ),
        (broken(lambda d: order(d).update(properties=[])), "is no object"),
        (broken(lambda d: order(d).update(required="id")), "is no list"),
        (broken(lambda d: order(d).update(allOf={})), "is no list"),
        (broken(lambda d: d["channels"]["c"].update(address=7)), "channels/c/address is no text"),
        (broken(lambda d: message(d).update(name=7)), "/name is no text"),
        (broken(lambda d: message(d).update(payload=7)), "is no object"),
    ],
)
def test_garbage_is_named(text: bytes, problem: str) -> None:
    """A file that is no such document is an error that says what is wrong with it, and where."""
    with pytest.raises(AsyncapiError, match=problem.replace("?", r"\?")):
        differences(read(text, "old.json"), Reader(made(), "new"))


def test_no_hand_edited_document_ends_in_another_error() -> None:
    """Whatever stands in a document in place of a part, it is compared or refused by our error."""
    for path in places(made())[1:]:
        for other in STRANGE:
            document = edited(path, other)
            for pair in ((document, made()), (made(), document)):
                try:
                    differences(*(Reader(each, "d") for each in pair))
                except AsyncapiError:
                    continue


def test_a_page_of_a_hand_edited_document_is_made_or_refused() -> None:
    """Whatever stands in a document in place of a part, its page is made, or our error raised."""
    for path in places(made())[1:]:
        for other in STRANGE:
            try:
                page(Reader(edited(path, other), "d"))
            except AsyncapiError:
                continue
