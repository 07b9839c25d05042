"""Draws a saga's history: messages that came, methods that ran, and what these published."""

from __future__ import annotations

import json
from collections.abc import Iterator

from mqkit.pictures.graph import Edge, Node, graph_svg
from mqkit.registration.sagas import SagaEntry
from mqkit.store.drawing.times import moment
from mqkit.store.sagas import SagaStory


def saga_svg(story: SagaStory) -> str:
    """Draw the history of a saga as SVG, its steps numbered in their order.

    Nothing of its state or of a message's body is in it.
    """
    row = story.saga
    nodes: list[Node] = []
    edges: list[Edge] = []
    for number, entry in enumerate(story.history, start=1):
        for part in _step(number, entry):
            (nodes if isinstance(part, Node) else edges).append(part)  # type: ignore[arg-type]
    since = [number for number, entry in enumerate(story.history, 1) if entry.status == row.status]
    if since:
        nodes.append(Node("status", row.status, "state"))
        edges.append(Edge(f"step {since[0]}", "status", kind="optional"))
    return graph_svg(
        nodes,
        edges,
        title=f"Saga {row.name} {row.id}: {row.status}",
        description="Each message that came to the saga, and what it published then.",
    )


def _step(number: int, entry: SagaEntry) -> Iterator[Node | Edge]:
    step = f"step {number}"
    handler = entry.handler.rpartition(".")[2]
    ran = "" if entry.result == "ran" else f"{entry.result}, "
    yield Node(f"message {entry.message_id}", entry.message_type, "message", entry.message_id)
    yield Node(step, f"{number}. {handler}", "handler", f"{ran}{moment(entry.at)}")
    yield Edge(f"message {entry.message_id}", step)
    for each in json.loads(entry.published):
        target = f"message {each['message_id']}"
        later = "delay" if "delay" in each or "at" in each else ""
        yield Node(target, each["type"] or each["routing_key"], "message", each["message_id"])
        where = " ".join(each[key] for key in ("exchange", "routing_key") if each[key])
        yield Edge(step, target, where, later)
