"""Writes a message's properties as text for a row, and reads them, types of headers included.

The row also keeps how its exchange is declared, if the message was published to an `Exchange`: a
relay, in whatever process, declares it where the broker does not have it.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any

from pydantic_core import from_json

from mqkit.message import Properties, maker
from mqkit.topology import Exchange

_TAG = "$mqkit"
"""The only key of an object that stands for a value which JSON does not have."""

_EXCHANGE = "$exchange"
"""Where the exchange stands among the properties, none of which is called so."""

_DUE = "$due"
"""Where it stands when the broker is to publish it. An earlier version cannot read a row that has
it, and so publishes nothing too early."""

_DEFAULTS = Exchange("defaults")

_NAMES = tuple(item.name for item in fields(Properties))
_values = attrgetter(*_NAMES)

_USUAL = {"content_type", "headers", "persistent", "message_id", "timestamp", "app_id"}
_RARE = [name for name in _NAMES if name not in _USUAL]
_rare_values = attrgetter(*_RARE)
_NO_VALUES = (None,) * len(_RARE)

_PLAIN = frozenset({str, bool, int, float})
"""What JSON has as it is."""

_to_json = json.JSONEncoder().encode
_quoted = json.encoder.encode_basestring_ascii
"""Writes a text as the encoder does, in a third of the time."""
_properties = maker(Properties)

_DECODERS: dict[str, Callable[[str], Any]] = {
    "bytes": base64.b64decode,
    "decimal": Decimal,
    "time": datetime.fromisoformat,
}


def writable(text: str) -> str:
    """Escape what a database refuses in a text: NUL, and halves of characters."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def properties_to_text(
    properties: Properties, declaration: str = "", due: datetime | None = None
) -> str:
    """Write all properties that are set as JSON.

    :param declaration: how the exchange is declared, which is written with them:
        `declaration_to_text`
    :param due: when it is to be published, if that is not at once
    """
    if due is None and (usual := _usual_to_text(properties, declaration)):
        return usual
    written = [
        f'"{name}": {_to_text(value)}'
        for name, value in zip(_NAMES, _values(properties), strict=True)
        # Most messages have no headers.
        if value is not None and (value or value.__class__ is not dict)
    ]
    if declaration:
        written.append(declaration)
    if due is not None:
        written.append(f'"{_DUE}": "{due.isoformat()}"')
    return f"{{{', '.join(written)}}}"


def _usual_to_text(properties: Properties, declaration: str) -> str | None:
    """Write properties as nearly all messages have them, in half of the time; None: they are rare.

    It is what `properties_to_text` writes of them.
    """
    kind, message_id, app_id = properties.content_type, properties.message_id, properties.app_id
    moment = properties.timestamp
    if (
        properties.headers
        or _rare_values(properties) != _NO_VALUES
        or not (kind and message_id and app_id)
        or moment is None
    ):
        return None
    written = (
        f'{{"content_type": {_quoted(kind)}, '
        f'"persistent": {"true" if properties.persistent else "false"}, '
        f'"message_id": {_quoted(message_id)}, '
        f'"timestamp": {{"{_TAG}": ["time", "{moment.isoformat()}"]}}, '
        f'"app_id": {_quoted(app_id)}'
    )
    return f"{written}, {declaration}}}" if declaration else f"{written}}}"


def declaration_to_text(exchange: Exchange | None) -> str:
    """Write how an exchange is declared, for `properties_to_text`; empty where it is not to be."""
    if exchange is None or not exchange.declare:
        return ""
    return f'"{_EXCHANGE}": {_to_json(_plain(_declaration(exchange)))}'


def _to_text(value: Any) -> str:
    # Nearly all that messages have are texts, a yes and a time, for which this is quicker.
    kind = value.__class__
    if kind is str:
        return _quoted(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is datetime:
        return f'{{"{_TAG}": ["time", "{value.isoformat()}"]}}'
    return _to_json(value if kind in _PLAIN else _plain(value))


def properties_from_text(
    text: str, exchange: str = ""
) -> tuple[Properties, Exchange | None, datetime | None]:
    """Read the properties that `properties_to_text` wrote, how the exchange is declared, and when.

    None stands for an exchange of which the row does not say it, and for a message that is to be
    published at once.

    :param exchange: its name, which is not in the text
    """
    try:
        values = from_json(text, cache_strings="keys")
    except ValueError:  # it takes no half of a character, and is three times as fast
        values = json.loads(text)
    declaration = values.pop(_EXCHANGE, None)
    due = values.pop(_DUE, None)
    for name, value in values.items():
        if value.__class__ is dict and value:
            values[name] = _rich(value)
    declared = None if declaration is None else _declared(exchange, declaration)
    moment = None if due is None else datetime.fromisoformat(due)
    return _properties(**values), declared, moment


def _declared(name: str, declaration: dict[str, Any]) -> Exchange:
    try:
        return _known(name, *declaration.items())
    except TypeError:  # it has arguments, which a cache does not take
        return Exchange(name, **_rich(declaration))


@functools.lru_cache(maxsize=256)
def _known(name: str, *declaration: tuple[str, Any]) -> Exchange:
    """Make the exchange once for all of its messages: to check it takes longer than to publish."""
    return Exchange(name, **_rich(dict(declaration)))


def _declaration(exchange: Exchange) -> dict[str, Any]:
    """Return what differs from how an exchange is declared where nobody says otherwise."""
    return {
        item.name: dict(value) if item.name == "arguments" else value
        for item in fields(exchange)
        if item.compare and item.name != "name"
        if (value := getattr(exchange, item.name)) != getattr(_DEFAULTS, item.name)
    }


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
