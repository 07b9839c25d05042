"""Finds where a value ends that stands after a name: quoted, in brackets, or bare. Linear."""

from __future__ import annotations

import re

_PREFIX = re.compile(r"[bBrRuUfF]{0,2}(?=\\*[\"'`])")
_OPENING = re.compile(r"\\*(?:\"\"\"|'''|[\"'`])")
_NOTHING = re.compile(r"(?:None|null|nil|undefined|true|false)(?![^\s,;&)\]}>\"'])", re.IGNORECASE)
_SCHEME = re.compile(r"(?:Bearer|Basic|Token|ApiKey|Negotiate)\s{1,3}(?=[^\s,;\"'])", re.IGNORECASE)
_TO_THE_LINES_END = re.compile(r"(?:Digest|AWS4-HMAC-SHA256|OAuth|Hawk)\s[^\n]*", re.IGNORECASE)
_COOKIES = re.compile(r"[^\s;\"']+(?:;\s?[^\s;\"']+)*")
_PIECE = re.compile(
    r"[^\s,;&|<\"'`()\[\]{}\\]+"
    # What ends a value in most texts, where no other value follows it, and no space.
    r"|[,;&|](?!\s|$|[\w.-]{1,64}\s?[=:]|[\"'\\])"
    r"|[\"'`](?=\w)"
    r"|\\(?![nrt\"'])"
)
_IN_BRACKETS = re.compile(r"[^()\[\]{}\"'\\\n]+|\\.?|[\"'\n]|[()\[\]{}]")
_GROUPS = re.compile(r"(?: (?=[A-Z]{0,3}[0-9])[0-9A-Z]{1,6}(?![\w.]))+")

OPEN, CLOSE = "([{", ")]}"


def end_of_value(text: str, at: int, name: str, *, has_groups: bool) -> tuple[int, int]:
    """Return where the secret part of a value begins and ends; both are the same if it has none.

    The end is never before `at`. What is not closed goes on to the end of its line.

    :param name: in lower case; some names have values with spaces in them
    :param has_groups: a bare value may go on after a space with groups of digits, as an IBAN does
    """
    begin = prefix.end() if (prefix := _PREFIX.match(text, at)) else at
    if opening := _OPENING.match(text, begin):
        return opening.end(), _end_of_quoted(text, opening.end(), opening.group())
    if nothing := _NOTHING.match(text, at):
        return nothing.end(), nothing.end()
    if name.endswith("authorization"):
        if whole := _TO_THE_LINES_END.match(text, at):
            return at, whole.end()
        if scheme := _SCHEME.match(text, at):
            return scheme.end(), _end_of_bare(text, scheme.end())
    if name.endswith("cookie") and (cookies := _COOKIES.match(text, at)):
        return at, cookies.end()
    end = _end_of_bare(text, at)
    if has_groups and (groups := _GROUPS.match(text, end)):
        end = groups.end()
    return at, end


def _end_of_quoted(text: str, at: int, opening: str) -> int:
    """Return where the closing quote begins; one with another number of backslashes is none."""
    escapes = len(opening) - len(opening.lstrip("\\"))
    while (found := text.find(opening, at)) >= 0:
        before = found
        while before > at and text[before - 1] == "\\":
            before -= 1
        if before != found and not escapes:
            at = found + 1
        elif text.startswith(opening, found + len(opening)) and found > at:  # SQL doubles it
            at = found + 2 * len(opening)
        else:
            return found
    line = text.find("\n", at)
    return len(text) if line < 0 else line


def _end_of_bare(text: str, at: int) -> int:
    while at < len(text):
        if text[at] in OPEN:
            at = _end_of_brackets(text, at)
        elif piece := _PIECE.match(text, at):
            at = piece.end()
        else:
            break
    return at


def _end_of_brackets(text: str, at: int) -> int:
    """Return where what is in brackets ends, with the brackets in it; quoted ones are none."""
    depth = 0
    while piece := _IN_BRACKETS.match(text, at):
        character = piece.group()
        if character == "\n":
            return at
        at = piece.end()
        if character in ("'", '"'):
            at = min(_end_of_quoted(text, at, character) + 1, len(text))
        elif character in OPEN:
            depth += 1
        elif character in CLOSE:
            depth -= 1
            if depth == 0:
                return at
    return at
