"""Rates as a bar chart, in SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from tests.benchmarks.side_by_side.figures import Row, Spread

Series = Mapping[str, tuple[str, str]]
"""Figures, each with its words and its colour."""

SERIES: Series = {
    "publish_per_s": ("published, confirmed", "#2f81f7"),
    "handled_per_s": ("handled, acked", "#db8a26"),
}
"""Of a chart for which nobody names others."""

STYLE = (
    "svg{color:#3d4650;background:#ffffff}"
    "@media (prefers-color-scheme:dark){svg{color:#c5ccd4;background:#14181d}}"
    "text{fill:currentColor}path{stroke:currentColor}"
)
"""Words and lines are read on a light paper and on a dark one, which the picture brings along."""

WIDTH, LEFT, RIGHT, TOP = 860, 150, 90, 64
"""LEFT is the room for the systems' names, where no other is asked for."""

BAR, GAP, BETWEEN = 13, 2, 13
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class _Drawing:
    series: Series
    left: int
    scale: float
    """Pixels for one message in a second."""


def chart(rows: Sequence[Row], title: str, series: Series = SERIES, left: int = LEFT) -> str:
    """A bar for each figure of a system, with the range of the rounds as a line.

    The systems are ordered by the last of the figures, fastest first; one that was not measured has
    no bar.

    :param left: pixels for the systems' names
    """
    *_, last = series
    ordered = sorted(rows, key=lambda row: -(row.median(last) or 0))
    most = max((each.max for row in rows for each in _spreads(row, series).values()), default=1.0)
    drawing = _Drawing(series, left, (WIDTH - left - RIGHT) / most)
    group = len(series) * (BAR + GAP) + BETWEEN
    height = TOP + group * len(ordered) + 6
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    text = f'font-family="{escape(FONT)}" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {text}>',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<text x="12" y="18" font-size="15" font-weight="600">{escape(title)}</text>',
        *_legend(drawing),
    ]
    for number, row in enumerate(ordered):
        parts += _group(row, TOP + number * group, drawing)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(drawing: _Drawing) -> list[str]:
    parts, x = [], drawing.left
    for words, colour in drawing.series.values():
        parts.append(f'<rect x="{x}" y="34" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="45">{escape(words)}</text>')
        x += 180
    return parts


def _group(row: Row, top: int, drawing: _Drawing) -> list[str]:
    middle = top + len(drawing.series) * (BAR + GAP) / 2 + 4
    weight = ' font-weight="600"' if row.system.startswith("mqkit") else ""
    place = f'x="{drawing.left - 12}" y="{middle:.0f}" text-anchor="end"'
    parts = [f"<text {place}{weight}>{escape(row.title)}</text>"]
    for name, spread in _spreads(row, drawing.series).items():
        number = list(drawing.series).index(name)
        y = top + number * (BAR + GAP)
        parts += _bar(spread, drawing.series[name][1], y, drawing)
    return parts


def _bar(spread: Spread, colour: str, y: int, drawing: _Drawing) -> list[str]:
    left, scale = drawing.left, drawing.scale
    width = max(spread.median * scale, 1)
    low, high = left + spread.min * scale, left + spread.max * scale
    middle = y + BAR / 2
    line = f"M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 3}v6M{high:.1f} {middle - 3}v6"
    place = f'x="{max(high, left + width) + 7:.1f}" y="{y + BAR - 2}"'
    return [
        f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" fill="{colour}"/>',
        f'<path d="{line}" stroke-width="1.5" fill="none"/>',
        f'<text {place} font-size="12">{spread.median:,.0f}</text>',
    ]


def _spreads(row: Row, series: Series) -> dict[str, Spread]:
    found = {name: row.spread(name) for name in series}
    return {name: spread for name, spread in found.items() if spread is not None}
