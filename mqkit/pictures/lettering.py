"""Measures, shortens and escapes text for SVG, without knowing the reader's fonts."""

from __future__ import annotations

import unicodedata
from html import escape

FONTS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"

_JOINER = "\u200d"
_NARROW = frozenset("ijl.,:;'|!() []ftrI-`")
_WIDE = frozenset("mwMW@%—…")
_ELLIPSIS = "…"

# Parts of the font's size, as wide as the widest of the usual fonts (DejaVu Sans) has them.
_NARROW_WIDTH, _USUAL_WIDTH, _CAPITAL_WIDTH, _WIDE_WIDTH = 0.4, 0.63, 0.72, 0.98
_FULL_WIDTH = 1.25


def clean(text: str) -> str:
    """Return text in one line, with what cannot be seen written as Python escapes it.

    Characters that XML forbids, lone surrogates and those that change the direction of writing
    are among them. The joiner of composed emoji stays.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == _JOINER else " " if c in "\t\n\r\u3000\xa0" else _seen(c)
        for c in text
    )


def _seen(character: str) -> str:
    return ascii(character)[1:-1]


def markup(text: str) -> str:
    """Return text as it stands in XML, escaped; also in an attribute."""
    return escape(clean(text))


def width(text: str, size: float) -> float:
    """Estimate the width of one line in pixels, rather too wide than too narrow.

    :param size: the font's size in pixels
    """
    return size * sum(map(_character_width, text))


def _character_width(character: str) -> float:
    if character in _NARROW:
        return _NARROW_WIDTH
    if character in _WIDE:
        return _WIDE_WIDTH
    if character.isascii():
        return _CAPITAL_WIDTH if character.isupper() else _USUAL_WIDTH
    if character == _JOINER or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF" or unicodedata.category(character) == "So":
        return _FULL_WIDTH
    return _WIDE_WIDTH if character.isupper() else 0.75


def shortened(text: str, size: float, most: float) -> str:
    """Cut the middle out of a line that is wider than `most` pixels; names differ at their ends.

    A character is never parted from its accents, nor one emoji in two.
    """
    if width(text, size) <= most:
        return text
    pieces = _pieces(text)
    room = most - width(_ELLIPSIS, size)
    head: list[str] = []
    tail: list[str] = []
    while pieces:
        at_end = len(tail) < len(head)
        piece = pieces.pop() if at_end else pieces.pop(0)
        room -= width(piece, size)
        if room < 0:
            break
        (tail if at_end else head).append(piece)
    return "".join((*head, _ELLIPSIS, *reversed(tail)))


def _pieces(text: str) -> list[str]:
    """Part a text into what a reader takes for its characters."""
    pieces: list[str] = []
    for character in text:
        joined = bool(pieces) and pieces[-1].endswith(_JOINER)
        if pieces and (joined or _character_width(character) == 0.0 or _is_modifier(character)):
            pieces[-1] += character
        else:
            pieces.append(character)
    return pieces


def _is_modifier(character: str) -> bool:
    return unicodedata.category(character) == "Sk" and not character.isascii()
