"""Each change that breaks others is named, and the others are not called breaking."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mqkit.asyncapi.comparing import differences
from mqkit.asyncapi.reading import Reader
from tests.unit.asyncapi.support import (
    ORDER,
    Document,
    breaking,
    changed,
    made,
    message,
    order,
)


def field(name: str, **schema: Any) -> Callable[[Document], Any]:
    return lambda document: order(document)["properties"].update({name: schema})


def without(name: str) -> Callable[[Document], Any]:
    return lambda document: order(document)["properties"].pop(name)


def required(*names: str) -> Callable[[Document], Any]:
    return lambda document: order(document).update(required=list(names))


def both(*changes: Callable[[Document], Any]) -> Callable[[Document], Any]:
    return lambda document: [change(document) for change in changes]


def line(**schema: Any) -> Callable[[Document], Any]:
    return lambda document: document["components"]["schemas"]["Line"].update(schema)


def drop(part: str, name: str) -> Callable[[Document], Any]:
    return lambda document: document[part].pop(name)


def rename_schema(document: Document) -> None:
    text = json.dumps(document).replace("schemas/Order", "schemas/Other")
    document.clear()
    document.update(json.loads(text))
    schemas = document["components"]["schemas"]
    schemas["Other"] = schemas.pop("Order")


ALL = ("id", "amount", "currency")

CASES: list[tuple[str, Callable[[Document], Any], str | None, str | None]] = [
    # what changed, the change, how it breaks who receives, how it breaks who sends
    ("nothing", lambda _: None, None, None),
    ("optional field added", field("more", type="string"), None, None),
    (
        "required field added",
        both(field("more", type="string"), required(*ALL, "more")),
        "is new and required",
        None,
    ),
    ("optional -> required", required(*ALL, "note"), "is required now", None),
    ("required -> optional", required("id", "amount"), None, "may be left out now"),
    (
        "required field removed",
        both(without("currency"), required("id", "amount")),
        None,
        "is not there any more",
    ),
    ("optional field removed", without("note"), None, None),
    (
        "type changed",
        field("id", type="integer"),
        "takes integer now, and took string",
        "may be integer now, and was string",
    ),
    (
        "choice of types narrowed",
        field("amount", type="number", minimum=0),
        "takes number now, and took string",
        None,
    ),
    (
        "choice of types widened",
        field("amount", anyOf=[*ORDER["properties"]["amount"]["anyOf"], {"type": "null"}]),
        None,
        "may be null now, and was number or string",
    ),
    (
        "enum narrowed",
        field("currency", type="string", enum=["EUR"]),
        'does not take "USD" any more',
        None,
    ),
    (
        "enum widened",
        field("currency", type="string", enum=["EUR", "USD", "GBP"]),
        None,
        'may be "GBP" now',
    ),
    ("enum dropped", field("currency", type="string"), None, "may be any string now"),
    (
        "enum added",
        field("note", type="string", maxLength=50, default="", enum=["", "a"]),
        'takes "" or "a" alone',
        None,
    ),
    (
        "default removed",
        field("note", type="string", maxLength=50),
        'has no default any more; left out, it was ""',
        None,
    ),
    (
        "default changed",
        field("note", type="string", maxLength=50, default="-"),
        'is "-" now where it is left out, and was ""',
        None,
    ),
    (
        "format changed",
        field("id", type="string", format="email"),
        'format was "uuid" and is "email"',
        'format was "uuid" and is "email"',
    ),
    ("format dropped", field("id", type="string"), None, 'has no format any more; it was "uuid"'),
    (
        "limit tightened",
        field("note", type="string", maxLength=9, default=""),
        "maxLength was 50 and is 9",
        None,
    ),
    (
        "limit loosened",
        field("note", type="string", maxLength=90, default=""),
        None,
        "maxLength was 50 and is 90",
    ),
    (
        "pattern added",
        field("id", type="string", format="uuid", pattern="^a"),
        "has a pattern",
        None,
    ),
    (
        "other fields refused",
        lambda d: order(d).update(additionalProperties=False),
        "refuses",
        None,
    ),
    (
        "in an item: required",
        line(required=["item", "count"]),
        "is required now",
        None,
    ),
    (
        "in an item: wider number",
        line(properties={"item": {"type": "string"}, "count": {"type": "number", "minimum": 1}}),
        None,
        "may be number now, and was integer",
    ),
    (
        "items changed",
        field("lines", type="array", items={"type": "string"}),
        "takes string now, and took object",
        "may be string now, and was object",
    ),
    (
        "list limited",
        field("lines", type="array", maxItems=3, items={"$ref": "#/components/schemas/Line"}),
        "maxItems",
        None,
    ),
    (
        "message renamed",
        lambda d: message(d).update(name="Purchase"),
        "is called Purchase now",
        "is called Purchase now",
    ),
    (
        "message removed",
        lambda d: d["operations"]["o"].update(messages=[]),
        "is not taken any more",
        "is not sent any more",
    ),
    (
        "content type changed",
        lambda d: message(d).update(contentType="application/xml"),
        "its content type was application/json and is application/xml",
        "its content type was application/json and is application/xml",
    ),
    ("operation removed", drop("operations", "o"), "is gone", "is gone"),
    (
        "channel and operation removed",
        both(drop("operations", "o"), drop("channels", "c")),
        "is gone",
        "is gone",
    ),
    ("schema renamed", rename_schema, None, None),
]


@pytest.mark.parametrize(("what", "change", "received", "sent"), CASES, ids=[c[0] for c in CASES])
def test_a_change_breaks_who_receives_or_who_sends(
    what: str, change: Callable[[Document], Any], received: str | None, sent: str | None
) -> None:
    """Receiving breaks by taking less, sending by sending more, and nothing else breaks."""
    for action, expected in (("receive", received), ("send", sent)):
        found = breaking(action, change)
        if expected is None:
            assert found == [], action
        else:
            assert any(expected in each for each in found), (action, found)
            assert len(found) <= 2, "one change is told once, or from both of its sides"


@pytest.mark.parametrize(
    ("what", "change", "received", "sent"), CASES[1:], ids=[c[0] for c in CASES[1:]]
)
def test_a_change_is_told_whether_it_breaks_or_not(
    what: str, change: Callable[[Document], Any], received: str | None, sent: str | None
) -> None:
    """Whatever changes is listed, those that break first; what a schema is called is no change."""
    for action in ("receive", "send"):
        found = changed(action, change)
        assert bool(found) is (what != "schema renamed"), action
        assert [each.breaking for each in found] == sorted(
            (e.breaking for e in found), reverse=True
        )


def test_a_new_message_breaks_who_gets_it() -> None:
    """Who receives may take more kinds of messages; who gets one that it does not know may not."""

    def more(document: Document) -> None:
        document["components"]["messages"]["Extra"] = {"name": "Extra", "payload": {}}
        document["operations"]["o"]["messages"].append({"$ref": "#/components/messages/Extra"})

    assert breaking("receive", more) == []
    assert breaking("send", more) == ["is sent as well, which nobody expects"]


@pytest.mark.parametrize(
    ("action", "kind", "key", "value"),
    [
        ("receive", "queue", "durable", False),
        ("receive", "queue", "exclusive", True),
        ("send", "exchange", "type", "direct"),
        ("send", "exchange", "autoDelete", True),
        ("receive", "queue", "x-arguments", {"x-queue-type": "classic"}),
        ("receive", "queue", "x-arguments", {}),
    ],
)
def test_another_way_to_declare_breaks(action: str, kind: str, key: str, value: object) -> None:
    """RabbitMQ refuses to declare a queue or an exchange in two ways."""
    found = breaking(
        action, lambda d: d["channels"]["c"]["bindings"]["amqp"][kind].update({key: value})
    )
    assert len(found) == 1
    assert found[0].startswith(f"{'x-queue-type' if key == 'x-arguments' else key} was ")


def test_arguments_are_compared_where_both_descriptions_tell_them() -> None:
    """Of a queue that others declare, and in a description of old, nothing is known of them."""
    assert breaking("receive", lambda d: _queue(d).pop("x-arguments")) == []
    found = breaking("receive", lambda d: _queue(d)["x-arguments"].update({"x-expires": 1000}))
    assert len(found) == 1
    assert found[0].startswith("x-expires was ")


def _queue(document: Document) -> Document:
    queue: Document = document["channels"]["c"]["bindings"]["amqp"]["queue"]
    return queue


def test_a_binding_that_goes_breaks_who_publishes_there() -> None:
    """A channel without an operation is a binding: with it goes what is published there."""
    extra = {"address": "a.#", "bindings": {"amqp": {"exchange": {"name": "x"}}}}
    old, new = made(), made()
    old["channels"]["b"] = extra
    found = differences(Reader(old, "old"), Reader(new, "new"))
    assert [(each.where, each.breaking) for each in found] == [("exchange x, key 'a.#'", True)]
    again = differences(Reader(new, "old"), Reader(old, "new"))
    assert [each.what for each in again] == ["is bound as well"]


def test_a_reply_is_sent() -> None:
    """A reply breaks who asks as what is sent does: by being wider, or gone."""

    def with_reply(document: Document, **schema: Any) -> Document:
        reply = {"name": "Answer", "payload": schema}
        document["operations"]["o"]["reply"] = {"messages": [reply]}
        return document

    old = Reader(with_reply(made(), type="integer"), "old")
    wider = differences(old, Reader(with_reply(made(), type="number"), "new"))
    assert [each.what for each in wider] == ["may be number now, and was integer"]
    gone = differences(old, Reader(made(), "new"))
    assert gone[0].what == "is gone: who asks gets no answer any more"


def test_a_payload_in_another_format_is_compared_whole() -> None:
    """Of a format that is no JSON Schema nothing is known but that it changed."""

    def avro(name: str) -> Document:
        document = made()
        payload = {"schemaFormat": "application/vnd.apache.avro;version=1.9.0", "schema": name}
        message(document)["payload"] = payload
        return document

    assert differences(Reader(avro("a"), "old"), Reader(avro("a"), "new")) == []
    (found,) = differences(Reader(avro("a"), "old"), Reader(avro("b"), "new"))
    assert found.breaking


def test_what_holds_in_parts_holds_together() -> None:
    """The fields and the required ones of an allOf are those of all its parts."""

    def parted(*required: str) -> Document:
        document = made()
        parts = [{"properties": {"a": {"type": "string"}}, "required": ["a"]}]
        parts.append({"properties": {"b": {"type": "string"}}, "required": list(required)})
        document["components"]["schemas"]["Order"] = {"type": "object", "allOf": parts}
        return document

    found = differences(Reader(parted(), "old"), Reader(parted("b"), "new"))
    assert [(each.where, each.what) for each in found] == [
        ("receive queue orders, Order.b", "is required now")
    ]


def test_many_types_that_refer_to_each_other_are_compared_in_time() -> None:
    """Each pair is compared once, though thirty types lead to each other on every way."""

    def tangled(kind: str) -> Document:
        document = made()
        schemas = document["components"]["schemas"]
        names = [f"T{number}" for number in range(30)]
        anything = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in names]}
        for name in names:
            own = {"const": name} if name != "T29" else {"type": kind}
            fields = {"kind": own, "left": anything, "right": anything}
            schemas[name] = {"type": "object", "properties": fields, "required": ["kind"]}
        schemas["Order"] = anything
        return document

    assert differences(Reader(tangled("string"), "old"), Reader(tangled("string"), "new")) == []
    found = differences(Reader(tangled("string"), "old"), Reader(tangled("integer"), "new"))
    assert any(each.breaking for each in found)
