from __future__ import annotations

from typing import Any

import pytest

from mqkit import Exchange, Queue
from mqkit.testing.harness.routing import queues_for
from mqkit.topology import ExchangeType, Topology


def topology(kind: ExchangeType, key: str, arguments: dict[str, Any] | None = None) -> Topology:
    exchange = Exchange("x", type=kind)
    other = Topology.of_queue(Queue("other"), [Exchange("y", type="fanout").key()])
    return Topology.of_queue(Queue("q"), [exchange.key(key, arguments)]).merge(other)


@pytest.mark.parametrize(
    ("kind", "bound", "key", "goes"),
    [
        ("direct", "a.b", "a.b", True),
        ("direct", "a.b", "a.c", False),
        ("direct", "#", "a", False),
        ("fanout", "", "anything", True),
        ("topic", "a.*", "a.b", True),
        ("topic", "a.*", "a", False),
        ("topic", "a.*", "a.b.c", False),
        ("topic", "a.#", "a", True),
        ("topic", "#.c", "a.b.c", True),
        ("topic", "#", "", True),
        ("topic", "*", "", False),
    ],
)
def test_a_message_goes_where_the_binding_says(
    kind: ExchangeType, bound: str, key: str, goes: bool
) -> None:
    """Direct is equality, fanout is always, and topic patterns match by words."""
    assert queues_for(topology(kind, bound), "x", key, {}) == ({"q"} if goes else set())


@pytest.mark.parametrize(
    ("arguments", "goes"),
    [
        ({"kind": "a", "size": 1}, True),
        ({"kind": "a", "size": 2}, False),
        ({"x-match": "any", "kind": "a", "size": 2}, True),
        ({"x-match": "any", "kind": "b", "size": 2}, False),
        ({"x-match": "all", "x-y": 1, "kind": "a"}, True),
        ({"x-match": "all-with-x", "x-y": 1, "kind": "a"}, False),
    ],
)
def test_headers_are_matched(arguments: dict[str, Any], goes: bool) -> None:
    """All or any of the binding's arguments are among the message's headers."""
    found = queues_for(topology("headers", "", arguments), "x", "", {"kind": "a", "size": 1})
    assert found == ({"q"} if goes else set())


def test_the_default_exchange_knows_every_queue() -> None:
    """It routes to the queue of that name, its dead letter queue included, and to nothing else."""
    known = topology("topic", "#")
    assert queues_for(known, "", "q", {}) == {"q"}
    assert queues_for(known, "", "q.dead", {}) == {"q.dead"}
    assert queues_for(known, "", "nowhere", {}) == set()


def test_an_exchange_of_somebody_else_reaches_nothing_here() -> None:
    """What the service has not bound is not expected."""
    assert queues_for(topology("fanout", ""), "z", "", {}) == set()


def test_further_keys_of_the_sender_count() -> None:
    """CC and BCC are routing keys like the first (sender-selected distribution)."""
    known = topology("direct", "b")
    assert queues_for(known, "x", "a", {"CC": ["c", "b"]}) == {"q"}
    assert queues_for(known, "x", "a", {"BCC": ["b"]}) == {"q"}
    assert queues_for(known, "x", "a", {"CC": "b"}) == set()
