"""Rates as a bar chart, in SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tests.benchmarks.side_by_side.figures import Row, Spread

SERIES = {
    "publish_per_s": ("published, confirmed", "#2f81f7"),
    "handled_per_s": ("handled, acked", "#db8a26"),
}
"""Each figure with its words and its colour."""

INK = "#7d8590"
"""Of all words: grey enough to be read on white and on black, whose page it does not know."""

WIDTH, LEFT, RIGHT, TOP = 860, 150, 90, 64
BAR, GAP, BETWEEN = 13, 2, 13
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


def chart(rows: Sequence[Row], title: str) -> str:
    """Two bars for each system, fastest first, with the range of the rounds as a line."""
    ordered = sorted(rows, key=lambda row: -(row.median("handled_per_s") or 0))
    most = max((each.max for row in rows for each in _spreads(row).values()), default=1.0)
    scale = (WIDTH - LEFT - RIGHT) / most
    group = len(SERIES) * (BAR + GAP) + BETWEEN
    height = TOP + group * len(ordered) + 6
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    text = f'font-family="{escape(FONT)}" font-size="13" fill="{INK}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {text}>',
        f"<title>{escape(title)}</title>",
        f'<text x="0" y="18" font-size="15" font-weight="600">{escape(title)}</text>',
        *_legend(),
    ]
    for number, row in enumerate(ordered):
        parts += _group(row, TOP + number * group, scale)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend() -> list[str]:
    parts, x = [], LEFT
    for words, colour in SERIES.values():
        parts.append(f'<rect x="{x}" y="34" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="45">{escape(words)}</text>')
        x += 180
    return parts


def _group(row: Row, top: int, scale: float) -> list[str]:
    middle = top + len(SERIES) * (BAR + GAP) / 2 + 4
    weight = ' font-weight="600"' if row.system.startswith("mqkit") else ""
    place = f'x="{LEFT - 12}" y="{middle:.0f}" text-anchor="end"'
    parts = [f"<text {place}{weight}>{escape(row.title)}</text>"]
    for number, (name, spread) in enumerate(_spreads(row).items()):
        y = top + number * (BAR + GAP)
        parts += _bar(spread, SERIES[name][1], y, scale)
    return parts


def _bar(spread: Spread, colour: str, y: int, scale: float) -> list[str]:
    width = max(spread.median * scale, 1)
    low, high = LEFT + spread.min * scale, LEFT + spread.max * scale
    middle = y + BAR / 2
    line = f"M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 3}v6M{high:.1f} {middle - 3}v6"
    place = f'x="{max(high, LEFT + width) + 7:.1f}" y="{y + BAR - 2}"'
    return [
        f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" fill="{colour}"/>',
        f'<path d="{line}" stroke="{INK}" stroke-width="1.5" fill="none"/>',
        f'<text {place} font-size="12">{spread.median:,.0f}</text>',
    ]


def _spreads(row: Row) -> dict[str, Spread]:
    found = {name: row.spread(name) for name in SERIES}
    return {name: spread for name, spread in found.items() if spread is not None}
