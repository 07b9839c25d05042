"""Draws a graph of what stands where: exchanges, queues, handlers, and what goes between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mqkit.pictures.layout import Box, Layout, Link, Point, laid_out
from mqkit.pictures.lettering import clean, markup, shortened, width
from mqkit.pictures.mermaid import graph_mermaid
from mqkit.pictures.shapes import DASHED_NODES, EDGES, LOOKS, PLAIN, look, word
from mqkit.pictures.style import framed
from mqkit.pictures.values import Edge, Node
from mqkit.pictures.whole import Arrow, arrows, whole

__all__ = ["Edge", "Node", "graph_mermaid", "graph_svg"]

LABEL_SIZE, NOTE_SIZE, EDGE_SIZE = 13.0, 11.0, 11.0
MOST_LABEL, MOST_EDGE = 300.0, 230.0
"""Pixels of text in a box and at an arrow; what is longer is shortened, and whole in its title."""

LINE = 14.0
MOST_LINES = 6
"""Labels of one arrow that are shown, the number of the others being the last."""

LOOP = 16.0
"""Pixels above a box in which an arrow to itself is drawn."""

HEAD = 7.0
"""Pixels that an arrow's head is long."""

LEGEND = 30.0

ARROW, HIGHEST = 8.0, 150.0
"""A box has so many pixels for each arrow at one side of it, up to a height."""


@dataclass(frozen=True, slots=True)
class _Face:
    """A node as it is drawn: its texts, and its size without what stands above it."""

    node: Node
    label: str
    note: str
    wide: float
    high: float
    above: float


def graph_svg(
    nodes: Sequence[Node], edges: Sequence[Edge], *, title: str, description: str = ""
) -> str:
    """Draw a graph as SVG, from left to right, for light and dark.

    It stands by itself, loads nothing, and may be put into a page as it is. A node that an edge
    names and `nodes` does not is drawn as an external one. Of two nodes of one id the first is
    drawn. Where there is nothing to draw, the picture says so.

    :param title: stands above it, and is its name for who does not see it
    :param description: what it shows, for who does not see it
    """
    nodes, edges = whole(nodes, edges)
    if not nodes:
        parts = ['<text class="mq-label mq-dim" x="0" y="13">Nothing to show.</text>']
        size = (0.0, 20.0)
    else:
        parts, size = _drawn(nodes, arrows(nodes, edges))
    colours, rules = _style(nodes, edges)
    return framed(parts, size, title=title, description=description, colours=colours, rules=rules)


def _drawn(nodes: Sequence[Node], joined: Sequence[Arrow]) -> tuple[list[str], tuple[float, float]]:
    loops = {arrow.source: arrow for arrow in joined if arrow.source == arrow.target}
    ends = Counter((arrow.source, "from") for arrow in joined)
    ends.update((arrow.target, "to") for arrow in joined)
    faces = [
        _face(node, loops.get(number), max(ends[number, "from"], ends[number, "to"]))
        for number, node in enumerate(nodes)
    ]
    texts = [_lines(arrow.labels) for arrow in joined]
    layout = laid_out(
        [Box(face.wide, face.high + face.above, face.above / 2, face.high - 12) for face in faces],
        [
            Link(arrow.source, arrow.target, *_label_size(text))
            for arrow, text in zip(joined, texts, strict=True)
        ],
    )
    parts: list[str] = []
    for number, arrow in enumerate(joined):
        parts += _arrow(arrow, layout, number, texts[number], faces)
    for number, face in enumerate(faces):
        parts.append(_box(face, layout.boxes[number]))
    legend = list(_legend(nodes, layout.height, layout.width))
    high = layout.height + LEGEND * bool(legend)
    return [*parts, *(part for part, _, _ in legend)], (
        max((layout.width, *(right for _, right, _ in legend))),
        max((high, *(low for _, _, low in legend))),
    )


