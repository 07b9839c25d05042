"""Makes a graph whole before it is drawn: one node of each id, and both ends of each edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mqkit.pictures.values import Edge, Node


class Arrow(NamedTuple):
    """Edges from one node to another, by their numbers, of one kind."""

    source: int
    target: int
    kind: str
    labels: tuple[str, ...]


def whole(nodes: Sequence[Node], edges: Sequence[Edge]) -> tuple[list[Node], list[Edge]]:
    """Return the nodes, the first of each id, with external ones where an edge alone names them."""
    found: dict[str, Node] = {}
    for node in nodes:
        found.setdefault(node.id, node)
    for edge in edges:
        for end in (edge.source, edge.target):
            found.setdefault(end, Node(end, end, "external"))
    return list(found.values()), list(dict.fromkeys(edges))


def arrows(nodes: Sequence[Node], edges: Sequence[Edge]) -> list[Arrow]:
    """Return the edges, those of the same ends and kind as one."""
    numbers = {node.id: number for number, node in enumerate(nodes)}
    labels: dict[tuple[int, int, str], list[str]] = {}
    for edge in edges:
        key = (numbers[edge.source], numbers[edge.target], edge.kind)
        texts = labels.setdefault(key, [])
        if edge.label and edge.label not in texts:
            texts.append(edge.label)
    return [Arrow(*key, tuple(texts)) for key, texts in labels.items()]
