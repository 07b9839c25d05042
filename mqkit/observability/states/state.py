"""Says how a process of a service is, as JSON of one version, and reads what others say.

What is read comes from the broker, and so from anybody who may publish to it: sizes, numbers and
characters are checked, and what does not fit is refused as a whole.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import from_json, to_json

from mqkit.errors import MqkitError
from mqkit.logging.shown import shown
from mqkit.pause import Status

VERSION = 1
"""Rises when a reader of the version before would misread a state; new fields may come without."""

MAX_STATE = 256 * 1024
"""Bytes of a state: it has some hundred for each handler."""

MAX_TEXT = 500
"""Characters of a name or a reason."""

MAX_LINES = 20
"""Problems, and reasons of a handler, that a state has at most."""

MAX_COUNT = 2**53
"""What a JSON number holds exactly wherever it is read."""


class StateError(MqkitError):
    """Something that came as a state of a process is none.

    :param kind: one of a few words for what is wrong with it
    """

    def __init__(self, text: str, kind: str = "shape") -> None:
        super().__init__(text)
        self.kind = kind


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a text has characters that cannot be printed")
    return text


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_printable)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, le=1e12)]

_STRICT = ConfigDict(strict=True, extra="ignore")


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class HandlerState:
    """What one handler has done with the messages of its queue, and does now."""

    handler: Text
    queue: Text
    acked: Count = 0
    retried: Count = 0
    """Copies that come back later."""
    held: Count = 0
    """Retries for which a message is held in its place."""
    dead_lettered: Count = 0
    requeued: Count = 0
    lost: Count = 0
    runs: Count = 0
    seconds: Seconds = 0.0
    """Of all these runs together."""
    in_flight: Count = 0
    pauses: Count = 0
    consumers: Annotated[dict[Text, Count], Field(max_length=len(Status))] = field(
        default_factory=dict
    )
    """How many of its consumers have which status."""
    because: Annotated[tuple[Text, ...], Field(max_length=MAX_LINES)] = ()
    partitions: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Over how many its keys are spread; 0: it has none."""
    owned: Annotated[dict[Text, Seconds], Field(max_length=10_000)] = field(default_factory=dict)
    """Partitions of which it has handled a message of late: how many seconds ago."""

    @property
    def settled(self) -> int:
        """Deliveries that have come to their end here."""
        return self.acked + self.retried + self.dead_lettered + self.requeued

    @property
    def failed(self) -> int:
        """Runs after which the message was retried or dead-lettered."""
        return self.retried + self.held + self.dead_lettered


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class ConnectionState:
    """How a connection to the broker is."""

    name: Text
    is_up: bool
    opened: Count = 0
    blocked_seconds: Seconds = 0.0


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class SagaCount:
    """How many sagas of a name have a status."""

    name: Text
    status: Text
    count: Count


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class StoreState:
    """How much the store of a process has yet to do."""

    is_up: bool
    waiting: Count | None = None
    dead: Count = 0
    oldest: Seconds = 0.0
    sagas: Annotated[tuple[SagaCount, ...], Field(max_length=1_000)] = ()


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class State:
    """How one process of a service is. There is nothing of a message, a URL or a secret in it."""

    id: Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")]
    """Random, and another one after each start."""
    service: Text
    host: Text
    pid: Count
    started_at: datetime
    at: datetime
    up: Seconds
    """Seconds since its start, by a clock that is never set."""
    every: Annotated[float, Field(gt=0, le=3600)]
    """Seconds between two states."""
    phase: Text
    """starting, running, stopping, or ended: then this is its last word."""
    mqkit: Text
    server: Text
    problems: Annotated[tuple[Text, ...], Field(max_length=MAX_LINES)] = ()
    handlers: Annotated[tuple[HandlerState, ...], Field(max_length=2_000)] = ()
    published: Annotated[dict[Text, Count], Field(max_length=100)] = field(default_factory=dict)
    """Publishes that have ended, by result."""
    connections: Annotated[tuple[ConnectionState, ...], Field(max_length=10)] = ()
    store: StoreState | None = None
    v: int = VERSION

    @property
    def in_flight(self) -> int:
        """Deliveries that run or are being settled."""
        return sum(each.in_flight for each in self.handlers)

    @property
    def settled(self) -> int:
        """Deliveries that have come to their end here."""
        return sum(each.settled for each in self.handlers)


