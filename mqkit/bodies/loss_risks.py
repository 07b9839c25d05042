"""Finds, by a class alone, what may be lost when a value of it is written as JSON."""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from collections.abc import Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from mqkit.bodies.schemas import NO_SCHEMAS, Schema


@dataclasses.dataclass(frozen=True, slots=True)
class LossRisks:
    """The losses in JSON that values of a class may have."""

    hides_numbers: bool = False
    """Numbers in it that are not finite may be written as null."""
    makes_numbers: bool = False
    """Its own functions may make such numbers while it is written."""
    joins_keys: bool = False
    """Two keys may be written as the same one."""
    has_secrets: bool = False
    """It has fields that pydantic masks."""
    writes_json_only: bool = False
    """It has serializers that run for JSON alone, so that what they replace cannot be told."""

    def __or__(self, other: LossRisks) -> LossRisks:
        return LossRisks(
            self.hides_numbers or other.hides_numbers,
            self.makes_numbers or other.makes_numbers,
            self.joins_keys or other.joins_keys,
            self.has_secrets or other.has_secrets,
            self.writes_json_only or other.writes_json_only,
        )


NO_RISKS = LossRisks()
ANY_RISK = LossRisks(hides_numbers=True, makes_numbers=True, joins_keys=True)

_SCALARS = (
    str,
    int,
    float,
    type(None),
    bytes,
    Decimal,
    date,
    time,
    timedelta,
    UUID,
    Enum,
    PurePath,
)
_CONTAINERS = frozenset({dict, list, tuple, set, frozenset, deque})

_TRANSPARENT = frozenset(
    {
        "bool",
        "bytes",
        "chain",
        "custom-error",
        "dataclass",
        "dataclass-args",
        "dataclass-field",
        "date",
        "datetime",
        "decimal",
        "default",
        "definition-ref",
        "definitions",
        "deque",
        "dict",
        "enum",
        "frozenset",
        "function-after",
        "function-before",
        "function-wrap",
        "int",
        "json-or-python",
        "lax-or-strict",
        "list",
        "literal",
        "model",
        "model-field",
        "model-fields",
        "multi-host-url",
        "named-tuple",
        "named-tuple-field",
        "none",
        "nullable",
        "set",
        "str",
        "tagged-union",
        "time",
        "timedelta",
        "tuple",
        "typed-dict",
        "typed-dict-field",
        "union",
        "url",
        "uuid",
    }
)
"""Types of schemas that are written as they are: what may go wrong is in the schemas within."""

_NUMBERS = frozenset({"complex", "float", "fraction"})

_OF_ITEMS = {
    "deque": {"items_schema"},
    "dict": {"keys_schema", "values_schema"},
    "frozenset": {"items_schema"},
    "list": {"items_schema"},
    "set": {"items_schema"},
}
"""Containers, and where the schemas of what is in them stand; without them it may be anything."""

_OF_FIELDS = frozenset({"dataclass-args", "model-fields", "typed-dict"})

_SAFE_WRITERS = frozenset({"format", "to-string"})

_TEXT_WRITERS = frozenset({"ser_ip", "ser_path"})
"""Functions of pydantic that write a value as text. One that is not known costs a look at JSON."""


@functools.lru_cache(4096)
def risks_of(kind: Any) -> LossRisks | None:
    """Return the risks of a class; None is a container, whose values are looked at one by one."""
    if kind in _CONTAINERS:
        return None
    schema = kind.__dict__.get("__pydantic_core_schema__")
    if isinstance(schema, dict):
        return _of_schema(schema)
    if schema is None and dataclasses.is_dataclass(kind):
        return None
    return NO_RISKS if issubclass(kind, _SCALARS) else ANY_RISK


def _of_schema(schema: Schema) -> LossRisks:
    found, made = NO_RISKS, LossRisks()
    left: list[tuple[Any, bool]] = [(schema, False)]
    while left:
        part, is_made = left.pop()
        if isinstance(part, list | tuple):
            left.extend((each, is_made) for each in part)
        elif isinstance(part, dict):
            if not isinstance(part.get("type"), str):  # several, by name
                left.extend((each, is_made) for each in part.values())
                continue
            if writer := part.get("serialization"):
                here = _of_writer(writer)
                left.append((writer.get("return_schema"), True))
            else:
                here = _of_part(part)
                left.extend((each, is_made) for k, each in part.items() if k not in NO_SCHEMAS)
                left.extend((each["return_schema"], True) for each in _computed(part))
            found |= here
            made |= here if is_made else NO_RISKS
    found |= LossRisks(makes_numbers=made.hides_numbers)
    return NO_RISKS if found == NO_RISKS else found


def _of_writer(writer: Schema) -> LossRisks:
    """Return the risks of a serializer, which writes a value in place of its schema."""
    function: Any = writer.get("function")
    if getattr(function, "__module__", "").startswith("pydantic."):
        if "secret" in function.__name__:
            return LossRisks(has_secrets=True)
        if function.__name__ in _TEXT_WRITERS:
            return NO_RISKS
    if writer["type"] in _SAFE_WRITERS:
        return NO_RISKS
    unknown = NO_RISKS if writer.get("return_schema") else ANY_RISK
    return unknown | LossRisks(writes_json_only=writer.get("when_used", "").startswith("json"))


def _of_part(part: Schema) -> LossRisks:
    kind, config = part["type"], part.get("config") or {}
    extra = part.get("extra_behavior", config.get("extra_fields_behavior"))
    if kind not in _TRANSPARENT or extra == "allow" or config.get("polymorphic_serialization"):
        return LossRisks(hides_numbers=True) if kind in _NUMBERS else ANY_RISK
    if kind in _OF_ITEMS and not _OF_ITEMS[kind] <= part.keys():
        return ANY_RISK
    if kind == "enum":
        return LossRisks(hides_numbers=any(isinstance(m.value, float) for m in part["members"]))
    if kind == "dict":
        return LossRisks(joins_keys=part["keys_schema"]["type"] != "str")
    if "fields" in part and kind in _OF_FIELDS:
        names = [
            *_names(part["fields"]),
            *(_name(each) for each in _computed(part)),
        ]
        return LossRisks(joins_keys=len(set(names)) < len(names))
    return NO_RISKS


def _computed(part: Schema) -> list[Schema]:
    found: list[Schema] = part.get("computed_fields", [])
    return found


def _names(fields: Any) -> Iterator[str]:
    """Return the names of fields in JSON."""
    if isinstance(fields, dict):
        return (field.get("serialization_alias", name) for name, field in fields.items())
    return (field.get("serialization_alias", field["name"]) for field in fields)


def _name(computed: Schema) -> str:
    return str(computed.get("alias", computed["property_name"]))
