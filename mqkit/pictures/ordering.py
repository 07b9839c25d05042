"""Orders each column of a layered graph such that few lines cross."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from itertools import pairwise

SWEEPS = 24
"""How often the columns are gone through, at most; most graphs are done after a few."""

WITHOUT_GAIN = 6
"""After so many sweeps in turn that change nothing for the better there is no other."""

Layers = list[list[int]]


def ordered(layers: Layers, links: Sequence[tuple[int, int]]) -> Layers:
    """Return the layers in a better order, each vertex near the middle of its neighbours.

    :param links: each between two layers that stand beside each other, from left to right
    """
    before: dict[int, list[int]] = {}
    after: dict[int, list[int]] = {}
    for source, target in links:
        before.setdefault(target, []).append(source)
        after.setdefault(source, []).append(target)
    now = [list(layer) for layer in layers]
    best, fewest = [list(layer) for layer in now], crossings(now, after)
    idle = 0
    for sweep in range(SWEEPS):
        if not fewest or idle >= WITHOUT_GAIN:
            break
        neighbours = before if sweep % 2 == 0 else after
        _sweep(now, neighbours, backwards=sweep % 2 == 1, ties_turn=sweep % 4 >= 2)  # noqa: PLR2004
        crossed = crossings(now, after)
        idle += 1
        if crossed < fewest:
            best, fewest, idle = [list(layer) for layer in now], crossed, 0
    return best


def _sweep(
    layers: Layers, neighbours: dict[int, list[int]], *, backwards: bool, ties_turn: bool
) -> None:
    """Sort each layer by the middle of each vertex' neighbours in the layer before it."""
    place: dict[int, int] = {}
    for layer in reversed(layers) if backwards else layers:
        wanted = {}
        for at, vertex in enumerate(layer):
            near = neighbours.get(vertex)
            wanted[vertex] = sum(place[each] for each in near) / len(near) if near else float(at)
        if ties_turn:
            layer.reverse()
        layer.sort(key=wanted.__getitem__)
        place.update((vertex, at) for at, vertex in enumerate(layer))


def crossings(layers: Layers, after: dict[int, list[int]]) -> int:
    """Count the crossings of lines between layers."""
    total = 0
    for left, right in pairwise(layers):
        place = {vertex: at for at, vertex in enumerate(right)}
        passed: list[int] = []
        for vertex in left:
            ends = sorted(place[each] for each in after.get(vertex, ()))
            for end in ends:
                total += len(passed) - bisect_right(passed, end)
            for end in ends:
                insort(passed, end)
    return total
