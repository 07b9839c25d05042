"""Walks and changes pydantic's core schemas before a validator is built of them.

The schema of a type is nested dicts (`pydantic_core.core_schema`). What validates bodies that are
not usual (large ones, numbers that a float cannot hold) is built from a changed copy of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from pydantic_core import PydanticKnownError, SchemaValidator

Schema: TypeAlias = dict[str, Any]

NO_SCHEMAS = frozenset(
    {
        "cls",
        "computed_fields",
        "config",
        "custom_error_context",
        "default",
        "default_factory",
        "expected",
        "function",
        "json_schema_input_schema",
        "members",
        "metadata",
        "serialization",
    }
)
"""Keys of a schema under which there is none that validates: a default may look like one."""

_CONTAINERS = frozenset(
    {
        "counter",
        "deque",
        "dict",
        "frozen-dict",
        "frozenset",
        "list",
        "ordered-dict",
        "set",
        "tuple",
    }
)

_NO_MORE = object()
"""Stands in a read TypedDict for what must not be in it."""


def schemas_in(schema: Any) -> Iterator[Schema]:
    """Yield every schema within a schema, itself included."""
    found: list[Any] = [schema]
    while found:
        part = found.pop()
        if isinstance(part, dict):
            if not _is_schema(part):
                found.extend(part.values())
                continue
            yield part
            found.extend(value for key, value in part.items() if key not in NO_SCHEMAS)
        elif isinstance(part, list | tuple):
            found.extend(part)


def validator(schema: Any, change: Callable[[Schema, bool], Schema]) -> SchemaValidator:
    """Build a validator from a schema that is changed in every place.

    :param change: gets a copy of each schema, whose inner ones are changed already, and whether
        models there forbid what they have no field for; returns what takes its place
    """
    # Models within it are compiled anew, and not taken over as their classes have them.
    return SchemaValidator(_changed(schema, change, forbids=False), _use_prebuilt=False)


def stop_early(schema: Schema, forbids: bool) -> Schema:
    """Change one schema so that it finds a bounded number of errors, whatever comes.

    A container stops at the first wrong item of it. What may have no more keys than it knows takes
    all of them first, and is refused as a whole after that: pydantic makes an error of each.
    """
    kind = schema["type"]
    if kind in _CONTAINERS:
        schema["fail_fast"] = True
    elif kind in _REFUSALS and schema.get("extra_behavior", "forbid" if forbids else "") == (
        "forbid"
    ):
        if kind != "model-fields" and _has_aliases(schema["fields"]):
            return schema  # a key that is a field's name would be taken for the field, or left out
        if kind == "typed-dict":
            schema["extras_schema"] = _ANYTHING
        refuse = _REFUSALS[kind](schema)
        return around(
            {**schema, "extra_behavior": "allow"},
            {"type": "function-after", "function": {"type": "no-info", "function": refuse}},
        )
    return schema


def around(schema: Schema, outer: Schema) -> Schema:
    """Put one schema around another one, in whose place it then stands, also for references."""
    reference = {"ref": schema.pop("ref")} if "ref" in schema else {}
    return {**outer, **reference, "schema": schema}


def _changed(part: Any, change: Callable[[Schema, bool], Schema], *, forbids: bool) -> Any:
    if isinstance(part, list):
        return [_changed(each, change, forbids=forbids) for each in part]
    if isinstance(part, tuple):
        return tuple(_changed(each, change, forbids=forbids) for each in part)
    if not isinstance(part, dict):
        return part
    if not _is_schema(part):
        return {key: _changed(value, change, forbids=forbids) for key, value in part.items()}
    if "config" in part:  # it is not added to that of what is around it
        forbids = (part["config"] or {}).get("extra_fields_behavior") == "forbid"
    copied = {
        key: value if key in NO_SCHEMAS else _changed(value, change, forbids=forbids)
        for key, value in part.items()
    }
    return change(copied, forbids)


def _is_schema(part: dict[Any, Any]) -> bool:
    """Tell whether a dict is a schema (or a field), and not what holds several by name."""
    return isinstance(part.get("type"), str)


def _has_aliases(fields: dict[str, Schema] | list[Schema]) -> bool:
    each = fields.values() if isinstance(fields, dict) else fields
    return any("validation_alias" in field for field in each)


def _refuse_in_model(_: Schema) -> Callable[[Any], Any]:
    def refuse(read: tuple[dict[str, Any], dict[str, Any] | None, set[str]]) -> Any:
        values, extra, fields_set = read
        if extra:
            raise PydanticKnownError("extra_forbidden")
        return values, None, fields_set

    return refuse


def _refuse_in_mapping(_: Schema) -> Callable[[Any], Any]:
    def refuse(read: dict[str, Any]) -> Any:
        if any(value is _NO_MORE for value in read.values()):
            raise PydanticKnownError("extra_forbidden")
        return read

    return refuse


def _refuse_in_dataclass(schema: Schema) -> Callable[[Any], Any]:
    names = {field["name"] for field in schema["fields"]}

    def refuse(read: tuple[dict[str, Any], Any]) -> Any:
        if not names.issuperset(read[0]):
            raise PydanticKnownError("extra_forbidden")
        return read

    return refuse


_REFUSALS: dict[str, Callable[[Schema], Callable[[Any], Any]]] = {
    "dataclass-args": _refuse_in_dataclass,
    "model-fields": _refuse_in_model,
    "typed-dict": _refuse_in_mapping,
}
"""Of what may forbid keys: makes what looks at all that was read, and refuses it."""

_ANYTHING: Schema = {
    "type": "function-plain",
    "function": {"type": "no-info", "function": lambda _: _NO_MORE},
}
