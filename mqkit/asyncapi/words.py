"""Says in words what one schema refuses of another one."""

from __future__ import annotations

import json
from typing import Any

from mqkit.asyncapi.compatibility import Refusal
from mqkit.logging.shown import shown

MAX_VALUE, MAX_VALUES = 60, 120
"""Characters of one value, and of several, that are shown."""


def told_less(refusal: Refusal) -> str:
    """Say what is not taken any more: the old schema is the wide one."""
    wide, narrow = refusal.wide, refusal.narrow
    if refusal.keyword in _LESS:
        return _LESS[refusal.keyword].format(wide=wide, narrow=narrow)
    if refusal.keyword == "required":
        return "is required now" if wide else "is new and required"
    if refusal.keyword == "enum":
        one_of = isinstance(wide, list)
        return (
            f"does not take {_values(wide)} any more"
            if one_of
            else f"takes {_values(narrow)} alone"
        )
    return _limit(refusal.keyword, wide, narrow)


_LESS = {
    "type": "takes {narrow} now, and took {wide}",
    "unknown": "is gone, and fields that are not known are refused",
    "additionalProperties": "refuses fields that it does not know now",
}


def told_more(refusal: Refusal) -> str:
    """Say what may come that did not before: the new schema is the wide one."""
    wide, narrow = refusal.wide, refusal.narrow
    if refusal.keyword in _MORE:
        return _MORE[refusal.keyword].format(wide=wide, narrow=narrow)
    if refusal.keyword == "required":
        return "may be left out now" if wide else "is not there any more"
    if refusal.keyword == "enum":
        one_of = isinstance(wide, list)
        return f"may be {_values(wide) if one_of else f'any {wide}'} now"
    return _limit(refusal.keyword, narrow, wide)


_MORE = {
    "type": "may be {wide} now, and was {narrow}",
    "unknown": "is new, and was refused as a field that is not known",
    "additionalProperties": "may have fields that are not described now",
}


def told_wider(refusal: Refusal) -> str:
    """Say what is taken that was not before."""
    if refusal.keyword == "required":
        return "need not be there any more"
    return "is new" if refusal.keyword == "unknown" else f"takes more: {told_more(refusal)}"


def told_fewer(refusal: Refusal) -> str:
    """Say what is not sent any more, and breaks nobody."""
    if refusal.keyword == "required":
        return "is there always now" if refusal.wide else "is new, and is there always"
    return "is gone" if refusal.keyword == "unknown" else f"is narrower: {told_less(refusal)}"


def _limit(keyword: str, before: Any, after: Any) -> str:
    if before is None:
        return f"has a {keyword} now: {value_text(after)}"
    if after is None:
        return f"has no {keyword} any more; it was {value_text(before)}"
    return f"{keyword} was {value_text(before)} and is {value_text(after)}"


def value_text(value: Any) -> str:
    """Return a value as JSON, cut where it is long."""
    return shown(json.dumps(value, ensure_ascii=False), MAX_VALUE)


def _values(values: list[Any]) -> str:
    texts = (json.dumps(value, ensure_ascii=False) for value in values)
    return shown(" or ".join(texts), MAX_VALUES)