@functools.cache
def _states() -> TypeAdapter[State]:
    return TypeAdapter(State)  # not at import: whoever only writes states needs none


_FIELDS = tuple(each.name for each in fields(State))

_OF_HANDLER = {
    each.name: each.default_factory() if each.default_factory is not MISSING else each.default
    for each in fields(HandlerState)
}
"""What a reader takes each field to be that does not come; `MISSING`: it must come."""


def encode(state: State) -> bytes:
    """Write a state as a message's body.

    Of a handler what it begins with is left out: most of it is 0, and there may be hundreds, whose
    states are sent every two seconds and read by whoever watches.
    """
    told = {name: getattr(state, name) for name in _FIELDS}
    told["handlers"] = [
        {name: now for name, usual in _OF_HANDLER.items() if (now := getattr(each, name)) != usual}
        for each in state.handlers
    ]
    return to_json(told)


def decode(body: bytes) -> State:
    """Read a state.

    :raises StateError: it is none, or one of another version; nothing of the body is in the text
    """
    if len(body) > MAX_STATE:
        raise StateError(f"it has {len(body)} bytes, and a state {MAX_STATE} at most", "size")
    try:
        # As JSON: in strict mode a time is a text there, and nowhere else.
        state = _states().validate_json(body)
    except ValidationError as error:
        _check_version(body)
        where = ".".join(str(each) for each in error.errors(include_input=False)[0]["loc"][:4])
        raise StateError(f"it is no state: {shown(where or 'a text', 60)}") from error
    _check_that_it_is(state.v)
    if state.at.tzinfo is None or state.started_at.tzinfo is None:
        raise StateError("it is no state: a time has no time zone")
    return state


_TEXT = rb'"(?:[^"\\]|\\.){0,3000}"'
_HEAD = re.compile(
    rb'\{"id":"([0-9a-f]{8,64})","service":%b,"host":%b,"pid":[0-9]{1,16},'
    rb'"started_at":"[^"]{1,40}","at":"[^"]{1,40}","up":([0-9]{1,12}(?:\.[0-9]{1,20})?),'
    % (_TEXT, _TEXT)
)
"""How a state begins, as `encode` writes it."""


def head_of(body: bytes) -> tuple[str, float] | None:
    """Return whose state a body begins as, and its `up`; nothing else of it is read.

    That is a fiftieth of what `decode` takes. None: it is written otherwise, or is no state.
    """
    found = _HEAD.match(body)
    return None if found is None else (found[1].decode("ascii"), float(found[2]))


def _check_version(body: bytes) -> None:
    """Check, of what is no state of this version, whether it may be one of another.

    :raises StateError: it may, or is nothing of the kind
    """
    try:
        told = from_json(body)
    except ValueError as error:
        raise StateError("it is no JSON", "JSON") from error
    _check_that_it_is(told.get("v") if isinstance(told, Mapping) else None)


def _check_that_it_is(version: object) -> None:
    if type(version) is not int:
        raise StateError("it has no version, as a state has", "no version")
    if version != VERSION:
        raise StateError(
            f"it is of version {shown(version, 20)}, and this mqkit reads {VERSION}: use one "
            "mqkit for the services and for what watches them",
            "version",
        )


def clean(text: str) -> str:
    """Write a text of this process as one that may be in a state."""
    return shown(text, MAX_TEXT - len(" [cut]"))


def rounded(seconds: float) -> float:
    """Write seconds in few characters; what is no number is 0."""
    return round(seconds, 6) if math.isfinite(seconds) else 0.0
