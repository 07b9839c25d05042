"""Draws lines over two axes, with their names at their ends."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from mqkit.pictures.lettering import clean, markup, shortened, width
from mqkit.pictures.placing import Vertex, spread
from mqkit.pictures.style import BOLD, framed
from mqkit.pictures.ticks import linear, logarithmic, written
from mqkit.pictures.values import Line, Mark

__all__ = ["Line", "Mark", "plot_svg"]

WIDE, HIGH = 560.0, 320.0
"""Pixels between the axes' ends."""

SIZE = 12.0
NAME_HEIGHT = 16.0
MOST_NAME = 200.0
NEAR = 6.0
"""A name so many pixels from its line's end needs nothing that leads to it."""

MOST = 1e300
"""Numbers over it cannot be drawn, nor on a logarithmic axis those under its inverse."""

LINES: tuple[tuple[tuple[str, str], str], ...] = (
    (("#1d6fb8", "#6cb4f0"), ""),
    (("#b4480f", "#f0995c"), "7 3"),
    (("#1f7a43", "#63c98a"), "2 3"),
    (("#7440d0", "#b794f6"), "9 3 2 3"),
    (("#a8327f", "#f09ad0"), "4 2"),
    (("#0f7480", "#5cc5cf"), "12 4"),
    (("#6b5900", "#d6c04a"), "1 3"),
    (("#57606a", "#a9b2bd"), "8 2 1 2 1 2"),
)
"""The colours and dashes of lines, in turn."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """The numbers on an axis, and where they are on it."""

    ticks: list[float]
    pixels: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Return the pixels of a value from the axis' beginning."""
        low, high, here = (self._scaled(each) for each in (self.ticks[0], self.ticks[-1], value))
        return (here - low) / (high - low) * self.pixels

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.is_log else value


def plot_svg(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    marks: Sequence[Mark] = (),
    log_y: bool = False,
) -> str:
    """Draw lines as SVG, for light and dark.

    It stands by itself, loads nothing, and may be put into a page as it is. A line breaks where a
    point is not finite, or not above 0 on a logarithmic axis. Where nothing can be drawn, the
    picture says so.

    :param x_label: what the lower axis is, with its unit
    :param y_label: what the left axis is, with its unit
    :param marks: points to point at; those that cannot be drawn are left out
    :param log_y: whether the left axis goes by powers of ten
    """
    runs = [_runs(line, log_y=log_y) for line in lines]
    shown = [mark for mark in marks if _can_be_drawn((mark.x, mark.y), log_y=log_y)]
    points = [point for line in runs for run in line for point in run]
    points += [(mark.x, mark.y) for mark in shown]
    told = f"{y_label} over {x_label}: {', '.join(line.name for line in lines) or 'nothing'}."
    if points:
        plot = _Plot(
            _axis([x for x, _ in points], WIDE, 7, is_log=False),
            _axis([y for _, y in points], HIGH, 6, is_log=log_y),
        )
        parts, size = plot.drawn(lines, runs, shown, (x_label, y_label))
    else:
        parts, size = ['<text class="mq-key" x="0" y="13">Nothing to show.</text>'], (0.0, 20.0)
    colours = {f"line-{number}": paint for number, (paint, _) in enumerate(LINES[: len(lines)])}
    rules = [_RULES, *(_rule(number) for number in range(len(colours)))]
    return framed(
        parts,
        size,
        title=title,
        description=told,
        colours={"grid": ("#dfe3e8", "#2f363e"), **colours},
        rules=rules,
    )


_RULES = (
    f".mq-picture .mq-key{{font-size:{SIZE:g}px;fill:var(--mq-dim)}}"
    ".mq-grid{stroke:var(--mq-grid);fill:none}.mq-axis{stroke:var(--mq-dim);fill:none}"
    f".mq-series{{fill:none;stroke-width:2;stroke-linejoin:round}}"
    f".mq-picture .mq-series text{{font-size:{SIZE:g}px;font-weight:600;stroke:none}}"
    ".mq-leader{stroke-width:1;stroke-dasharray:1 3}.mq-dot{fill:var(--mq-ink)}"
    f".mq-picture .mq-said{{font-size:{SIZE:g}px;stroke:var(--mq-paper);stroke-width:4;"
    "stroke-linejoin:round;paint-order:stroke}"
)


def _rule(number: int) -> str:
    dash = LINES[number][1]
    dashed = f".mq-line-{number} .mq-drawn{{stroke-dasharray:{dash}}}" if dash else ""
    return (
        f".mq-line-{number}{{stroke:var(--mq-line-{number})}}"
        f".mq-picture .mq-line-{number} :is(text,circle){{fill:var(--mq-line-{number})}}{dashed}"
    )


def _can_be_drawn(point: tuple[float, float], *, log_y: bool) -> bool:
    x, y = point
    return abs(x) <= MOST and abs(y) <= MOST and (not log_y or y >= 1 / MOST)


def _runs(line: Line, *, log_y: bool) -> list[list[tuple[float, float]]]:
    """Part a line where a point cannot be drawn; comparisons with NaN are false."""
    parted = groupby(line.points, key=lambda point: _can_be_drawn(point, log_y=log_y))
    return [list(points) for can_be, points in parted if can_be]


def _axis(values: Sequence[float], pixels: float, about: int, *, is_log: bool) -> _Axis:
    """Choose the ticks for values; an axis of counts or times begins at 0 where that is near."""
    low, high = min(values), max(values)
    if is_log:
        return _Axis(logarithmic(low, high), pixels, is_log=True)
    if 0 < low <= high / 2:
        low = 0.0
    if high - low <= max(abs(low), abs(high), 1 / MOST) * 1e-9:
        room = abs(high) / 10 if abs(high) > 1 / MOST else 1.0
        low, high = low - room, high + room
    return _Axis(linear(low, high, about), pixels)


