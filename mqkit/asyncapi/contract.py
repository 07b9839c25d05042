"""Reads from a document what others rely on: who may send what, and who gets what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mqkit.asyncapi.reading import Reader
from mqkit.logging.shown import shown

Action = Literal["receive", "send", "reply"]


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel: a queue, an exchange with a key, or neither."""

    id: str
    name: str
    """What it is to a reader, and the same in two documents: 'queue orders.place'."""
    bindings: Mapping[str, Any]
    """What is declared of the queue or the exchange."""
    is_told: bool = True
    """Whether it is known by more than its id, as that of replies is not."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of an operation."""

    name: str
    content_type: str
    payload: Any


@dataclass(slots=True)
class Operation:
    """All that is received from a channel, or sent to it, or replied to what comes from it."""

    action: Action
    channel: str
    messages: dict[str, Message] = field(default_factory=dict)
    bound: dict[str, None] = field(default_factory=dict)
    """Names of the channels that what is received comes from, where the document says so."""

    @property
    def name(self) -> str:
        """What it is to a reader."""
        return f"{self.action} {self.channel}"


@dataclass(frozen=True, slots=True)
class Contract:
    """What others rely on, by names that are the same in two documents."""

    channels: dict[str, Channel]
    operations: dict[tuple[Action, str], Operation]
    reader: Reader


def contract(reader: Reader) -> Contract:
    """Read what others rely on.

    :raises AsyncapiError: something in the document is not as it should be
    """
    return _Reading(reader).contract()


class _Reading:
    """Collects channels and operations."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._content_type = reader.part_text("defaultContentType", "application/json")
        self._channels: dict[str, Channel] = {}
        self._operations: dict[tuple[Action, str], Operation] = {}

    def contract(self) -> Contract:
        """Return what was collected of the whole document."""
        reader = self._reader
        for each, value in reader.part("channels").items():
            self._channels[each] = self._channel(each, self._object(value, f"channels/{each}"))
        for name, value in reader.part("operations").items():
            place = f"operations/{name}"
            operation = self._object(value, place)
            channel = self._channel_of(operation, place)
            self._add(self._action(operation, place), channel, operation, place)
            if "reply" in operation:
                reply = self._object(operation["reply"], f"{place}/reply")
                self._add("reply", channel, reply, f"{place}/reply")
        channels = {each.name: each for each in self._channels.values() if each.is_told}
        return Contract(channels, self._operations, reader)

    def _object(self, value: Any, place: str) -> Mapping[str, Any]:
        return self._reader.mapping(self._reader.followed(value, place), place)

    def _action(self, operation: Mapping[str, Any], place: str) -> Action:
        action = operation.get("action")
        if action == "receive":
            return "receive"
        if action != "send":
            self._reader.refuse(f"{place}/action is receive or send, not {shown(action)}")
        return "send"

    def _channel(self, id_: str, value: Mapping[str, Any]) -> Channel:
        place = f"channels/{id_}"
        bindings = self._object(value.get("bindings", {}), f"{place}/bindings")
        amqp = self._object(bindings.get("amqp", {}), f"{place}/bindings/amqp")
        address = value.get("address")
        if address is not None:
            self._reader.text(address, f"{place}/address")
        for kind in ("queue", "exchange"):
            if kind in amqp:
                where = f"{place}/bindings/amqp/{kind}"
                told = self._reader.mapping(amqp[kind], where)
                name = self._reader.text(told.get("name", address or id_), f"{where}/name")
                key = "" if kind == "queue" else _key(address)
                return Channel(id_, f"{kind} {name}{key}", told)
        if address is None:
            return Channel(id_, id_, {}, is_told=False)
        return Channel(id_, f"address {address}", {})

    def _channel_of(self, operation: Mapping[str, Any], place: str) -> Channel:
        return self._channel_at(operation.get("channel"), f"{place}/channel")

    def _channel_at(self, value: Any, place: str) -> Channel:
        reader = self._reader
        given = reader.mapping(value, place)
        reference = reader.text(given.get("$ref"), f"{place}/$ref")
        reader.followed(given, place)
        name = reader.name_in(reference)
        if not reference.startswith("#/channels/") or name not in self._channels:
            reader.refuse(f"{place}/$ref names no channel of the document")
        return self._channels[name]

    def _add(
        self, action: Action, channel: Channel, operation: Mapping[str, Any], place: str
    ) -> None:
        reader = self._reader
        new = Operation(action, channel.name)
        found = self._operations.setdefault((action, channel.name), new)
        for number, each in enumerate(reader.listed(operation.get("x-bound-to"), place)):
            found.bound[self._channel_at(each, f"{place}/x-bound-to/{number}").name] = None
        listed = operation.get("messages")
        if listed is None and "channel" in operation:  # all of the channel's
            whole = self._object(operation["channel"], f"{place}/channel")
            listed = list(reader.mapping(whole.get("messages", {}), f"{place}/messages").values())
        for message in self._messages(reader.listed(listed, f"{place}/messages"), place):
            found.messages.setdefault(message.name, message)

    def _messages(self, listed: list[Any], place: str) -> Iterator[Message]:
        reader = self._reader
        for number, each in enumerate(listed):
            where = f"{place}/messages/{number}"
            message = self._object(each, where)
            reference = each.get("$ref") if isinstance(each, dict) else None
            name = reader.name_in(reference) if isinstance(reference, str) else str(number)
            kind = message.get("contentType", self._content_type)
            yield Message(
                reader.text(message.get("name", name), f"{where}/name"),
                reader.text(kind, f"{where}/contentType"),
                message.get("payload", True),
            )


def _key(address: str | None) -> str:
    return ", any key" if address is None else f", key {address!r}"
