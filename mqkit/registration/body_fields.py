"""Finds the fields of a body's type: what `order_by` may name."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from mqkit.checks.calls import nearest
from mqkit.errors import HandlerError


@dataclass(frozen=True, slots=True)
class Fields:
    """What the values of a type have under a name."""

    type: str
    """The type's name."""
    names: tuple[str, ...] = ()
    has_keys: bool = False
    """Whether they are the keys of a dict, and no attributes."""
    is_record: bool = False
    """Whether it is a class that declares them: a model, a dataclass, a TypedDict, a NamedTuple."""
    is_open: bool = False
    """Whether values may have others: a dict has any, and of many a type nothing shows."""


def field_getter(
    name: str, body_type: Any, what: str, *, option: str = "order_by"
) -> Callable[[Any], Any]:
    """Return a function that gets a body's field: its attribute, or of a dict the key's value.

    Of a union, all must have it. That None may come instead of a body is for who asks.

    :param what: what the error calls the handler
    :param option: what the error calls the option that names the field
    :raises HandlerError: a body has no such field; the error says which it has
    """
    alternatives = [fields_of(each) for each in members(body_type) if each is not type(None)]
    for each in alternatives:
        if name not in each.names and not each.is_open:
            raise HandlerError(_missing(name, each, what, option))
    if len({each.has_keys for each in alternatives}) > 1:
        dicts, others = (
            " and ".join(each.type for each in alternatives if each.has_keys is has_keys)
            for has_keys in (True, False)
        )
        raise HandlerError(
            f"{what}: {option}={name!r} would be a key of {dicts}, and an attribute of {others}; "
            "give a function of the body"
        )
    if alternatives and alternatives[0].has_keys:
        return operator.itemgetter(name)
    if not name.isidentifier():
        raise HandlerError(f"{what}: {option}={name!r} is not the name of an attribute")
    return operator.attrgetter(name)


def _missing(name: str, fields: Fields, what: str, option: str) -> str:
    if not fields.names:
        return (
            f"{what}: {option}={name!r}, and a body of type {fields.type} has no fields; give a "
            "function of the body"
        )
    has = f"it has {', '.join(fields.names)}"
    near = nearest(name, list(fields.names))
    guess = f"{near} {has[0].upper()}{has[1:]}" if near.endswith("?") else f"; {has}"
    return f"{what}: {option}={name!r} is no field of {fields.type}{guess}"


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the types that a value of an annotated type may have: those of a union, or itself."""
    annotation = getattr(annotation, "__value__", annotation)  # of `type X = ...`
    annotation = getattr(annotation, "__supertype__", annotation)  # of NewType
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return members(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(inner for each in arguments for inner in members(each))
    return (annotation,)


def fields_of(annotation: Any) -> Fields:
    """Find the fields of one type, which is no union."""
    kind = typing.get_origin(annotation) or annotation
    if not isinstance(kind, type):
        return Fields(str(annotation), is_open=True)  # as Any, a Literal, a TypeVar
    name = kind.__qualname__
    is_typed_dict = hasattr(kind, "__required_keys__")
    if is_typed_dict or issubclass(kind, Mapping):
        keys = tuple(getattr(kind, "__annotations__", ())) if is_typed_dict else ()
        return Fields(name, keys, has_keys=True, is_record=is_typed_dict, is_open=not is_typed_dict)
    declared = _declared(kind)
    is_open = kind.__module__ != "builtins" or kind is object
    if declared is not None:
        is_open = issubclass(kind, BaseModel) and kind.model_config.get("extra") == "allow"
    is_open = is_open or getattr(kind, "__getattr__", None) not in (None, _MODELS_OWN)
    names = tuple(dict.fromkeys((*(declared or ()), *_computed(kind))))
    return Fields(name, names, is_record=declared is not None, is_open=is_open)


def _declared(kind: type) -> tuple[str, ...] | None:
    """Return the fields that a class declares; None of one that is no record."""
    if issubclass(kind, BaseModel):
        return (*kind.model_fields, *kind.model_computed_fields)
    if dataclasses.is_dataclass(kind):
        return tuple(each.name for each in dataclasses.fields(kind))
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return tuple(kind._fields)
    return None


def _computed(kind: type) -> list[str]:
    """Name a class's properties and other attributes that are no methods, but not a model's own."""
    return [
        name
        for name in dir(kind)
        if not name.startswith("_")
        and not hasattr(BaseModel, name)
        and isinstance(inspect.getattr_static(kind, name), _ATTRIBUTES)
    ]


_MODELS_OWN = getattr(BaseModel, "__getattr__", None)
"""It finds private attributes, and what a model with `extra="allow"` was given."""

_ATTRIBUTES = (
    property,
    functools.cached_property,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
