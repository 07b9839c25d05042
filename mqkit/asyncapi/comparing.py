"""Compares two descriptions: what has changed, and which changes break those that rely on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mqkit.asyncapi.compatibility import Comparison
from mqkit.asyncapi.contract import Action, Channel, Contract, Message, Operation, contract
from mqkit.asyncapi.defaults import Defaults
from mqkit.asyncapi.payloads import ARGUMENTS
from mqkit.asyncapi.reading import Reader
from mqkit.asyncapi.words import told_fewer, told_less, told_more, told_wider, value_text
from mqkit.logging.shown import shown

_REDECLARED = ("type", "durable", "exclusive", "autoDelete")
"""What RabbitMQ refuses to declare otherwise than it is there."""

_JSON_SCHEMA = ("application/vnd.aai.asyncapi", "application/schema")
"""Formats of payloads that are compared; of others, which are compared whole, nothing is known."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change, where it is, and whether who relies on the old description breaks by it."""

    where: str
    what: str
    breaking: bool


def differences(old: Reader, new: Reader) -> list[Change]:
    """Return the changes from one document to another, those first that break something.

    Receiving breaks by taking less, sending (and replying) by sending more. Where others declare a
    queue or an exchange, each other way to declare it breaks.

    :raises AsyncapiError: something in a document is not as it should be
    """
    before, after = contract(old), contract(new)
    found = [
        *_channel_changes(before, after),
        *_operation_changes(before, after),
    ]
    return sorted(dict.fromkeys(found), key=lambda change: not change.breaking)


def _channel_changes(before: Contract, after: Contract) -> Iterator[Change]:
    for name, channel in before.channels.items():
        now = after.channels.get(name)
        if now is not None:
            yield from _binding_changes(channel, now)
        elif name not in _used(before):
            lost = "is not bound any more: what is published there does not come"
            yield Change(name, lost, breaking=True)
    for name in after.channels:
        if name not in before.channels and name not in _used(after):
            yield Change(name, "is bound as well", breaking=False)


def _used(of: Contract) -> set[str]:
    """Return the channels that operations use: a change of one is reported with its operation."""
    return {channel for _, channel in of.operations}


def _binding_changes(before: Channel, after: Channel) -> Iterator[Change]:
    for key, was, is_ in _declared(before, after):
        if was != is_:
            yield Change(
                before.name,
                f"{key} was {value_text(was)} and is {value_text(is_)}: RabbitMQ refuses to "
                "declare it so while it is there",
                breaking=True,
            )


def _declared(before: Channel, after: Channel) -> Iterator[tuple[str, Any, Any]]:
    """Return what a queue or an exchange is declared with, before and after."""
    for key in _REDECLARED:
        yield key, before.bindings.get(key), after.bindings.get(key)
    was, is_ = before.bindings.get(ARGUMENTS), after.bindings.get(ARGUMENTS)
    # Where a description does not tell them, as of a queue that others declare, nothing is known.
    if isinstance(was, Mapping) and isinstance(is_, Mapping):
        for key in sorted({*was, *is_}):
            yield key, was.get(key), is_.get(key)


def _operation_changes(before: Contract, after: Contract) -> Iterator[Change]:
    for key, operation in before.operations.items():
        now = after.operations.get(key)
        if now is None:
            yield Change(operation.name, _GONE[operation.action], breaking=True)
        else:
            yield from _bound_changes(operation, now, after)
            yield from _message_changes(operation, now, before.reader, after.reader)
    for key, operation in after.operations.items():
        if key not in before.operations:
            yield Change(operation.name, "is new", breaking=False)


def _bound_changes(before: Operation, now: Operation, after: Contract) -> Iterator[Change]:
    """Say which bindings of a queue are gone, of those whose channel is there for others."""
    for name in before.bound:
        if name not in now.bound and name in after.channels:
            lost = f"is not bound to {name} any more: what is published there does not come"
            yield Change(before.name, lost, breaking=True)
    for name in now.bound:
        if name not in before.bound and name in _used(after):
            yield Change(before.name, f"is bound to {name} as well", breaking=False)


_GONE: dict[Action, str] = {
    "receive": "is gone: what is sent there is not handled any more",
    "send": "is gone: who waits for it gets nothing any more",
    "reply": "is gone: who asks gets no answer any more",
}


def _message_changes(
    before: Operation, after: Operation, old: Reader, new: Reader
) -> Iterator[Change]:
    gone = {name: each for name, each in before.messages.items() if name not in after.messages}
    added = {name: each for name, each in after.messages.items() if name not in before.messages}
    receives = before.action == "receive"
    for name, message in gone.items():
        other = _renamed(message, added.values(), old, new)
        if other is None:
            lost = "is not taken any more" if receives else "is not sent any more"
            yield Change(f"{before.name}, {name}", lost, breaking=True)
        else:
            del added[other]
            yield Change(f"{before.name}, {name}", f"is called {other} now", breaking=True)
    for name in added:
        new_one = "is taken as well" if receives else "is sent as well, which nobody expects"
        yield Change(f"{before.name}, {name}", new_one, breaking=not receives)
    for name, message in before.messages.items():
        if name in after.messages:
            yield from _payload_changes(before, message, after.messages[name], old, new)


def _renamed(message: Message, others: Iterable[Message], old: Reader, new: Reader) -> str | None:
    """Return the name of a message of the same content, if there is one."""
    for other in others:
        was, is_ = _schema(message.payload, old), _schema(other.payload, new)
        alike = not list(Comparison(old, new).refusals(was, is_, "")) and not list(
            Comparison(new, old).refusals(is_, was, "")
        )
        if alike and message.content_type == other.content_type:
            return other.name
    return None


def _payload_changes(
    operation: Operation, before: Message, after: Message, old: Reader, new: Reader
) -> Iterator[Change]:
    where = f"{operation.name}, {before.name}"
    if before.content_type != after.content_type:
        told = f"was {shown(before.content_type)} and is {shown(after.content_type)}"
        yield Change(where, f"its content type {told}", breaking=True)
    was, is_ = _schema(before.payload, old), _schema(after.payload, new)
    if was is None or is_ is None:
        if before.payload != after.payload:
            yield Change(where, "its payload changed; its format is not compared", breaking=True)
        return
    receives = operation.action == "receive"
    breaking, other = Comparison(old, new), Comparison(new, old)
    pairs = (breaking.refusals(was, is_, ""), other.refusals(is_, was, ""))
    less, more = pairs if receives else reversed(pairs)
    for refusal in less:
        told = told_less(refusal) if receives else told_more(refusal)
        yield Change(where + refusal.path, told, breaking=True)
    for refusal in more:
        told = told_wider(refusal) if receives else told_fewer(refusal)
        yield Change(where + refusal.path, told, breaking=False)
    for each in Defaults(old, new, receives).changes(was, is_):
        yield Change(where + each.path, each.what, each.breaking)


def _schema(payload: Any, reader: Reader) -> Any:
    """Return the JSON Schema of a payload; None where it is in another format."""
    payload = reader.followed(payload, "a payload")
    if isinstance(payload, dict) and "schemaFormat" in payload:
        form = reader.text(payload["schemaFormat"], "schemaFormat")
        return payload.get("schema", True) if form.startswith(_JSON_SCHEMA) else None
    return payload
