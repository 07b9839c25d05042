"""Finds what a body would lose in JSON, so that it is refused and not sent.

JSON has no NaN and no Infinity: pydantic writes the one or the other as a word that is no JSON, as
null, or as text. A secret is written as asterisks. Two keys of a dict may become the same one.

Nearly all bodies show by their bytes and by the classes in them that none of this is there. The
rest is written twice more, as values of Python, and gone through side by side.
"""

from __future__ import annotations

import cmath
import dataclasses
import functools
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import repeat
from math import isfinite
from typing import Any
from uuid import UUID

from pydantic import Secret, SecretBytes, SecretStr
from pydantic_core import SchemaSerializer, from_json
from pydantic_core.core_schema import any_schema

from mqkit.bodies.loss_risks import NO_RISKS, LossRisks, risks_of
from mqkit.bodies.validation_errors import place
from mqkit.limits import key_twice

_MASK = b"**********"
_WORDS = (b"NaN", b"Infinity", _MASK)
_UNREMARKABLE = bytes(set(range(256)) - set(b"[{NI*"))

_SCALARS = frozenset(
    {str, int, bool, float, type(None), Decimal, datetime, date, time, timedelta, UUID, bytes}
)
"""What is written as it is, or so that its bytes show what is wrong."""

_SEQUENCES = (list, tuple, set, frozenset, deque)
_CONTAINERS = frozenset({dict, *_SEQUENCES})

_SECRETS = (Secret, SecretBytes, SecretStr)

_AS_PYTHON = SchemaSerializer(any_schema())


def marks_in(encoded: bytes) -> bytes:
    """Return the brackets of JSON, also in its strings, and letters that begin `_WORDS`.

    It is one look at all bytes, where each of these would need one.
    """
    return encoded.translate(None, _UNREMARKABLE)


def loss(body: object, encoded: bytes, marks: bytes) -> str | None:
    """Say what of a body is not in its JSON, and what to do; None is that all of it is there.

    :param encoded: the JSON that pydantic has made of it
    :param marks: `marks_in` that
    """
    kind: Any = type(body)
    risks = risks_of(kind) or _risks_within(body)
    shows = bool(marks.strip(b"[{")) and any(word in encoded for word in _WORDS)
    if risks is NO_RISKS and not shows:
        return None
    if risks.joins_keys and (key := key_twice(encoded)) is not None:
        return f"two of its keys are written as the same JSON key, {place([key])!r}"
    if (
        shows
        or risks.has_secrets
        or (risks.joins_keys and (b'nan"' in encoded or b'inf"' in encoded))
        or (
            b"null" in encoded
            and (risks.makes_numbers or (risks.hides_numbers and _holds_not_finite(body)))
        )
    ):
        return next(_losses(body, encoded, deliberate=risks.writes_json_only), None)
    return None


def _risks_within(body: Any) -> LossRisks:
    """Join the risks of all that is in plain containers and dataclasses."""
    found, left = NO_RISKS, [body]
    while left:
        part = left.pop()
        values: Iterable[Any]
        if type(part) is dict:
            values = part.values()
            for key in part:
                if type(key) is not str:
                    found |= LossRisks(joins_keys=True)
                    break
        elif type(part) in _CONTAINERS:
            values = part
        else:
            values = _fields(part)
        for value in values:
            kind: Any = type(value)
            if kind not in _SCALARS:
                risks = risks_of(kind)
                if risks is None:
                    left.append(value)
                elif risks is not NO_RISKS:
                    found |= risks
    return found


def _fields(value: Any) -> list[Any]:
    """Return the values of a dataclass."""
    kind: Any = type(value)
    return [getattr(value, name, None) for name in _names(kind)]


@functools.lru_cache(4096)
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def _holds_not_finite(body: Any) -> bool:
    """Tell whether a number that is not finite is in a body, its models and containers."""
    left = [body]
    while left:
        part = left.pop()
        kind: Any = type(part)
        if kind is float:
            if not isfinite(part):
                return True
        elif kind not in _SCALARS:
            if isinstance(part, float | complex) and _is_not_finite(part):
                return True
            left.extend(_parts(part, kind))
    return False


