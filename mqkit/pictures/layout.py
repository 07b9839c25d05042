"""Lays a graph out in columns from left to right (Sugiyama's method), boxes and labels apart.

Between two columns of boxes there is one for labels. A line goes straight through a column, at a
height that is its own, and bends only between columns: so no line passes through a box or a label,
and no two of these overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from mqkit.pictures.ordering import ordered
from mqkit.pictures.placing import Vertex, heights
from mqkit.pictures.ranking import components, forward, ranks

GAP = 26.0
"""Pixels between two columns, at least."""

STEEPEST = 6.0
"""A line that rises by so many pixels has one more between the columns."""

WIDEST_GAP = 110.0

BOX_GAP, LABEL_GAP, LINE_GAP = 20.0, 8.0, 9.0

APART = 34.0
"""Pixels between parts of a graph that do not hang together."""

WIDTH = 1100.0
"""Parts that do not hang together stand side by side up to this width."""

PORTS = 11.0
"""Pixels between two lines at one side of a box, at most."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """The size of a node; `line` is how far below the middle of it lines come in."""

    width: float
    height: float
    line: float = 0.0
    ports: float = 0.0
    """The height of its side that lines may come in at."""


@dataclass(frozen=True, slots=True)
class Link:
    """A line between two boxes, by their numbers, and the size of its label."""

    source: int
    target: int
    width: float = 0.0
    height: float = 0.0


@dataclass(slots=True)
class Layout:
    """Where everything is: the middles of boxes, and each link's line and the middle of its label.

    A line's points come in pairs: it is straight from the first of a pair to the second, and bends
    from there to the next pair.
    """

    boxes: dict[int, Point] = field(default_factory=dict)
    lines: dict[int, list[Point]] = field(default_factory=dict)
    labels: dict[int, Point] = field(default_factory=dict)
    width: float = 0.0
    height: float = 0.0

    def take(self, other: Layout, right: float, down: float) -> None:
        """Add another layout, moved."""

        def moved(point: Point) -> Point:
            return point[0] + right, point[1] + down

        self.boxes |= {number: moved(point) for number, point in other.boxes.items()}
        self.labels |= {number: moved(point) for number, point in other.labels.items()}
        self.lines |= {
            number: [moved(point) for point in line] for number, line in other.lines.items()
        }
        self.width = max(self.width, right + other.width)
        self.height = max(self.height, down + other.height)


def laid_out(boxes: Sequence[Box], links: Sequence[Link]) -> Layout:
    """Return where boxes and links go; a link from a box to itself is not among the lines."""
    pairs = [(link.source, link.target) for link in links]
    parts = components(len(boxes), pairs)
    of_part = {node: number for number, part in enumerate(parts) for node in part}
    theirs: list[list[int]] = [[] for _ in parts]
    for number, link in enumerate(links):
        if link.source != link.target:
            theirs[of_part[link.source]].append(number)
    placed = [
        _Part(boxes, links, part, own).layout() for part, own in zip(parts, theirs, strict=True)
    ]
    return _packed(sorted(placed, key=lambda each: len(each.boxes) == 1))


def _packed(parts: Iterable[Layout]) -> Layout:
    """Put parts side by side in rows, from the top left."""
    whole = Layout()
    right = top = 0.0
    most = WIDTH
    for part in parts:
        most = max(most, part.width)
        if right and right + part.width > most:
            right, top = 0.0, whole.height + APART
        whole.take(part, right, top)
        right += part.width + APART
    return whole


class _Part:
    """The layout of nodes that hang together."""

    def __init__(
        self, boxes: Sequence[Box], links: Sequence[Link], nodes: Sequence[int], own: Sequence[int]
    ) -> None:
        self._boxes = [boxes[node] for node in nodes]
        self._nodes = nodes
        self._links = {number: links[number] for number in own}
        local = {node: at for at, node in enumerate(nodes)}
        pairs = [(local[links[each].source], local[links[each].target]) for each in own]
        self._pairs = forward(len(nodes), pairs)
        self._turned = [given != turned for given, turned in zip(pairs, self._pairs, strict=True)]
        ranked = ranks(len(nodes), self._pairs)
        self._layers: list[list[int]] = [[] for _ in range(2 * max(ranked, default=0) + 1)]
        self._vertices = [Vertex(box.height, BOX_GAP, box.line) for box in self._boxes]
        self._widths = [box.width for box in self._boxes]
        self._chains = [
            self._chain(link, pair, ranked)
            for link, pair in zip(self._links.values(), self._pairs, strict=True)
        ]
        self._in_first_order(ranked)

    def _chain(self, link: Link, pair: tuple[int, int], ranked: list[int]) -> list[int]:
        """Return the vertices of a link: its ends, and one in each column between them."""
        first, last = 2 * ranked[pair[0]], 2 * ranked[pair[1]]
        chain = [pair[0]]
        for rank in range(first + 1, last):
            if rank == last - 1 and link.height:
                vertex = Vertex(link.height, LABEL_GAP, link.height / 2 - 2, 2.0)
                self._widths.append(link.width)
            else:
                vertex = Vertex(2.0, LINE_GAP, 0.0, 4.0)
                self._widths.append(0.0)
            chain.append(len(self._vertices))
            self._vertices.append(vertex)
        return [*chain, pair[1]]

    def _in_first_order(self, ranked: list[int]) -> None:
        """Fill the layers, each node followed by what hangs on it."""
        for node, rank in enumerate(ranked):
            self._layers[2 * rank].append(node)
        for chain in self._chains:
            first = 2 * ranked[chain[0]]
            for step, vertex in enumerate(chain[1:-1], start=1):
                self._layers[first + step].append(vertex)

    def layout(self) -> Layout:
        """Return where everything of it goes, from 0 on in both directions."""
        links = [pair for chain in self._chains for pair in pairwise(chain)]
        layers = ordered(self._layers, links)
        ys = heights(layers, self._vertices, links)
        top = min(y - vertex.height / 2 for y, vertex in zip(ys, self._vertices, strict=True))
        ys = [y - top for y in ys]
        columns = self._columns(layers, links, ys)
        middle = {
            vertex: column
            for column, layer in zip(columns, layers, strict=True)
            for vertex in layer
        }
        placed = Layout(
            width=columns[-1][1],
            height=max(y + v.height / 2 for y, v in zip(ys, self._vertices, strict=True)),
        )
        for node, number in enumerate(self._nodes):
            placed.boxes[number] = (sum(middle[node]) / 2, ys[node])
        ports = self._ports(ys)
        for at, number in enumerate(self._links):
            self._draw(placed, number, at, (middle, ys, ports))
        return placed

    def _columns(
        self, layers: list[list[int]], links: list[tuple[int, int]], ys: list[float]
    ) -> list[Point]:
        """Return the left and right end of each column; steep lines have more room."""
        layer_of = {vertex: at for at, layer in enumerate(layers) for vertex in layer}
        rises = [0.0] * len(layers)
        for source, target in links:
            rise = abs(ys[source] - ys[target])
            rises[layer_of[source]] = max(rises[layer_of[source]], rise)
        columns = []
        left = 0.0
        for layer, rise in zip(layers, rises, strict=True):
            right = left + max(self._widths[vertex] for vertex in layer)
            columns.append((left, right))
            left = right + min(WIDEST_GAP, GAP + rise / STEEPEST)
        return columns

    def _ports(self, ys: list[float]) -> dict[tuple[int, int], float]:
        """Return where each line meets a box, by its chain and the box: spread, in their order."""
        leaving: dict[int, list[tuple[float, int]]] = {}
        coming: dict[int, list[tuple[float, int]]] = {}
        for at, chain in enumerate(self._chains):
            leaving.setdefault(chain[0], []).append((ys[chain[1]], at))
            coming.setdefault(chain[-1], []).append((ys[chain[-2]], at))
        found = {}
        for side in (leaving, coming):
            for node, ends in side.items():
                box = self._boxes[node]
                step = min(PORTS, box.ports / len(ends))
                first = ys[node] + box.line - step * (len(ends) - 1) / 2
                for place, (_, at) in enumerate(sorted(ends)):
                    found[at, node] = first + step * place
        return found

    def _draw(
        self,
        placed: Layout,
        number: int,
        at: int,
        where: tuple[dict[int, Point], list[float], dict[tuple[int, int], float]],
    ) -> None:
        """Add the line of one link, from its own source to its target, and where its label is.

        :param where: the column of each vertex, its height, and the ports
        """
        middle, ys, ports = where
        chain = self._chains[at]
        first, last = chain[0], chain[-1]
        start, end = ports[at, first], ports[at, last]
        left = sum(middle[first]) / 2 + self._boxes[first].width / 2
        right = sum(middle[last]) / 2 - self._boxes[last].width / 2
        line = [(left, start), (middle[first][1], start)]
        for vertex in chain[1:-1]:
            y = ys[vertex] + self._vertices[vertex].line
            line += [(middle[vertex][0], y), (middle[vertex][1], y)]
            if self._vertices[vertex].line:
                placed.labels[number] = (sum(middle[vertex]) / 2, ys[vertex])
        line += [(middle[last][0], end), (right, end)]
        placed.lines[number] = line[::-1] if self._turned[at] else line
