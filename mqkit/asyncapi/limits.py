"""Compares the limits of two JSON Schemas: which values beyond them the one allows alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

Limit = tuple[str, Any, Any]
"""A keyword, and what it is in the wide schema and in the narrow one."""

_SIZES = {
    "minLength": 1,
    "minItems": 1,
    "minProperties": 1,
    "maxLength": -1,
    "maxItems": -1,
    "maxProperties": -1,
}
"""Limits, and in which direction each refuses more."""

_ENDS = (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1))
"""How the least and the greatest value are written, and in which direction each refuses more."""

_SAME = ("format", "pattern", "multipleOf", "uniqueItems", "contentEncoding", "contains", "not")
"""Keywords that refuse something, of which two that differ are not compared any further."""


def tighter(wide: Mapping[str, Any], narrow: Mapping[str, Any]) -> Iterator[Limit]:
    """Yield the limits by which the narrow schema refuses what the wide one allows."""
    for keyword, direction in _SIZES.items():
        before, after = wide.get(keyword), narrow.get(keyword)
        # Not by float: an integer of a document may have hundreds of digits.
        if is_number(after) and (
            not is_number(before) or (after > before if direction > 0 else after < before)
        ):
            yield keyword, before, after
    for closed, beyond, direction in _ENDS:
        whole = wide.get("type") == "integer"
        begin = _end(wide, closed, beyond, direction, whole)
        end = _end(narrow, closed, beyond, direction, whole)
        if end is not None and (begin is None or end[:2] > begin[:2]):
            yield end[2], wide.get(end[2]), narrow[end[2]]
    for keyword in _SAME:
        if keyword in narrow and narrow[keyword] not in (wide.get(keyword), False):
            yield keyword, wide.get(keyword), narrow[keyword]


def _end(
    schema: Mapping[str, Any], closed: str, beyond: str, direction: int, whole: bool
) -> tuple[float, bool, str] | None:
    """Return where a schema's values end, whether before that, and which keyword says so.

    Of whole numbers, over 0 is the same as from 1 on.
    """
    found = []
    for keyword in (closed, beyond):
        value, is_beyond = schema.get(keyword), keyword == beyond
        if not is_number(value):
            continue
        end = value * direction
        if whole and (isinstance(end, int) or math.isfinite(end)):
            end, is_beyond = (math.floor(end) + 1 if is_beyond else math.ceil(end)), False
        found.append((end, is_beyond, keyword))
    return max(found, default=None)


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is one that a limit can be."""
    return isinstance(value, int | float) and not isinstance(value, bool)
