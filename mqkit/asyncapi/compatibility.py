"""Compares two JSON Schemas: finds the values that one allows and the other refuses.

Who receives must go on taking what was taken: the new schema may refuse nothing of the old one. Who
sends must send nothing that was not sent before: the old one may refuse nothing of the new one. So
both questions are one. What cannot be known (whether one pattern lies within another) counts as
refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mqkit.asyncapi.limits import tighter
from mqkit.asyncapi.reading import Reader, joined

Schema = Any
"""A dict, True (anything) or False (nothing)."""

MAX_DEPTH = 64
"""Levels of schemas in each other that are compared; nothing that people wrote has as many."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What of a wide schema a narrow one refuses."""

    path: str
    keyword: str
    wide: Any
    narrow: Any


@dataclass(slots=True)
class Comparison:
    """Two schemas of two documents (or one), compared part by part."""

    wide_reader: Reader
    narrow_reader: Reader
    _known: dict[tuple[str, str], list[Refusal]] = field(default_factory=dict)
    """What was compared, by its text. What is being compared refuses nothing meanwhile: recursive
    types refer to themselves."""

    def refusals(
        self, wide: Schema, narrow: Schema, path: str, depth: int = 0
    ) -> Iterator[Refusal]:
        """Yield what of `wide` the narrow one refuses."""
        pair = (_text(wide), _text(narrow))
        if pair not in self._known and depth <= MAX_DEPTH:
            self._known[pair] = []
            before = self._read(wide, self.wide_reader, path)
            after = self._read(narrow, self.narrow_reader, path)
            self._known[pair] = list(self._compared(before, after, "", depth))
        for each in self._known.get(pair, ()):
            yield replace(each, path=path + each.path)

    def _read(self, schema: Schema, reader: Reader, path: str, depth: int = 0) -> Mapping[str, Any]:
        """Follow references, and make one dict of what is written in several."""
        schema = reader.followed(schema, path)
        if schema is True:
            return {}
        if schema is False:
            return {"not": {}}
        found = reader.mapping(schema, f"the schema of {path}")
        for part in reader.listed(found.get("allOf"), f"allOf of {path}"):
            if depth > MAX_DEPTH:
                reader.refuse(f"allOf of {path}: it leads in a circle")
            inner = self._read(part, reader, path, depth + 1)
            found = joined(inner, found)
        return {key: value for key, value in found.items() if key != "allOf"}

    def _compared(
        self, wide: Mapping[str, Any], narrow: Mapping[str, Any], path: str, depth: int
    ) -> Iterator[Refusal]:
        if not narrow or wide.get("not") == {}:
            return
        choices = self._choices(wide, self.wide_reader, path)
        taken = self._choices(narrow, self.narrow_reader, path)
        if len(choices) == 1 and len(taken) == 1:
            yield from self._of_one(choices[0], taken[0], path, depth)
            return
        for choice in choices:
            yield from self._best(choice, taken, path, depth)

    def _best(
        self, choice: Mapping[str, Any], taken: list[Mapping[str, Any]], path: str, depth: int
    ) -> list[Refusal]:
        """Return what the likest of several choices refuses of one; nothing if one takes it."""
        likest: list[Refusal] | None = None
        for each in taken:
            if not _may_be_same(choice, each):
                continue
            found = list(self._of_one(choice, each, path, depth))
            if not found:
                return []
            if likest is None or len(found) < len(likest):
                likest = found
        return [Refusal(path, "type", _kind(choice), _kinds(taken))] if likest is None else likest

    def _choices(
        self, schema: Mapping[str, Any], reader: Reader, path: str, depth: int = 0
    ) -> list[Mapping[str, Any]]:
        """Part a schema into its alternatives, each of one type at most."""
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                rest = {key: value for key, value in schema.items() if key != keyword}
                listed = reader.listed(schema[keyword], f"{keyword} of {path}")
                parts = [{**rest, **self._read(each, reader, path)} for each in listed]
                if depth > MAX_DEPTH:
                    reader.refuse(f"{keyword} of {path}: it leads in a circle")
                return [
                    one for part in parts for one in self._choices(part, reader, path, depth + 1)
                ]
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return [{**schema, "type": kind} for kind in kinds]
        return [schema]

    def _of_one(
        self, wide: Mapping[str, Any], narrow: Mapping[str, Any], path: str, depth: int
    ) -> Iterator[Refusal]:
        """Compare two schemas without alternatives."""
        before, after = wide.get("type"), narrow.get("type")
        values = _values(wide)
        is_kept = values is not None and all(_is_of(value, after) for value in values)
        if after is not None and not (is_kept or _is_within(before, after)):
            yield Refusal(path, "type", _kind(wide), _kind(narrow))
            return
        yield from _value_refusals(wide, narrow, values, path)
        if values is None:
            for keyword, one, other in tighter(wide, narrow):
                yield Refusal(path, keyword, one, other)
        if "object" in (before, after) or "properties" in narrow:
            yield from self._of_objects(wide, narrow, path, depth)
        if "array" in (before, after) or "items" in narrow:
            yield from self._of_arrays(wide, narrow, path, depth)

    def _of_objects(
        self, wide: Mapping[str, Any], narrow: Mapping[str, Any], path: str, depth: int
    ) -> Iterator[Refusal]:
        had = self._properties(wide, self.wide_reader, path)
        has = self._properties(narrow, self.narrow_reader, path)
        needed = self.wide_reader.names(wide.get("required"), f"required of {path}")
        for name in self.narrow_reader.names(narrow.get("required"), f"required of {path}"):
            if name not in needed:
                yield Refusal(_field(path, name), "required", name in had, True)
        others = narrow.get("additionalProperties", True)
        for name, schema in had.items():
            if name in has:
                yield from self.refusals(schema, has[name], _field(path, name), depth + 1)
            elif others is False:
                yield Refusal(_field(path, name), "unknown", True, False)
            elif others is not True:
                yield from self.refusals(schema, others, _field(path, name), depth + 1)
        yield from self._of_names(wide, narrow, path, depth)
        before = wide.get("additionalProperties", True)
        if "patternProperties" in wide and "additionalProperties" not in wide:
            return  # its maker means fields of these patterns alone, though others are not refused
        if before is not False and others is False:
            yield Refusal(path, "additionalProperties", True, False)
        elif before is not False and others is not True:
            yield from self.refusals(before, others, _field(path, "*"), depth + 1)

    def _of_names(
        self, wide: Mapping[str, Any], narrow: Mapping[str, Any], path: str, depth: int
    ) -> Iterator[Refusal]:
        """Compare what the names of an object's fields may be: of a map, its keys."""
        keys = f"{path} keys"
        if "propertyNames" in narrow:
            names = wide.get("propertyNames", {"type": "string"})
            yield from self.refusals(names, narrow["propertyNames"], keys, depth + 1)
        had, has = (
            reader.mapping(each.get("patternProperties", {}), f"patternProperties of {path}")
            for reader, each in ((self.wide_reader, wide), (self.narrow_reader, narrow))
        )
        if has and set(has) != set(had):
            yield Refusal(keys, "pattern", " or ".join(had) or None, " or ".join(has))
        for pattern, schema in had.items():
            others = has.get(pattern, narrow.get("additionalProperties", True))
            if others not in (True, False):
                yield from self.refusals(schema, others, _field(path, "*"), depth + 1)

    def _properties(
        self, schema: Mapping[str, Any], reader: Reader, path: str
    ) -> Mapping[str, Any]:
        return reader.mapping(schema.get("properties", {}), f"properties of {path}")

    def _of_arrays(
        self, wide: Mapping[str, Any], narrow: Mapping[str, Any], path: str, depth: int
    ) -> Iterator[Refusal]:
        before, after = wide.get("items", True), narrow.get("items", True)
        if not isinstance(before, list) and not isinstance(after, list):
            yield from self.refusals(before, after, f"{path}[]", depth + 1)
            return
        rest = {id(each): each.get("additionalItems", True) for each in (wide, narrow)}
        firsts = [each if isinstance(each, list) else [] for each in (before, after)]
        rests = [
            rest[id(schema)] if isinstance(items, list) else items
            for schema, items in ((wide, before), (narrow, after))
        ]
        for number in range(max(map(len, firsts))):
            one, other = (
                first[number] if number < len(first) else beyond
                for first, beyond in zip(firsts, rests, strict=True)
            )
            yield from self.refusals(one, other, f"{path}[{number}]", depth + 1)


