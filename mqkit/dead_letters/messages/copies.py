"""Makes the messages that dead letters become: replayed, archived, restored or edited. Pure."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace

from mqkit.amqp.content_header import carry
from mqkit.clock import stamp
from mqkit.dead_letters.messages.letters import MAX_HISTORY, MAX_REPLAYS, Letter
from mqkit.message import (
    RESERVED_PREFIX,
    Carried,
    Header,
    HeaderValue,
    Message,
    Properties,
    value_of,
)

_NEVER = frozenset({"CC", "BCC", "x-delivery-count", "x-acquired-count", Header.PUBLISH})
"""CC and BCC would route a copy to more queues than its own; the others are of one stay or one
publish alone."""

_DEATHS = ("x-death", "x-first-death-", "x-last-death-")
"""The broker's account of why it dead-lettered a message: goes when that is replayed."""

_EDITED = uuid.UUID("8f6f4d3e-0d3b-4a39-9c0a-5b8f3d0d6f53")
"""The namespace of the ids of edited copies."""


def replayed(letter: Letter, exchange: str, routing_key: str, replay: str) -> Message:
    """Make the message for the queue that a dead letter came from, under its own id.

    It begins anew at the first attempt. Of mqkit's own headers it has where it was first published,
    when it first failed, and its former failures.

    :param exchange: of the delay ladder, out of which mqkit's headers are believed
    :param replay: names this replay
    """
    origin = letter.properties.headers
    headers = {name: value for name, value in origin.items() if _is_replayed(name)}
    history: list[HeaderValue] = [*letter.history, letter.failure()]
    headers |= {
        Header.EXCHANGE: value_of(letter.exchange),
        Header.ROUTING_KEY: value_of(letter.routing_key),
        Header.REPLAYS: min(letter.replays + 1, MAX_REPLAYS),
        Header.REPLAY: replay,
        Header.HISTORY: history[-MAX_HISTORY:],
    }
    if letter.first_failure is not None:
        headers[Header.FIRST_FAILURE] = stamp(letter.first_failure)
    if letter.edited_from is not None:
        headers[Header.EDITED_FROM] = letter.edited_from
    return Message(exchange, routing_key, _body(letter), _properties(letter, headers, _is_replayed))


def moved(letter: Letter, queue: str) -> Message:
    """Make the same message for another queue: the archive, or back from there."""
    headers = {name: v for name, v in letter.properties.headers.items() if name not in _NEVER}
    return Message("", queue, _body(letter), _properties(letter, headers, _is_moved))


def edited(letter: Letter, queue: str, body: bytes) -> Message:
    """Make the copy of a dead letter that has another body, for its queue.

    It has an id of its own, since an id is one message's: derived from the original and the body,
    so that the same edit is the same message.
    """
    message = moved(letter, queue)
    headers = {**message.properties.headers, Header.EDITED_FROM: letter.message_id or letter.ref}
    name = f"{letter.ref} {hashlib.sha256(body).hexdigest()}"
    message_id = str(uuid.uuid5(_EDITED, name))
    properties = replace(message.properties, headers=headers, message_id=message_id)
    if (carried := properties.carried) is not None:
        kept = {k: value for k, value in carried.properties.items() if k != "message_id"}
        entries = {k: value for k, value in carried.entries.items() if k != Header.EDITED_FROM}
        properties = replace(properties, carried=Carried(entries, kept))
    return replace(message, body=body, properties=properties)


def _body(letter: Letter) -> bytes:
    assert letter.body is not None, "what is moved was read with its body"
    return letter.body


def _is_replayed(name: str) -> bool:
    return (
        name not in _NEVER and not name.startswith(RESERVED_PREFIX) and not name.startswith(_DEATHS)
    )


def _is_moved(name: str) -> bool:
    return name not in _NEVER


def _properties(
    letter: Letter, headers: Mapping[str, HeaderValue], keep: Callable[[str], bool]
) -> Properties:
    copy = replace(
        letter.properties,
        headers=headers,
        persistent=True,
        # It was for its first stay; and the broker refuses a user that is not the connection's.
        expiration=None,
        user_id=None,
    )
    return carry(copy, letter.properties, keep)
