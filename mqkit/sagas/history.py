"""Writes what a message brought about into its saga's history."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from mqkit.registration.sagas import SagaEntry

MAX_VALUE = 1_000
"""Characters of a field's value that the history keeps; the row has all of it."""

MAX_TYPE = 255
"""Characters of a message's type."""

RAN = "ran"


@dataclass(frozen=True, slots=True)
class Received:
    """A message that came for a saga."""

    handler: str
    message_id: str
    type: str


@dataclass(slots=True)
class Published:
    """Collects what a saga publishes while a message is handled."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    def add(self, exchange: str, routing_key: str, message_id: str, **others: Any) -> None:
        """Note one message; what it holds is not kept here."""
        told = {name: value for name, value in others.items() if value is not None}
        self.messages.append(
            {
                "exchange": exchange,
                "routing_key": routing_key,
                "message_id": message_id,
                **told,
            }
        )

    def to_json(self) -> str:
        """Write them for the history."""
        return json.dumps(self.messages, default=str)


def changes(before: str | None, after: str | None) -> str:
    """Return, as JSON, the fields in which two states differ, with their values after it."""
    old, new = _fields(before), _fields(after)
    differ = {n: _shortened(new[n]) for n in new if n not in old or old[n] != new[n]}
    differ |= {name: None for name in old if name not in new}
    return json.dumps(differ)


def _fields(text: str | None) -> dict[str, Any]:
    """Return the fields of a state; one that is no object in JSON (a `RootModel`) is one field."""
    state = {} if text is None else json.loads(text)
    return state if isinstance(state, dict) else {"state": state}


def _shortened(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value)
    return value if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def entry(
    key: tuple[str, str],
    at: Any,
    received: Received,
    *,
    result: str,
    status: str,
    changed: str = "{}",
    published: str = "[]",
) -> SagaEntry:
    """Make the entry of a message.

    :param key: the saga's name and id
    """
    name, id_ = key
    return SagaEntry(
        name=name,
        id=id_,
        at=at,
        handler=received.handler,
        message_id=received.message_id,
        message_type=received.type[:MAX_TYPE],
        result=result,
        status=status,
        changes=changed,
        published=published,
    )
