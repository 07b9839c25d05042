"""The shape and colours of each kind of node, and the way that each kind of edge is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

Shape = Callable[[float, float, float, float], str]
"""Draws a box from its left, top, width and height."""


class Paint(NamedTuple):
    """The colours of a kind on a light paper, and on a dark one."""

    fill: tuple[str, str]
    stroke: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Look:
    """How a kind of node is drawn."""

    paint: Paint
    shape: Shape
    aside: float = 8.0
    """Pixels left and right of its text, for the shape."""


def _rectangle(radius: float) -> Shape:
    def draw(x: float, y: float, wide: float, high: float) -> str:
        return (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" '
            f'rx="{radius:g}"/>'
        )

    return draw


def _pill(x: float, y: float, wide: float, high: float) -> str:
    return _rectangle(high / 2)(x, y, wide, high)


def _hexagon(x: float, y: float, wide: float, high: float) -> str:
    corner = min(12.0, high / 3)
    right, middle, low = x + wide, y + high / 2, y + high
    return (
        f'<path d="M{x:.1f} {middle:.1f}L{x + corner:.1f} {y:.1f}H{right - corner:.1f}'
        f'L{right:.1f} {middle:.1f}L{right - corner:.1f} {low:.1f}H{x + corner:.1f}Z"/>'
    )


def _pipe(x: float, y: float, wide: float, high: float) -> str:
    """Draw a queue: a pipe that lies, its open end on the right."""
    round_ = min(7.0, high / 4)
    body = (
        f"M{x + round_:.1f} {y:.1f}H{x + wide - round_:.1f}"
        f"a{round_:g} {high / 2:.1f} 0 0 1 0 {high:.1f}"
        f"H{x + round_:.1f}a{round_:g} {high / 2:.1f} 0 0 1 0 {-high:.1f}Z"
    )
    end = f"M{x + wide - round_:.1f} {y:.1f}a{round_:g} {high / 2:.1f} 0 0 0 0 {high:.1f}"
    return f'<path d="{body}"/><path d="{end}"/>'


def _doubled(x: float, y: float, wide: float, high: float) -> str:
    """Draw a service: a box with a bar at each side."""
    box = _rectangle(3)(x, y, wide, high)
    return f'{box}<path d="M{x + 6:.1f} {y:.1f}v{high:.1f}M{x + wide - 6:.1f} {y:.1f}v{high:.1f}"/>'


def _notched(x: float, y: float, wide: float, high: float) -> str:
    """Draw dead letters: a sheet with its corners cut."""
    cut = min(9.0, high / 3)
    right, low = x + wide, y + high
    return (
        f'<path d="M{x + cut:.1f} {y:.1f}H{right - cut:.1f}L{right:.1f} {y + cut:.1f}'
        f"V{low - cut:.1f}L{right - cut:.1f} {low:.1f}H{x + cut:.1f}L{x:.1f} {low - cut:.1f}"
        f'V{y + cut:.1f}Z"/>'
    )


PLAIN = Look(Paint(("#ffffff", "#1f242b"), ("#57606a", "#a9b2bd")), _rectangle(3))

LOOKS: dict[str, Look] = {
    "exchange": Look(Paint(("#f1eafe", "#2d2148"), ("#7440d0", "#b794f6")), _hexagon, 14.0),
    "queue": Look(Paint(("#e3f0fd", "#12304d"), ("#1d6fb8", "#6cb4f0")), _pipe, 14.0),
    "handler": Look(Paint(("#e4f5ea", "#12381f"), ("#1f7a43", "#63c98a")), _rectangle(10)),
    "service": Look(Paint(("#eceff3", "#262f3a"), ("#4a5a6d", "#a3b3c6")), _doubled, 12.0),
    "dead letter": Look(Paint(("#fde8e8", "#471c1d"), ("#b42318", "#f28b82")), _notched, 10.0),
    "delay": Look(Paint(("#fdf1d8", "#3d2f10"), ("#8f5b00", "#e9b44c")), _pill, 14.0),
    "external": Look(Paint(("#f6f6f6", "#262626"), ("#6b6b6b", "#ababab")), _rectangle(3)),
    "message": Look(Paint(("#e0f5f5", "#0e3539"), ("#0f7480", "#5cc5cf")), _pill, 14.0),
    "state": Look(Paint(("#fdeef7", "#401c33"), ("#a8327f", "#f09ad0")), _rectangle(10)),
}
"""By the kinds that have a look of their own."""

DASHED_NODES = frozenset({"external"})

EDGES: dict[str, tuple[tuple[str, str], str]] = {
    "": (("#6b7480", "#8d97a3"), ""),
    "dead letter": (("#b42318", "#f28b82"), "6 4"),
    "delay": (("#8f5b00", "#e9b44c"), "2 4"),
    "optional": (("#6b7480", "#8d97a3"), "6 4"),
}
"""The colours and the dashes of each kind of edge."""


def look(kind: str) -> Look:
    """Return the look of a kind of node; a plain one where it is not known."""
    return LOOKS.get(kind, PLAIN)


def word(kind: str) -> str:
    """Return the word for a kind in the names of classes and colours."""
    return kind.replace(" ", "-") if kind in LOOKS or kind in EDGES else ""
