"""Draws a saga from its declarations: messages that come, its methods, and messages that go out."""

from __future__ import annotations

from typing import Any

from mqkit.pictures.graph import Edge, Node, graph_mermaid, graph_svg
from mqkit.registration.body_fields import members
from mqkit.sagas.declaration import Declaration, SagaStep
from mqkit.sagas.declared import Kind, names_of

_END = "compensated"


class _Drawing:
    """Collects nodes and edges, each node once."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: list[Edge] = []

    def node(self, node: Node) -> str:
        """Add a node unless it is there, and return its id."""
        return self.nodes.setdefault(node.id, node).id

    def message(self, name: str) -> str:
        """Add a message."""
        return self.node(Node(f"message {name}", name, "message"))

    def edge(self, source: str, target: str, label: str = "", kind: str = "") -> None:
        """Add an edge."""
        self.edges.append(Edge(source, target, label, kind))


def diagram(declaration: Declaration) -> str:
    """Return the diagram of a saga in Mermaid."""
    drawing = _drawn(declaration)
    return graph_mermaid(list(drawing.nodes.values()), drawing.edges)


def diagram_svg(declaration: Declaration) -> str:
    """Return the diagram of a saga as SVG."""
    drawing = _drawn(declaration)
    name = declaration.options.name
    return graph_svg(
        list(drawing.nodes.values()),
        drawing.edges,
        title=f"Saga {name}",
        description=f"The messages that come to saga {name}, its methods, and what they publish.",
    )


def _drawn(declaration: Declaration) -> _Drawing:
    drawing = _Drawing()
    for step in declaration.steps:
        method = drawing.node(Node(f"method {step.method}", step.method, "handler"))
        _draw_cause(drawing, step, method)
        for name in step.declared.published_names:
            drawing.edge(method, drawing.message(name))
    _draw_end(drawing, declaration)
    return drawing


def _draw_cause(drawing: _Drawing, step: SagaStep, method: str) -> None:
    name = step.declared.name
    if step.declared.kind is Kind.TIMEOUT:
        due = drawing.node(Node(f"timeout {name}", f"timeout {name}", "delay"))
        drawing.edge(due, method, kind="delay")
    elif step.declared.kind is Kind.COMPENSATES:
        undo = drawing.node(Node(f"compensates {name}", f"compensates {name}"))
        drawing.edge(undo, method, kind="optional")
    else:
        label = "starts" if step.declared.kind is Kind.STARTS else ""
        for kind in members(step.body_type):
            drawing.edge(drawing.message(_name(kind)), method, label)


def _draw_end(drawing: _Drawing, declaration: Declaration) -> None:
    """Draw what happens once everything is undone: where a step can be, or something is said."""
    publishes = names_of(declaration.options.publishes)
    if not (publishes or declaration.compensations):
        return
    drawing.node(Node(_END, "compensated", "state"))
    for step in declaration.steps:
        if step.declared.kind is Kind.COMPENSATES:
            drawing.edge(f"method {step.method}", _END, kind="optional")
    for name in publishes:
        drawing.edge(_END, drawing.message(name))


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)
