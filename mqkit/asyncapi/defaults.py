"""Compares what fields mean where they are left out, and which optional ones are new or gone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mqkit.asyncapi.fields import resolved
from mqkit.asyncapi.reading import Reader
from mqkit.asyncapi.words import value_text

MAX_DEPTH = 64
"""Levels of schemas in each other that are compared."""

_ALTERNATIVES = ("anyOf", "oneOf")


@dataclass(frozen=True, slots=True)
class Told:
    """One such change: of which field, what, and whether it breaks who relies on the old one."""

    path: str
    what: str
    breaking: bool


@dataclass(slots=True)
class Defaults:
    """Two schemas of two documents, compared part by part, each pair once."""

    old: Reader
    new: Reader
    receives: bool
    """Whether the message is received: what its sender leaves out is for the receiver to mean."""
    _known: dict[tuple[str, str], list[Told]] = field(default_factory=dict)
    """Changes of the pairs of schemas that were compared, by their text; none of a pair that is
    being compared, as a recursive type refers to itself."""

    def changes(self, was: Any, is_: Any, path: str = "", depth: int = 0) -> Iterator[Told]:
        """Yield what has changed of fields that may be left out."""
        pair = (_text(was), _text(is_))
        if pair not in self._known and depth <= MAX_DEPTH:
            self._known[pair] = []
            before, after = resolved(was, self.old), resolved(is_, self.new)
            self._known[pair] = [
                *self._of_fields(before, after, depth),
                *self._of_parts(before, after, depth),
            ]
        for each in self._known.get(pair, ()):
            yield replace(each, path=path + each.path)

    def _of_fields(
        self, before: Mapping[str, Any], after: Mapping[str, Any], depth: int
    ) -> Iterator[Told]:
        was, is_ = (
            reader.mapping(each.get("properties", {}), "properties")
            for reader, each in ((self.old, before), (self.new, after))
        )
        needed = self.new.names(after.get("required"), "required")
        needed_before = self.old.names(before.get("required"), "required")
        for name, schema in was.items():
            if name in is_:
                yield from self._of_field(f".{name}", schema, is_[name], name in needed)
                yield from self.changes(schema, is_[name], f".{name}", depth + 1)
            elif name not in needed and name not in needed_before:
                told = "is ignored now" if self.receives else "is not described any more"
                yield Told(f".{name}", told, breaking=False)
        for name in is_:
            if name not in was and name not in needed:
                yield Told(f".{name}", "is new, and may be left out", breaking=False)

    def _of_field(self, path: str, was: Any, is_: Any, needed: bool) -> Iterator[Told]:
        had, has = (isinstance(each, dict) and "default" in each for each in (was, is_))
        if had and not has and not needed:
            told = f"has no default any more; left out, it was {value_text(was['default'])}"
            yield Told(path, told, breaking=self.receives)
        elif had and has and _text(was["default"]) != _text(is_["default"]):
            told = f"is {value_text(is_['default'])} now where it is left out, and was "
            yield Told(path, told + value_text(was["default"]), breaking=self.receives)

    def _of_parts(
        self, before: Mapping[str, Any], after: Mapping[str, Any], depth: int
    ) -> Iterator[Told]:
        """Compare what lists and maps hold, and each alternative with the one that it is now."""
        for suffix, keyword in (("[]", "items"), (".*", "additionalProperties")):
            one, other = before.get(keyword), after.get(keyword)
            if isinstance(one, dict) and isinstance(other, dict):
                yield from self.changes(one, other, suffix, depth + 1)
            elif isinstance(one, list) and isinstance(other, list):
                for number, (first, second) in enumerate(zip(one, other, strict=False)):
                    yield from self.changes(first, second, f"[{number}]", depth + 1)
        choices, taken = _choices(before, self.old), _choices(after, self.new)
        if len(choices) > 1 or len(taken) > 1:
            for each in choices:
                now = _same(resolved(each, self.old), taken, self.new)
                if now is not None:
                    yield from self.changes(each, now, "", depth + 1)


def _choices(schema: Mapping[str, Any], reader: Reader) -> list[Any]:
    for keyword in _ALTERNATIVES:
        if keyword in schema:
            return reader.listed(schema[keyword], keyword)
    return [schema]


def _same(choice: Mapping[str, Any], taken: list[Any], reader: Reader) -> Any:
    """Return the alternative that one is now: of its type and title, or alone of its type."""
    alike = [
        (each, found.get("title"))
        for each in taken
        if (found := resolved(each, reader)).get("type") == choice.get("type")
    ]
    named = [each for each, title in alike if title == choice.get("title")]
    if len(named) == 1:
        return named[0]
    return alike[0][0] if len(alike) == 1 else None


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
