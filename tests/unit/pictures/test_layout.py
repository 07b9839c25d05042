from __future__ import annotations

import random
from itertools import combinations, pairwise

import pytest

from mqkit.pictures.layout import Box, Layout, Link, laid_out
from mqkit.pictures.ordering import crossings, ordered
from mqkit.pictures.ranking import components, forward, ranks

Rectangle = tuple[float, float, float, float]


def made(seed: int, count: int, links: int) -> tuple[list[Box], list[Link]]:
    """A graph with circles, loops and double links, from a seed."""
    choose = random.Random(seed)
    boxes = [Box(choose.uniform(30, 260), choose.uniform(30, 120), 0.0, 20.0) for _ in range(count)]
    return boxes, [
        Link(
            choose.randrange(count),
            choose.randrange(count),
            *choose.choice([(0.0, 0.0), (choose.uniform(20, 200), 20.0)]),
        )
        for _ in range(links)
    ]


def rectangles(boxes: list[Box], links: list[Link], layout: Layout) -> list[Rectangle]:
    sized = [(layout.boxes[number], box.width, box.height) for number, box in enumerate(boxes)]
    sized += [
        (layout.labels[number], link.width, link.height)
        for number, link in enumerate(links)
        if link.height and link.source != link.target
    ]
    return [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for (x, y), w, h in sized]


def overlap(first: Rectangle, second: Rectangle) -> bool:
    room = 0.01
    return (
        first[0] < second[2] - room
        and second[0] < first[2] - room
        and first[1] < second[3] - room
        and second[1] < first[3] - room
    )


@pytest.mark.parametrize(("seed", "count", "links"), [(1, 9, 14), (2, 60, 90), (3, 40, 20)])
def test_nothing_overlaps(seed: int, count: int, links: int) -> None:
    """Boxes and labels overlap none of each other, and all are inside of the picture."""
    boxes, made_links = made(seed, count, links)
    layout = laid_out(boxes, made_links)
    placed = rectangles(boxes, made_links, layout)
    assert not [pair for pair in combinations(placed, 2) if overlap(*pair)]
    assert min(min(left, top) for left, top, _, _ in placed) >= -0.01
    assert max(right for _, _, right, _ in placed) <= layout.width + 0.01
    assert max(low for _, _, _, low in placed) <= layout.height + 0.01


@pytest.mark.parametrize(("seed", "count", "links"), [(4, 9, 14), (5, 60, 90)])
def test_no_line_passes_through_a_box(seed: int, count: int, links: int) -> None:
    """A line touches the boxes at its two ends alone, also where it bends."""
    boxes, made_links = made(seed, count, links)
    layout = laid_out(boxes, made_links)
    placed = rectangles(boxes, made_links, layout)[:count]
    for number, line in layout.lines.items():
        ends = {made_links[number].source, made_links[number].target}
        for (x, y), (to_x, to_y) in pairwise(line):
            area = (min(x, to_x), min(y, to_y) - 0.02, max(x, to_x), max(y, to_y) + 0.02)
            hit = [at for at, box in enumerate(placed) if at not in ends and overlap(area, box)]
            assert not hit


def test_a_line_has_its_ends_at_its_boxes() -> None:
    """Also one that goes back begins at its source and ends at its target."""
    boxes = [Box(40, 20, 0.0, 10.0)] * 2
    layout = laid_out(boxes, [Link(0, 1), Link(1, 0, 30, 20)])
    there, back = layout.lines[0], layout.lines[1]
    right_of_first, left_of_second = layout.boxes[0][0] + 20, layout.boxes[1][0] - 20
    assert there[0][0] == back[-1][0] == right_of_first
    assert there[-1][0] == back[0][0] == left_of_second
    assert there[0][1] != back[-1][1], "they are apart"


def test_arrows_point_to_the_right() -> None:
    """Without circles each node is in a column to the right of all that point to it."""
    links = [(0, 1), (1, 2), (0, 2), (2, 3), (4, 3)]
    assert forward(5, links) == links
    assert ranks(5, links) == [0, 1, 2, 3, 2], "what begins stands next to what it points at"


def test_a_circle_is_turned_round_once() -> None:
    """Of a circle one link is turned, and of two nodes that point to each other one."""
    assert forward(3, [(0, 1), (1, 2), (2, 0)]) == [(0, 1), (1, 2), (0, 2)]
    assert forward(2, [(0, 1), (1, 0)]) == [(0, 1), (0, 1)]


def test_a_long_chain_is_no_deep_recursion() -> None:
    """A chain of 5,000 nodes is ranked."""
    links = list(pairwise(range(5000)))
    assert ranks(5000, forward(5000, links))[-1] == 4999


def test_crossings_are_untangled() -> None:
    """Lines that need not cross do not."""
    layers = [[0, 1, 2, 3], [4, 5, 6, 7]]
    links = [(0, 7), (1, 6), (2, 5), (3, 4)]
    after = {source: [target] for source, target in links}
    assert crossings(layers, after) == 6
    assert crossings(ordered(layers, links), after) == 0


def test_parts_that_do_not_hang_together_are_apart() -> None:
    """Nodes without a link are parts of their own."""
    assert components(5, [(0, 2), (3, 2)]) == [[0, 2, 3], [1], [4]]
