"""Writes a graph as a flowchart in Mermaid, which GitHub and MkDocs draw."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mqkit.pictures.lettering import clean
from mqkit.pictures.shapes import EDGES, LOOKS, word
from mqkit.pictures.values import Edge, Node
from mqkit.pictures.whole import Arrow, arrows, whole

_BRACKETS = {
    "exchange": ("{{", "}}"),
    "queue": ("[(", ")]"),
    "service": ("[[", "]]"),
    "dead letter": ("[/", "/]"),
    "delay": ("([", "])"),
    "message": ("([", "])"),
    "handler": ("(", ")"),
    "state": ("(", ")"),
}
"""Around the text of each kind; others have square ones."""

_ESCAPES = {ord(character): f"#{ord(character)};" for character in '#"&<>`\\'}
"""What Mermaid, or the HTML that it makes, takes for something of its own."""


def graph_mermaid(nodes: Sequence[Node], edges: Sequence[Edge], *, title: str = "") -> str:
    """Write a graph as a flowchart in Mermaid, from left to right.

    Nodes and edges are what `graph_svg` draws. Text is escaped, whatever is in it.

    :param title: stands above the chart; none where it is empty
    """
    nodes, edges = whole(nodes, edges)
    lines = ["---", f"title: {json.dumps(clean(title))}", "---"] if title else []
    lines.append("flowchart LR")
    for number, node in enumerate(nodes):
        left, right = _BRACKETS.get(node.kind, ("[", "]"))
        note = f"<br>{escaped(node.note)}" if node.note else ""
        lines.append(
            f'    n{number}{left}"{escaped(node.label) or " "}{note}"{right}{_class(node)}'
        )
    lines += [_line(arrow) for arrow in arrows(nodes, edges)]
    for kind in (kind for kind in LOOKS if any(node.kind == kind for node in nodes)):
        dashes = ",stroke-dasharray:4 3" if kind == "external" else ""
        stroke = LOOKS[kind].paint.stroke[0]
        lines.append(f"    classDef {_name(kind)} stroke:{stroke},stroke-width:2px{dashes}")
    return "\n".join(lines) + "\n"


def _line(arrow: Arrow) -> str:
    dashed = bool(EDGES.get(arrow.kind, EDGES[""])[1])
    text = "<br>".join(escaped(label) for label in arrow.labels)
    label = f'|"{text}"|' if text else ""
    return f"    n{arrow.source} {'-.->' if dashed else '-->'}{label} n{arrow.target}"


def _class(node: Node) -> str:
    return f":::{_name(node.kind)}" if node.kind in LOOKS else ""


def _name(kind: str) -> str:
    return f"kind-{word(kind)}"


def escaped(text: str) -> str:
    """Return text as it stands in the label of a node or an edge."""
    return clean(text).translate(_ESCAPES)
