"""The console's own files: its colours can be read, and they lead nowhere else."""

from __future__ import annotations

import re

import pytest

from mqkit.console.app import STATIC_FILES

STYLE = (STATIC_FILES / "console.css").read_text()

COLOURS = {
    found[1]: (found[2], found[3])
    for found in re.finditer(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", STYLE)
}
"""On a light page, and on a dark one."""

TEXT = 4.5
"""The contrast that text needs (WCAG 2.2, 1.4.3, level AA)."""

PAIRS = (
    *(("ink", each) for each in ("paper", "raised", "good-paper", "warn-paper", "bad-paper")),
    *(("dim", each) for each in ("paper", "raised", "warn-paper")),
    *(("link", each) for each in ("paper", "raised", "warn-paper", "bad-paper")),
    *((each, f"{each}-paper") for each in ("good", "warn", "bad")),
    *((each, "paper") for each in ("good", "warn", "bad", "accent")),
    ("accent", "raised"),
    ("paper", "link"),
)


def light(colour: str) -> float:
    """The relative luminance of a colour, as WCAG defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    ]
    return sum(share * each for share, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(("front", "back"), PAIRS)
def test_colours_that_stand_on_each_other_can_be_read(front: str, back: str) -> None:
    """On a light page and on a dark one."""
    for one, other in zip(COLOURS[front], COLOURS[back], strict=True):
        low, high = sorted((light(one), light(other)))
        assert (high + 0.05) / (low + 0.05) >= TEXT


def test_files_lead_nowhere_else() -> None:
    """No style, script or picture names another host, but the name of what SVG is."""
    for path in STATIC_FILES.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE).replace("; //", ";")
        assert "@import" not in text
        assert "innerHTML" not in text