def _parts(value: Any, kind: Any) -> Iterable[Any]:
    """Return what is in a container, a model, an enum's member or a dataclass."""
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, _SEQUENCES):
        return value
    if hasattr(kind, "__pydantic_fields__") and hasattr(value, "__dict__"):
        extra = getattr(value, "__pydantic_extra__", None) or {}
        return [*value.__dict__.values(), *extra.values()]
    if isinstance(value, Enum):
        return (value.value,)
    return _fields(value) if dataclasses.is_dataclass(kind) else ()


_NUMBER = (
    "is a number that is not finite, and JSON has none such: leave it out, send null, or a text of "
    "your own by a field_serializer"
)
_MASKED = (
    "is a secret, which would be written as asterisks: send get_secret_value(), by a "
    "field_serializer of its model"
)


def _losses(body: object, encoded: bytes, *, deliberate: bool) -> Iterator[str]:
    """Find each loss by comparing three forms of a body: JSON, Python's values, and between.

    :param deliberate: whether serializers that run for JSON alone may have replaced a number
    """
    as_python = _dumped(body, "python")
    left: list[tuple[tuple[Any, ...], Any, Any, Any]] = [
        ((), from_json(encoded), as_python, _dumped(body, "json"))
    ]
    if as_python is _UNKNOWN and _MASK in encoded:
        yield f"it {_MASKED}"
    while left:
        path, written, value, between = left.pop()
        if isinstance(value, Enum):
            value = value.value
        if isinstance(written, dict | list):
            for name, key, inner in _inner(written, value, between):
                if _is_not_finite(name):
                    yield f"a key of it, {place((*path, key))!r}, {_NUMBER}"
                left.append(((*path, key), *inner))
        elif _is_lost(written, value, surely=_is_not_finite(between) or not deliberate):
            yield f"{place(path)!r} {_NUMBER}"
        elif _is_masked(written, value):
            yield f"{place(path)!r} {_MASKED}"


def _inner(
    written: dict[str, Any] | list[Any], value: Any, between: Any
) -> Iterator[tuple[Any, Any, tuple[Any, Any, Any]]]:
    """Yield the key in Python and in JSON of each value in a container, and its three forms.

    Both write the items in the same order. Where they have not the same, what is within has no
    counterpart: a serializer of the application has made something else.
    """
    count = len(written)
    if isinstance(written, dict):
        same = isinstance(value, dict) and len(value) == count
        items = value.items() if same else repeat((None, _UNKNOWN), count)
        for (key, inner), (name, found) in zip(written.items(), items, strict=True):
            yield name, key, (inner, found, between.get(key) if isinstance(between, dict) else None)
        return
    same = isinstance(value, _SEQUENCES) and len(value) == count
    founds = value if same else repeat(_UNKNOWN, count)
    same = isinstance(between, list) and len(between) == count
    betweens = between if same else repeat(None, count)
    for index, forms in enumerate(zip(written, founds, betweens, strict=True)):
        yield None, index, forms


_UNKNOWN = object()
"""Stands for what has no counterpart in another form."""


def _dumped(body: object, mode: str) -> Any:
    try:
        return _AS_PYTHON.to_python(body, mode=mode, by_alias=True, warnings=False)
    except Exception:  # noqa: BLE001 - JSON was made of it: the other form is a help only
        return _UNKNOWN


def _is_not_finite(value: Any) -> bool:
    if isinstance(value, Decimal):
        return not value.is_finite()
    return isinstance(value, float | complex) and not cmath.isfinite(value)


def _is_lost(written: Any, value: Any, *, surely: bool) -> bool:
    """Tell whether a number is not finite in JSON, or was so before it became null or text."""
    if type(written) is float:
        return _is_not_finite(written)
    if not surely or not _is_not_finite(value):
        return False
    # A float as text is asked for (ser_json_inf_nan="strings"), and read again as what it was.
    return written is None or (isinstance(written, str) and not isinstance(value, float))


def _is_masked(written: Any, value: Any) -> bool:
    if not isinstance(value, _SECRETS) or written not in (str(value), _MASK.decode()):
        return False
    secret = value.get_secret_value()
    if isinstance(secret, bytes):
        secret = secret.decode("utf-8", "replace")
    return bool(secret != written)
