"""Writes order keys as text: the same text for equal keys, in every process.

What a key is written as by `str` will not do. `Decimal("7.0")` equals 7 and `True` equals 1, and
each is written in another way; a set is written in the order of a hash seed, and an object by its
address. Two texts for one account are two partitions, and two runs of it at a time.
"""

from __future__ import annotations

import operator
import re
import types
import typing
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, TypeGuard
from uuid import UUID

from pydantic import BaseModel

from mqkit.errors import OrderError

MAX_DIGITS = 1000
"""Before the point of a number that is a key: `1E+999999999` would be written out as an integer."""

_LARGEST = 10**MAX_DIGITS

KEY_TYPES = (
    "str, bytes, int, bool, float, Decimal, UUID, date, datetime, timedelta, an Enum of those, or "
    "a tuple of those"
)


def canonical(key: Any) -> str | None:
    """Write a key as the text that equal keys share; None, which keeps no order, has none.

    Texts and integers stay as they are. A number is its exact value, whatever its type; a datetime
    with a time zone is the instant in UTC; an Enum's member is its value.

    :raises OrderError: it is of a type for which there is no such text, has an equality of its
        own, is not equal to itself (NaN), or has more than `MAX_DIGITS` digits
    """
    return None if key is None else _text(key)


def _text(key: Any) -> str:
    for kind, write in _WRITERS:
        if isinstance(key, kind):
            _refuse_own_equality(key, kind)
            return write(key)
    if isinstance(key, Enum):
        _refuse_own_equality(key, object)
        return _text(key.value)
    raise OrderError(f"a key is {KEY_TYPES}, not {type(key).__qualname__}")


def _refuse_own_equality(key: Any, base: Any) -> None:
    if type(key).__eq__ is not base.__eq__:
        raise OrderError(
            f"a key of type {type(key).__qualname__} is equal in a way of its own, unlike its "
            f"base, {base.__qualname__}; let order_by return the latter"
        )


def _integer(key: int) -> str:
    if not -_LARGEST < key < _LARGEST:
        raise OrderError(f"a number that is a key has {MAX_DIGITS} digits at most")
    return int.__repr__(key)  # of True, too, which equals 1


def _decimal(key: Decimal) -> str:
    sign, digits, exponent = Decimal.as_tuple(key)
    if not isinstance(exponent, int):
        if Decimal.is_nan(key):
            raise OrderError("NaN is not equal to itself, and no key")
        return "-inf" if sign else "inf"
    written = "".join(map(str, digits)).lstrip("0")
    if not written:
        return "0"
    bare = written.rstrip("0")
    if max(len(bare), len(written) + exponent) > MAX_DIGITS:
        raise OrderError(f"a number that is a key has {MAX_DIGITS} digits at most")
    exponent += len(written) - len(bare)
    if exponent >= 0:
        return "-" * sign + bare + "0" * exponent
    # Exact, unlike `normalize`, which rounds to the context's precision.
    return Decimal.__str__(Decimal((sign, tuple(map(int, bare)), exponent)))


def _datetime(key: datetime) -> str:
    # Of two with one time zone neither equality nor hash looks at the fold.
    key = datetime.replace(key, fold=0)
    offset = key.utcoffset()
    if offset is None:
        return datetime.isoformat(key, " ")
    try:
        return datetime.isoformat((key.replace(tzinfo=None) - offset).replace(tzinfo=UTC), " ")
    except OverflowError:  # the first and the last day that there are
        return str((key.replace(tzinfo=None) - _FIRST_DAY) - offset)


_FIRST_DAY = datetime(1, 1, 1)  # noqa: DTZ001 - what it is taken from has no time zone either

_ESCAPED = re.compile(
    r"\\\\|\\[xuU](?P<code>(?<=x)[89a-f][0-9a-f]|(?<=u)[0-9a-f]{4}|(?<=U)[0-9a-f]{8})"
)


def _element(key: Any) -> str:
    if key is None:
        return "None"
    if not isinstance(key, str):
        return _text(key)
    # Not `repr`, whose escapes depend on the version of Unicode that a Python knows.
    return _ESCAPED.sub(_character, ascii(_text(key)))


def _character(escape: re.Match[str]) -> str:
    return escape[0] if escape[0] == "\\\\" else chr(int(escape["code"], 16))


def _tuple(key: tuple[Any, ...]) -> str:
    elements = [_element(each) for each in tuple.__iter__(key)]
    return f"({', '.join(elements)}{',' if len(elements) == 1 else ''})"


_WRITERS: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (str, str.__str__),
    (int, _integer),
    (bytes, bytes.__repr__),
    (float, lambda key: _decimal(Decimal(key))),
    (Decimal, _decimal),
    (UUID, UUID.__str__),
    (datetime, _datetime),  # before its base
    (date, date.isoformat),
    (timedelta, timedelta.__str__),
    (tuple, _tuple),
)

_KINDS = (*(kind for kind, _ in _WRITERS), Enum, type(None))


def may_be_key(annotation: Any) -> bool:
    """Tell whether values of an annotated type can be keys; True where it does not show."""
    annotation = getattr(annotation, "__value__", annotation)  # of `type X = ...`
    annotation = getattr(annotation, "__supertype__", annotation)  # of NewType
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return may_be_key(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return any(may_be_key(each) for each in arguments if each is not type(None))
    if origin is tuple:
        return all(each is Ellipsis or may_be_key(each) for each in arguments)
    kind = origin or annotation
    if not isinstance(kind, type) or kind is Any or getattr(kind, "_is_protocol", False):
        return True  # as a TypeVar, or a Literal
    if issubclass(kind, _KINDS) or any(issubclass(each, kind) for each in _KINDS):
        return True
    # The values of pydantic's EmailStr and AwareDatetime, say, are of another type.
    return hasattr(kind, "__get_pydantic_core_schema__") and not issubclass(kind, BaseModel)


def is_getter(
    order_by: Callable[[Any], Any],
) -> TypeGuard[operator.attrgetter[Any] | operator.itemgetter[Any]]:
    """Tell whether `order_by` reads a field of the body, and leaves that as it is."""
    return isinstance(order_by, operator.attrgetter | operator.itemgetter)


def annotation_of(order_by: Callable[[Any], Any], body_type: Any) -> Any:
    """Find what `order_by` is annotated to return for a body; Any where nothing says so."""
    if is_getter(order_by):
        name: str = order_by.__reduce__()[1][0]
        found = _hints(body_type).get(name)
        if found is None and isinstance(member := getattr(body_type, name, None), property):
            found = _hints(member.fget).get("return")
    else:
        found = _hints(order_by).get("return")
    return Any if found is None else found


def _hints(of: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(of, include_extras=True)
    except Exception:  # noqa: BLE001 - it has none, or they name what is not there: nothing shows
        return {}