def _value_refusals(
    wide: Mapping[str, Any], narrow: Mapping[str, Any], values: list[Any] | None, path: str
) -> Iterator[Refusal]:
    """Compare what is an enum or a constant."""
    allowed = _values(narrow)
    if allowed is None:
        return
    if values is None:
        yield Refusal(path, "enum", _kind(wide), allowed)
        return
    known = {_text(value) for value in allowed}
    if gone := [value for value in values if _text(value) not in known]:
        yield Refusal(path, "enum", gone, allowed)


def _values(schema: Mapping[str, Any]) -> list[Any] | None:
    """Return the only values that a schema takes; None where it names none."""
    if "const" in schema:
        return [schema["const"]]
    enum = schema.get("enum")
    if isinstance(enum, list):
        return enum
    return [None] if schema.get("type") == "null" else None


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


def _is_of(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return bool(kind == "boolean")
    return isinstance(kind, str) and isinstance(value, _TYPES.get(kind, ()))


def _may_be_same(wide: Mapping[str, Any], narrow: Mapping[str, Any]) -> bool:
    """Return whether two alternatives are of one kind, and are therefore worth comparing."""
    before, after = wide.get("type"), narrow.get("type")
    return None in (before, after) or _is_within(before, after)


def _is_within(before: Any, after: Any) -> bool:
    """Tell whether all values of one type are of the other."""
    return bool(before == after or (before == "integer" and after == "number"))


def _kind(schema: Mapping[str, Any]) -> str:
    """Return a word for what a schema takes."""
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(map(str, kind))
    if kind is None:
        values = _values(schema)
        return "anything" if values is None else " or ".join(map(_text, values))
    return str(kind)


def _kinds(schemas: list[Mapping[str, Any]]) -> str:
    return " or ".join(dict.fromkeys(map(_kind, schemas)))


def _field(path: str, name: Any) -> str:
    return f"{path}.{name}"


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
