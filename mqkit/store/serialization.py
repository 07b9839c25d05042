"""Writes a message's properties as text for a row, and reads them, types of headers included."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from typing import Any

from mqkit.message import Properties

_TAG = "$mqkit"
"""The only key of an object that stands for a value which JSON does not have."""

_DECODERS: dict[str, Callable[[str], Any]] = {
    "bytes": base64.b64decode,
    "decimal": Decimal,
    "time": datetime.fromisoformat,
}


def writable(text: str) -> str:
    """Escape what a database refuses in a text: NUL, and halves of characters."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def properties_to_text(properties: Properties) -> str:
    """Write all properties that are set as JSON."""
    values = {item.name: getattr(properties, item.name) for item in fields(properties)}
    return json.dumps({k: _plain(v) for k, v in values.items() if v is not None})


def properties_from_text(text: str) -> Properties:
    """Read the properties that `properties_to_text` wrote."""
    return Properties(**{k: _rich(v) for k, v in json.loads(text).items()})


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return {_TAG: ["bytes", base64.b64encode(value).decode()]}
        case Decimal():
            return {_TAG: ["decimal", str(value)]}
        case datetime():
            return {_TAG: ["time", value.isoformat()]}
        case list() | tuple():
            return [_plain(item) for item in value]
        case dict():
            plain = {key: _plain(item) for key, item in value.items()}
            # A table that looks like a tag is written as pairs.
            return {_TAG: ["table", [*plain.items()]]} if _TAG in plain else plain
        case _:
            return value


def _rich(value: Any) -> Any:
    match value:
        case {"$mqkit": ["table", pairs]}:
            return {key: _rich(item) for key, item in pairs}
        case {"$mqkit": [kind, text]}:
            return _DECODERS[kind](text)
        case list():
            return [_rich(item) for item in value]
        case dict():
            return {key: _rich(item) for key, item in value.items()}
        case _:
            return value
