"""Shows a dead letter: as values for JSON in which secrets are masked. Pure.

A secret is known by its name or by its form (`mqkit.logging.masking`), in the body as in headers
and errors. A body that is no text is not shown but for the readable words in it.
"""

from __future__ import annotations

import hashlib
import math
import re
from datetime import datetime
from typing import Any

from pydantic_core import from_json

from mqkit.dead_letters.messages.letters import Letter
from mqkit.logging.masking import MASK, Masker, cut
from mqkit.message import Header

MAX_JSON = 256 * 1024
"""Bytes of a body that is shown as JSON; a larger one is shown as text, cut."""

MAX_BODY = 8_000
"""Characters of a text that are shown."""

MAX_WORDS = 500
"""Characters of what is readable in a body that is no text."""

MAX_BITS = 4_000
"""Of a whole number that is shown; of a much longer one, Python makes no text."""

_WORDS = re.compile(rb"[\x20-\x7e]{4,}")

_OWN = frozenset(
    {
        Header.REASON,
        Header.ERROR_TYPE,
        Header.ERROR_MESSAGE,
        Header.ERROR_TRACEBACK,
        Header.ERROR_PLACE,
        Header.ATTEMPTS,
        Header.FIRST_FAILURE,
        Header.LAST_FAILURE,
        Header.HISTORY,
        Header.PUBLISH,
    }
)
"""Headers that are shown elsewhere, or are of no use."""


def summary(letter: Letter, masker: Masker) -> dict[str, Any]:
    """Return what a list says of a dead letter."""
    told: dict[str, Any] = masked(
        {
            "ref": letter.ref,
            "message_id": letter.message_id,
            "group": letter.group,
            "reason": letter.reason,
            "error_type": letter.error_type,
            "error": letter.error_message,
            "place": letter.place,
            "handler": letter.handler,
            "attempts": letter.attempts,
            "first_failure": letter.first_failure,
            "last_failure": letter.last_failure,
            "replays": letter.replays,
            "edited_from": letter.edited_from,
            "size": letter.size,
        },
        masker,
        trusted=frozenset({"ref", "group"}),
    )
    return told


def detail(letter: Letter, masker: Masker) -> dict[str, Any]:
    """Return all that there is to a dead letter, its body included."""
    properties = letter.properties
    of_publisher = {
        "content_type": properties.content_type,
        "content_encoding": properties.content_encoding,
        "correlation_id": properties.correlation_id,
        "reply_to": properties.reply_to,
        "type": properties.type,
        "app_id": properties.app_id,
        "timestamp": properties.timestamp,
        "priority": properties.priority,
    }
    headers = {
        name: value
        for name, value in properties.headers.items()
        if name not in _OWN and not name.startswith("x-delivery-")
    }
    more = {
        "service": letter.service,
        "exchange": letter.exchange,
        "routing_key": letter.routing_key,
        "history": list(letter.history),
        "last_replay": letter.replay,
        "properties": {name: each for name, each in of_publisher.items() if each is not None},
        "headers": headers,
        "traceback": letter.traceback,
    }
    return {**summary(letter, masker), **masked(more, masker), "body": body(letter, masker)}


def body(letter: Letter, masker: Masker) -> dict[str, Any]:
    """Return what is shown of a body: as JSON, as text, or the words in it."""
    data = letter.body or b""
    shown: dict[str, Any] = {"size": letter.size, "sha256": hashlib.sha256(data).hexdigest()}
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return shown | {"binary": _words(data, masker)}
    if len(data) <= MAX_JSON:
        try:
            return shown | {"json": masked(from_json(data), masker)}
        except (ValueError, RecursionError):
            pass
    if not _is_readable(text[:MAX_BODY]):
        return shown | {"binary": _words(data, masker)}
    return shown | {"text": masked(text if len(text) <= MAX_BODY else cut(text, MAX_BODY), masker)}


def _is_readable(text: str) -> bool:
    return all(each.isprintable() or each in "\t\r\n" for each in text)


def _words(data: bytes, masker: Masker) -> str:
    """Return the readable words in a body that is no text."""
    found, size = [], 0
    for word in _WORDS.finditer(data):
        found.append(word.group().decode())
        size += len(found[-1])
        if size > MAX_WORDS:
            break
    text = masker.mask(" ".join(found))
    return text if len(text) <= MAX_WORDS else cut(text, MAX_WORDS)


def masked(value: Any, masker: Masker, *, trusted: frozenset[str] = frozenset()) -> Any:
    """Return a value as JSON has it, without secrets, whether in a text, a number or a name.

    :param trusted: names of a dict whose values are mqkit's own, and are not looked at
    """
    match value:
        case None | bool():
            return value
        case dict():
            return {
                masker.mask(str(name)): each if name in trusted else _field(name, each, masker)
                for name, each in value.items()
            }
        case list() | tuple():
            return [masked(each, masker) for each in value]
        case _:
            return _single(value, masker)


def _field(name: object, value: Any, masker: Masker) -> Any:
    return MASK if value is not None and masker.hides(str(name)) else masked(value, masker)


def _single(value: Any, masker: Masker) -> Any:
    """Mask a single value; a number that is no secret stays one, if JSON has it."""
    if isinstance(value, bytes | bytearray):
        return _masked_bytes(bytes(value), masker)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        return f"<a number of {value.bit_length()} bits>"
    text = str(value)
    told = masker.mask(text)
    if told == text and (
        isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    ):
        return value
    return told


def _masked_bytes(value: bytes, masker: Masker) -> str:
    """Return bytes as text where they are some, else the words in them."""
    try:
        return masker.mask(value.decode())
    except UnicodeDecodeError:
        return f"<{len(value)} bytes> {_words(value, masker)}".rstrip()
