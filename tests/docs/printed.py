"""Compares what a command printed with what a page shows of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

_VARIABLE = re.compile(
    r"(?P<dots>\.\.\.)"
    r"|(?P<uuid>\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b)"
    r"|(?P<date>\b\d{4}-\d\d-\d\d(?!\d))"
    r"|(?P<time>(?<!\d)\d\d:\d\d:\d\d(?:[.,]\d+)?)"
    r"|(?P<version>(?<![\d.])\d+\.\d+\.\d+\b(?!\.))"
    r"|(?P<seconds>\b\d+\.\d+ ?(?:ms|s)\b)"
)
"""What differs from run to run."""

_ANY = {
    "dots": r".*?",
    "uuid": r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}",
    "date": r"\d{4}-\d\d-\d\d",
    "time": r"\d\d:\d\d:\d\d(?:[.,]\d+)?",
    "version": r"\d+\.\d+\.\d+",
    "seconds": r"\d+(?:\.\d+)? ?(?:ms|s)",
}

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain(text: str) -> str:
    """Return what is printed without colours, and without spaces at the ends of lines."""
    lines = _ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines)


def is_shown(shown: Sequence[str], printed: str) -> bool:
    """Tell whether a command printed what is shown, from its first line to its last."""
    text = plain(printed).strip("\n") + "\n"
    return _pattern(_trimmed(shown)).fullmatch(text) is not None


def end_of(shown: Sequence[str], printed: str) -> int | None:
    """Return where what is shown ends in what was printed up to now; None if it is not there yet.

    Other lines may come before it: a busy machine logs that it is one. `printed` is plain already.
    """
    match = _pattern(["...", *_trimmed(shown)]).match(printed)
    return match.end() if match else None


def _trimmed(shown: Sequence[str]) -> list[str]:
    lines = [line.rstrip() for line in shown]
    while lines and not lines[0]:
        del lines[0]
    while lines and not lines[-1]:
        del lines[-1]
    return lines


def _pattern(shown: Sequence[str]) -> re.Pattern[str]:
    return re.compile("".join(map(_line, shown)))


def _line(line: str) -> str:
    if line.strip() == "...":
        return r"(?:.*\n)*?"
    pieces, at = [], 0
    for match in _VARIABLE.finditer(line):
        pieces += [re.escape(line[at : match.start()]), _ANY[str(match.lastgroup)]]
        at = match.end()
    return "".join([*pieces, re.escape(line[at:]), r"\n"])