@dataclass(frozen=True, slots=True)
class _Plot:
    """The axes, and what is drawn over them."""

    x: _Axis
    y: _Axis

    def drawn(
        self,
        lines: Sequence[Line],
        runs: Sequence[Sequence[Sequence[tuple[float, float]]]],
        marks: Sequence[Mark],
        labels: tuple[str, str],
    ) -> tuple[list[str], tuple[float, float]]:
        """Return the parts of the picture and its size."""
        left = 10 + max(width(written(tick), SIZE) for tick in self.y.ticks)
        names = [shortened(clean(line.name), SIZE, MOST_NAME) for line in lines]
        ends = [self._place(line[-1][-1]) if line else (WIDE, HIGH) for line in runs]
        order = sorted(range(len(lines)), key=lambda number: ends[number][1])
        heights = spread([Vertex(NAME_HEIGHT, 0)] * len(order), [ends[each][1] for each in order])
        top = max([8.0, *(8 - height for height in heights)])
        parts = [
            f'<text class="mq-key" x="0" y="{SIZE:g}">{markup(labels[1])}</text>',
            f'<g transform="translate({left:.1f} {top + 22:.1f})">',
            *self._grid(labels[0]),
        ]
        for number, height in zip(order, heights, strict=True):
            parts += self._line(number, runs[number], lines[number].name)
            parts.append(self._name(names[number], ends[number], height, bool(runs[number])))
        parts += self._marks(marks)
        room = max((width(name, SIZE) * BOLD for name in names), default=0.0)
        low = max([HIGH, *(height - 30 for height in heights)])
        return [*parts, "</g>"], (left + WIDE + 18 + room, top + 22 + low + 42)

    def _place(self, point: tuple[float, float]) -> tuple[float, float]:
        return self.x.at(point[0]), HIGH - self.y.at(point[1])

    def _grid(self, x_label: str) -> Iterator[str]:
        for tick in self.y.ticks:
            y = HIGH - self.y.at(tick)
            yield f'<path class="mq-grid" d="M0 {y:.1f}H{WIDE:g}"/>'
            yield (
                f'<text class="mq-key" x="-8" y="{y + 4:.1f}" text-anchor="end">'
                f"{written(tick)}</text>"
            )
        for tick in self.x.ticks:
            x = self.x.at(tick)
            yield f'<path class="mq-axis" d="M{x:.1f} {HIGH:g}v5"/>'
            yield (
                f'<text class="mq-key" x="{x:.1f}" y="{HIGH + 19:g}" text-anchor="middle">'
                f"{written(tick)}</text>"
            )
        yield f'<path class="mq-axis" d="M0 0V{HIGH:g}H{WIDE:g}"/>'
        yield (
            f'<text class="mq-key" x="{WIDE / 2:g}" y="{HIGH + 40:g}" text-anchor="middle">'
            f"{markup(x_label)}</text>"
        )

    def _line(
        self, number: int, runs: Sequence[Sequence[tuple[float, float]]], name: str
    ) -> Iterator[str]:
        yield f'<g class="mq-series mq-line-{number % len(LINES)}"><title>{markup(name)}</title>'
        for run in runs:
            places = [self._place(point) for point in run]
            if len(places) == 1:
                yield f'<circle cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="3"/>'
            else:
                path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
                yield f'<path class="mq-drawn" d="M{path}"/>'

    def _name(self, name: str, end: tuple[float, float], height: float, has_points: bool) -> str:
        """Write a line's name on the right, led to from its end where that is elsewhere."""
        if not has_points:
            name += " (nothing)"
        leader = (
            f'<path class="mq-leader" d="M{end[0]:.1f} {end[1]:.1f}L{WIDE + 10:g} {height:.1f}"/>'
            if has_points and abs(end[0] - WIDE) + abs(end[1] - height) > NEAR
            else ""
        )
        return f'{leader}<text x="{WIDE + 14:g}" y="{height + 4:.1f}">{markup(name)}</text></g>'

    def _marks(self, marks: Sequence[Mark]) -> Iterator[str]:
        """Draw marks, each label where no other is."""
        taken: list[tuple[float, float, float]] = []
        for mark in marks:
            x, y = self._place((mark.x, mark.y))
            text = shortened(clean(mark.label), SIZE, WIDE / 2)
            wide = width(text, SIZE)
            left = x + 7 if x + 7 + wide <= WIDE else x - 7 - wide
            free = next(
                (at for at in _tries(y) if not _is_taken((left, left + wide, at), taken)), y - 8
            )
            taken.append((left, left + wide, free))
            yield (
                f'<g><title>{markup(mark.label)}</title><circle class="mq-dot" cx="{x:.1f}" '
                f'cy="{y:.1f}" r="4"/><text class="mq-said" x="{left if left > x else x - 7:.1f}" '
                f'y="{free:.1f}" text-anchor="{"start" if left > x else "end"}">'
                f"{markup(text)}</text></g>"
            )


def _tries(y: float) -> Iterator[float]:
    """Return where the base of a mark's label may be: above, then further off by turns."""
    for step in range(12):
        for at in (y - 8 - step * NAME_HEIGHT, y + 18 + step * NAME_HEIGHT):
            if SIZE <= at <= HIGH - 4:
                yield at


def _is_taken(
    place: tuple[float, float, float], taken: Sequence[tuple[float, float, float]]
) -> bool:
    return any(
        place[0] < right and left < place[1] and abs(place[2] - at) < NAME_HEIGHT
        for left, right, at in taken
    )
