"""A small document, and what changes in it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from mqkit.asyncapi.comparing import Change, differences
from mqkit.asyncapi.reading import Reader

Document = dict[str, Any]

ORDER: Document = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "amount": {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]},
        "currency": {"type": "string", "enum": ["EUR", "USD"]},
        "note": {"type": "string", "maxLength": 50, "default": ""},
        "lines": {"type": "array", "items": {"$ref": "#/components/schemas/Line"}},
        "parent": {"anyOf": [{"$ref": "#/components/schemas/Order"}, {"type": "null"}]},
    },
    "required": ["id", "amount", "currency"],
}
LINE: Document = {
    "type": "object",
    "properties": {"item": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
    "required": ["item"],
}


def made(action: str = "receive") -> Document:
    """A document with one operation on a queue or an exchange, whose message refers to itself."""
    queue = {"name": "orders", "durable": True, "x-arguments": {"x-queue-type": "quorum"}}
    binding = (
        {"is": "queue", "queue": queue}
        if action == "receive"
        else {"is": "routingKey", "exchange": {"name": "orders", "type": "topic"}}
    )
    operation = {
        "action": action,
        "channel": {"$ref": "#/channels/c"},
        "messages": [{"$ref": "#/channels/c/messages/Order"}],
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "t", "version": "1"},
        "channels": {
            "c": {
                "address": "orders",
                "messages": {"Order": {"$ref": "#/components/messages/Order"}},
                "bindings": {"amqp": binding},
            }
        },
        "operations": {"o": operation},
        "components": {
            "messages": {
                "Order": {
                    "name": "Order",
                    "contentType": "application/json",
                    "payload": {"$ref": "#/components/schemas/Order"},
                }
            },
            "schemas": {"Order": copy.deepcopy(ORDER), "Line": copy.deepcopy(LINE)},
        },
    }


def changed(action: str, change: Callable[[Document], Any]) -> list[Change]:
    old, new = made(action), made(action)
    change(new)
    return differences(Reader(old, "old"), Reader(new, "new"))


def breaking(action: str, change: Callable[[Document], Any]) -> list[str]:
    return [each.what for each in changed(action, change) if each.breaking]


def order(document: Document) -> Document:
    schema: Document = document["components"]["schemas"]["Order"]
    return schema


def message(document: Document) -> Document:
    found: Document = document["components"]["messages"]["Order"]
    return found
