"""Gives the vertices of each column their height, so that lines are straight where they can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PASSES = 10
"""How often all columns are aligned with those beside them."""


@dataclass(frozen=True, slots=True)
class Vertex:
    """What takes room in a column: a box, a label, or a line that passes."""

    height: float
    gap: float
    """Pixels that are free above and below it."""
    line: float = 0.0
    """Where lines meet it, below its middle."""
    weight: float = 1.0
    """How much its own wish counts against its neighbours' in the column."""


def heights(
    layers: Sequence[Sequence[int]],
    vertices: Sequence[Vertex],
    links: Sequence[tuple[int, int]],
) -> list[float]:
    """Return the middle of each vertex; those of a layer keep their order and their distance."""
    before: dict[int, list[int]] = {}
    after: dict[int, list[int]] = {}
    for source, target in links:
        before.setdefault(target, []).append(source)
        after.setdefault(source, []).append(target)
    at = [0.0] * len(vertices)
    for layer in layers:
        _place(layer, vertices, [0.0] * len(layer), at)
    for number in range(PASSES):
        sides = [(before,), (after,)][number % 2] if number < PASSES - 2 else (before, after)
        for layer in reversed(layers) if number % 2 else layers:
            wanted = [_wanted(vertex, vertices, sides, at) for vertex in layer]
            _place(layer, vertices, wanted, at)
    return at


def _wanted(
    vertex: int,
    vertices: Sequence[Vertex],
    sides: tuple[dict[int, list[int]], ...],
    at: list[float],
) -> float:
    near = [at[each] + vertices[each].line for side in sides for each in side.get(vertex, ())]
    return sum(near) / len(near) - vertices[vertex].line if near else at[vertex]


def spread(column: Sequence[Vertex], wanted: Sequence[float]) -> list[float]:
    """Return the middles of what stands in one column, as near to the wanted as may be.

    :param wanted: from the top down
    """
    at = [0.0] * len(column)
    _place(range(len(column)), column, wanted, at)
    return at


def _place(
    layer: Sequence[int], vertices: Sequence[Vertex], wanted: Sequence[float], at: list[float]
) -> None:
    """Put each vertex as near as may be to where it is wanted (least squares).

    With the distances taken off, the places must not fall: neighbours that would are pooled at
    their mean (isotonic regression, pool adjacent violators).
    """
    offsets: list[float] = []
    blocks: list[list[float]] = []  # the sum of weighted wishes, of weights, and how many there are
    for number, vertex in enumerate(layer):
        offsets.append(
            offsets[-1] + _distance(vertices, layer[number - 1], vertex) if number else 0.0
        )
        weight = vertices[vertex].weight
        blocks.append([(wanted[number] - offsets[number]) * weight, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] > blocks[-1][0] * blocks[-2][1]:
            last = blocks.pop()
            blocks[-1] = [first + second for first, second in zip(blocks[-1], last, strict=True)]
    number = 0
    for total, weight, size in blocks:
        for vertex in layer[number : number + int(size)]:
            at[vertex] = total / weight + offsets[number]
            number += 1


def _distance(vertices: Sequence[Vertex], upper: int, lower: int) -> float:
    above, below = vertices[upper], vertices[lower]
    return (above.height + below.height) / 2 + max(above.gap, below.gap)
