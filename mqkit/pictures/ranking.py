"""Gives each node of a graph its column: arrows point to the right, but for those that go back."""

from __future__ import annotations

from collections.abc import Sequence

Link = tuple[int, int]
"""The numbers of two nodes, from and to."""


def forward(count: int, links: Sequence[Link]) -> list[Link]:
    """Return the links without circles: each that closes one is turned round.

    :param count: how many nodes there are
    """
    targets: list[list[int]] = [[] for _ in range(count)]
    entered = [0] * count
    for number, (source, target) in enumerate(links):
        targets[source].append(number)
        entered[target] += source != target
    turned: set[int] = set()
    state = [0] * count  # 1 while what follows it is looked at, 2 once that is done
    for start in sorted(range(count), key=lambda node: entered[node] > 0):
        if not state[start]:
            _turn_back_links(start, links, targets, state, turned)
    return [
        (target, source) if number in turned else (source, target)
        for number, (source, target) in enumerate(links)
    ]


def _turn_back_links(
    start: int,
    links: Sequence[Link],
    targets: list[list[int]],
    state: list[int],
    turned: set[int],
) -> None:
    """Go through what follows a node, in depth, without recursion: a chain may be long."""
    state[start] = 1
    path = [(start, iter(targets[start]))]
    while path:
        node, following = path[-1]
        for number in following:
            target = links[number][1]
            if state[target] == 1:
                turned.add(number)
            elif state[target] == 0:
                state[target] = 1
                path.append((target, iter(targets[target])))
                break
        else:
            state[node] = 2
            path.pop()


def ranks(count: int, links: Sequence[Link]) -> list[int]:
    """Return each node's column: the longest path to it, and no further left than it need be.

    :param links: without circles
    """
    sources: list[list[int]] = [[] for _ in range(count)]
    targets: list[list[int]] = [[] for _ in range(count)]
    for source, target in links:
        sources[target].append(source)
        targets[source].append(target)
    waiting = [len(each) for each in sources]
    order = [node for node in range(count) if not waiting[node]]
    rank = [0] * count
    for node in order:  # it grows on the way
        for target in targets[node]:
            rank[target] = max(rank[target], rank[node] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                order.append(target)
    for node in reversed(order):
        if targets[node] and not sources[node]:
            rank[node] = min(rank[target] for target in targets[node]) - 1
    least = min(rank, default=0)
    return [each - least for each in rank]


def components(count: int, links: Sequence[Link]) -> list[list[int]]:
    """Return the nodes that hang together, in groups, in the order of their first nodes."""
    beside: list[list[int]] = [[] for _ in range(count)]
    for source, target in links:
        beside[source].append(target)
        beside[target].append(source)
    seen = [False] * count
    found = []
    for start in range(count):
        if seen[start]:
            continue
        seen[start] = True
        group = [start]
        for node in group:  # it grows on the way
            for other in beside[node]:
                if not seen[other]:
                    seen[other] = True
                    group.append(other)
        found.append(sorted(group))
    return found
