"""The colours of pictures, for light and dark, and the frame that all of them have.

Names of classes and properties begin with `mq-`: the style of an SVG that stands in a page holds
for the whole page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from mqkit.pictures.lettering import FONTS, clean, markup, shortened, width

TITLE_SIZE = 15.0
TITLE_HEIGHT = 34.0
MARGIN = 20.0
NARROWEST, WIDEST_TITLE = 280.0, 600.0
"""Pixels that a picture is wide at least, and that it is wide for its title's sake."""

BOLD = 1.08
"""How much wider bold letters are."""

INK = {
    "paper": ("#ffffff", "#14181d"),
    "ink": ("#1b1f24", "#e8ebef"),
    "dim": ("#57606a", "#a9b2bd"),
}
"""Each colour on a light paper, and on a dark one."""

_FRAME = (
    ".mq-picture{background:var(--mq-paper)}"
    f".mq-picture text{{font-family:{FONTS};fill:var(--mq-ink);unicode-bidi:plaintext}}"
    ".mq-picture .mq-paper{fill:var(--mq-paper)}"
    f".mq-picture .mq-title{{font-size:{TITLE_SIZE:g}px;font-weight:600}}"
    ".mq-picture .mq-dim{fill:var(--mq-dim)}"
)


def framed(
    parts: Iterable[str],
    size: tuple[float, float],
    *,
    title: str,
    description: str,
    colours: dict[str, tuple[str, str]],
    rules: Sequence[str],
) -> str:
    """Put a picture together: its size, names for who cannot see it, style, title and parts.

    :param size: the width and height of the parts, which begin below the title
    :param colours: more of them, as `INK` has them
    :param rules: of the style
    """
    wide = 2 * MARGIN + max(size[0], min(width(title, TITLE_SIZE) * BOLD, WIDEST_TITLE), NARROWEST)
    high = size[1] + 2 * MARGIN + TITLE_HEIGHT
    body = "\n".join(parts)
    name = "mq-" + sha256(f"{title}\0{body}".encode(errors="replace")).hexdigest()[:10]
    heading = shortened(clean(title), TITLE_SIZE * BOLD, wide - 2 * MARGIN)
    told = f'<desc id="{name}-d">{markup(description)}</desc>\n' if description else ""
    by = f"{name}-t {name}-d" if description else f"{name}-t"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="mq-picture" role="img" '
        f'aria-labelledby="{by}" width="{wide:.0f}" height="{high:.0f}" '
        f'viewBox="0 0 {wide:.0f} {high:.0f}">\n'
        f'<title id="{name}-t">{markup(title)}</title>\n{told}'
        f"<style>{_style(colours, rules)}</style>\n"
        f'<rect class="mq-paper" width="{wide:.0f}" height="{high:.0f}"/>\n'
        f'<text class="mq-title" x="{MARGIN:g}" y="{MARGIN + TITLE_SIZE - 2:g}">'
        f"{markup(heading)}</text>\n"
        f'<g transform="translate({MARGIN:g} {MARGIN + TITLE_HEIGHT:g})">\n{body}\n</g>\n</svg>\n'
    )


def _style(colours: dict[str, tuple[str, str]], rules: Sequence[str]) -> str:
    all_colours = INK | colours
    light, dark = (
        ";".join(f"--mq-{name}:{pair[at]}" for name, pair in all_colours.items()) for at in (0, 1)
    )
    return (
        f".mq-picture{{{light}}}\n"
        f"@media (prefers-color-scheme:dark){{.mq-picture{{{dark}}}}}\n"
        f"{_FRAME}{''.join(rules)}"
    )
