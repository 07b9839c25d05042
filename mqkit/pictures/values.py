"""What is drawn: nodes and edges of a graph, lines and marks of a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """A box of a graph.

    `kind` gives it a shape and a colour: exchange, queue, handler, service, dead letter, delay,
    external, message or state; any other is a plain box. `note` is a second, smaller line.
    """

    id: str
    label: str
    kind: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow from one node to another, by their ids.

    `kind` is how it is drawn: dead letter, delay or optional; any other is a plain line. Edges
    that differ in their label alone are one arrow with several lines of text.
    """

    source: str
    target: str
    label: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a plot, through its points in their order; where one is not finite it breaks."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of a plot that has something said about it."""

    x: float
    y: float
    label: str