def _face(node: Node, loop: Arrow | None, arrows_aside: int) -> _Face:
    label = shortened(clean(node.label) or " ", LABEL_SIZE, MOST_LABEL)
    note = shortened(clean(node.note), NOTE_SIZE, MOST_LABEL)
    wide = max(width(label, LABEL_SIZE), width(note, NOTE_SIZE)) + 2 * look(node.kind).aside
    lines = _lines(loop.labels) if loop else []
    above = LOOP + LINE * len(lines) if loop else 0.0
    if loop:
        wide = max(wide, *(width(line, EDGE_SIZE) for line in lines), 64.0)
    high = max(46.0 if note else 34.0, min(HIGHEST, ARROW * arrows_aside + 12))
    return _Face(node, label, note, max(wide, 44.0), high, above)


def _lines(labels: Sequence[str]) -> list[str]:
    """Return the texts at an arrow, each short enough, and not too many."""
    shown = labels if len(labels) <= MOST_LINES else labels[: MOST_LINES - 1]
    lines = [shortened(clean(label), EDGE_SIZE, MOST_EDGE) for label in shown]
    if len(shown) < len(labels):
        lines.append(f"and {len(labels) - len(shown)} more")
    return lines


def _label_size(lines: Sequence[str]) -> Point:
    if not lines:
        return 0.0, 0.0
    return max(width(line, EDGE_SIZE) for line in lines) + 8, LINE * len(lines) + 6


def _box(face: _Face, middle: Point) -> str:
    node = face.node
    x, y = middle[0] - face.wide / 2, middle[1] - (face.high + face.above) / 2 + face.above
    told = ", ".join(clean(part) for part in (node.label, node.note) if part)
    name = f"{node.kind} {told}" if node.kind else told
    centre = y + face.high / 2
    base = centre + (-4 if face.note else 4.5)
    note = (
        f'<text class="mq-note" x="{middle[0]:.1f}" y="{centre + 12:.1f}">'
        f"{markup(face.note)}</text>"
        if face.note
        else ""
    )
    return (
        f'<g class="mq-node mq-{word(node.kind)}"><title>{markup(name)}</title>'
        f"{look(node.kind).shape(x, y, face.wide, face.high)}"
        f'<text class="mq-label" x="{middle[0]:.1f}" y="{base:.1f}">{markup(face.label)}</text>'
        f"{note}</g>"
    )


def _arrow(
    arrow: Arrow, layout: Layout, number: int, lines: Sequence[str], faces: Sequence[_Face]
) -> Iterator[str]:
    """Draw an arrow, and what stands at it."""
    if arrow.source == arrow.target:
        path, head, at = _loop(faces[arrow.source], layout.boxes[arrow.source], len(lines))
    else:
        path, head = _curve(layout.lines[number])
        middle = layout.labels.get(number, (0.0, 0.0))
        at = middle[0], middle[1] - LINE * len(lines) / 2 - 3
    ends = " to ".join(clean(faces[end].node.label) for end in (arrow.source, arrow.target))
    told = ": ".join(filter(None, (ends, ", ".join(clean(label) for label in arrow.labels))))
    texts = "".join(
        f'<text x="{at[0]:.1f}" y="{at[1] + LINE * (line + 1) - 3:.1f}">{markup(text)}</text>'
        for line, text in enumerate(lines)
    )
    yield (
        f'<g class="mq-edge mq-edge-{word(arrow.kind)}"><title>{markup(told)}</title>'
        f'<path class="mq-line" d="{path}"/><path class="mq-head" d="{head}"/>{texts}</g>'
    )


def _curve(points: Sequence[Point]) -> tuple[str, str]:
    """Return the path through pairs of points: straight in each pair, bent between them."""
    towards = 1 if points[-1][0] > points[0][0] else -1
    tip = points[-1]
    points = [*points[:-1], (tip[0] - towards * HEAD, tip[1])]
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for number, (x, y) in enumerate(points[1:], start=1):
        before = points[number - 1]
        if number % 2:
            path += f"H{x:.1f}"
        else:
            bend = (before[0] + x) / 2
            path += f"C{bend:.1f} {before[1]:.1f} {bend:.1f} {y:.1f} {x:.1f} {y:.1f}"
    return path, _head(tip, towards)


