"""Lists the fields of a JSON Schema, as a table for people has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mqkit.asyncapi.reading import Reader, joined

MAX_DEPTH = 8
"""Levels of objects in each other that are listed."""

_LIMITS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "over {}",
    "exclusiveMaximum": "under {}",
    "multipleOf": "a multiple of {}",
    "minLength": "{} characters or more",
    "maxLength": "{} characters or fewer",
    "minItems": "{} items or more",
    "maxItems": "{} items or fewer",
    "pattern": "matches {}",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One line of the table."""

    name: str
    depth: int
    kind: str
    needed: bool
    limits: tuple[str, ...]
    about: str


def fields(schema: Any, reader: Reader) -> Iterator[Field]:
    """Yield the fields of an object, and of those in it; nothing of what is no object.

    :raises AsyncapiError: something in the schema is not as it should be
    """
    yield from _fields(schema, reader, 0, ())


def _fields(schema: Any, reader: Reader, depth: int, within: tuple[str, ...]) -> Iterator[Field]:
    found = resolved(schema, reader)
    needed = reader.names(found.get("required"), "required")
    for name, inner in reader.mapping(found.get("properties", {}), "properties").items():
        part = resolved(inner, reader)
        yield Field(
            name,
            depth,
            kind_of(inner, reader),
            name in needed,
            tuple(_limits(part)),
            _about(part),
        )
        for below in _objects(inner, reader):
            told = json.dumps(below, sort_keys=True, default=str)
            if depth < MAX_DEPTH and told not in within:
                yield from _fields(below, reader, depth + 1, (*within, told))


def _objects(schema: Any, reader: Reader, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield the objects that a value may be, or have as its items."""
    if depth > MAX_DEPTH:
        return
    found = resolved(schema, reader)
    if "properties" in found:
        yield found
    for each in _parts(found, reader):
        yield from _objects(each, reader, depth + 1)
    items = found.get("items")
    if isinstance(items, dict):
        yield from _objects(items, reader, depth + 1)


def _parts(schema: Mapping[str, Any], reader: Reader) -> list[Any]:
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return reader.listed(schema[keyword], keyword)
    return []


def resolved(schema: Any, reader: Reader, depth: int = 0) -> Mapping[str, Any]:
    """Return a schema with its references followed, and what an `allOf` adds."""
    if depth > MAX_DEPTH:
        reader.refuse("an allOf leads in a circle, or through too many others")
    found = reader.followed(schema, "a schema")
    if isinstance(found, bool):
        return {}
    made: Mapping[str, Any] = reader.mapping(found, "a schema")
    for part in reader.listed(made.get("allOf"), "allOf"):
        made = joined(resolved(part, reader, depth + 1), made)
    return {key: value for key, value in made.items() if key != "allOf"}


def kind_of(schema: Any, reader: Reader, depth: int = 0) -> str:
    """Return what a value is, in a few words: 'string (date-time)', 'list of Order', 'A or B'."""
    found = resolved(schema, reader)
    if depth > MAX_DEPTH:
        return "anything"
    if parts := _parts(found, reader):
        return " or ".join(dict.fromkeys(kind_of(part, reader, depth + 1) for part in parts))
    values = [found["const"]] if "const" in found else found.get("enum")
    if isinstance(values, list):
        return " or ".join(json.dumps(value, ensure_ascii=False) for value in values)
    kind = found.get("type", "anything")
    if kind == "array":
        items = found.get("items", True)
        of = str(len(items)) if isinstance(items, list) else kind_of(items, reader, depth + 1)
        return f"list of {of}"
    kind = " or ".join(map(str, kind)) if isinstance(kind, list) else str(kind)
    if kind == "object":
        return str(found.get("title", kind))
    return f"{kind} ({found['format']})" if "format" in found else kind


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    for keyword, words in _LIMITS.items():
        if keyword in schema:
            yield words.format(schema[keyword])
    if "default" in schema:
        yield f"default {json.dumps(schema['default'], ensure_ascii=False)}"


def _about(schema: Mapping[str, Any]) -> str:
    about = schema.get("description")
    return about.strip() if isinstance(about, str) else ""