def _head(tip: Point, towards: int) -> str:
    back = tip[0] - towards * (HEAD + 1)
    return f"M{tip[0]:.1f} {tip[1]:.1f}L{back:.1f} {tip[1] - 4:.1f}V{tip[1] + 4:.1f}Z"


def _loop(face: _Face, middle: Point, lines: int) -> tuple[str, str, Point]:
    """Return the path of an arrow from the top of a box to the same, and where its text is."""
    top = middle[1] - (face.high + face.above) / 2 + face.above
    left, right = middle[0] - 18, middle[0] + 18
    path = (
        f"M{left:.1f} {top:.1f}C{left:.1f} {top - LOOP:.1f} "
        f"{right:.1f} {top - LOOP:.1f} {right:.1f} {top - HEAD:.1f}"
    )
    head = f"M{right:.1f} {top:.1f}L{right - 4:.1f} {top - HEAD - 1:.1f}H{right + 4:.1f}Z"
    return path, head, (middle[0], top - LOOP - LINE * lines + 1)


def _legend(nodes: Sequence[Node], high: float, wide: float) -> Iterator[tuple[str, float, float]]:
    """Draw each kind that there is, in rows below the graph, with its right end and its lower."""
    kinds = [kind for kind in LOOKS if any(node.kind == kind for node in nodes)]
    if len(kinds) < 2:  # noqa: PLR2004 - one kind needs no key
        return
    x, y = 0.0, high + 22
    for kind in kinds:
        takes = 34 + width(kind, NOTE_SIZE)
        if x and x + takes > max(wide, 280.0):
            x, y = 0.0, y + 20
        drawn = (
            f'<g class="mq-node mq-{word(kind)}">{look(kind).shape(x, y, 26, 14)}'
            f'<text class="mq-key" x="{x + 32:.1f}" y="{y + 11:.1f}">{kind}</text></g>'
        )
        yield drawn, x + takes, y + 14
        x += takes + 16


_RULES = (
    f".mq-label{{font-size:{LABEL_SIZE:g}px;text-anchor:middle}}"
    ".mq-label.mq-dim{text-anchor:start}"
    ".mq-picture :is(.mq-note,.mq-key,.mq-edge text){fill:var(--mq-dim)}"
    f".mq-note{{font-size:{NOTE_SIZE:g}px;text-anchor:middle}}.mq-key{{font-size:{NOTE_SIZE:g}px}}"
    f".mq-edge text{{font-size:{EDGE_SIZE:g}px;text-anchor:middle}}"
    ".mq-line{fill:none;stroke-width:1.4}.mq-node{stroke-width:1.4}"
    ".mq-node text,.mq-edge text,.mq-head{stroke:none}"
)


def _style(
    nodes: Sequence[Node], edges: Sequence[Edge]
) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return the colours and rules for the kinds that there are."""
    colours = {}
    rules = [_RULES]
    for kind in {word(node.kind): node.kind for node in nodes}.values():
        name, seen = word(kind), LOOKS.get(kind, PLAIN)
        colours[f"{name}-fill"], colours[f"{name}-stroke"] = seen.paint
        dashes = ";stroke-dasharray:4 3" if kind in DASHED_NODES else ""
        rules.append(
            f".mq-node.mq-{name}{{fill:var(--mq-{name}-fill);"
            f"stroke:var(--mq-{name}-stroke){dashes}}}"
        )
    for kind in {word(edge.kind): edge.kind for edge in edges}.values():
        pair, dashes = EDGES.get(kind, EDGES[""])
        name = f"edge-{word(kind)}"
        colours[name] = pair
        dash = f";stroke-dasharray:{dashes}" if dashes else ""
        rules.append(
            f".mq-{name} .mq-line{{stroke:var(--mq-{name}){dash}}}"
            f".mq-{name} .mq-head{{fill:var(--mq-{name})}}"
        )
    return colours, rules
