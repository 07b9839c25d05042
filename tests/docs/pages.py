"""Reads the fenced blocks of a page, with what the comments above them say."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)$")
_LANGUAGE = re.compile(r"^\{?\s*\.?(?P<language>[\w+-]*)")
_TITLE = re.compile(r"""title=(["'])(?P<title>.*?)\1""")
_INCLUDE = re.compile(
    r"""^(?P<indent>\s*)-{1,}8<-{1,}\s+"(?P<path>[^":]+)(?::(?P<section>[\w-]+))?"$"""
)
_SECTION = re.compile(r"-{1,}8<-{1,}\s+\[(?P<end>start|end):\s*(?P<name>[\w-]+)\]")
_MAY_INDENT = re.compile(r"^ {0,3}([-*+] |\d+[.)] |!!! |\?\?\?|=== |::: |: )")
"""What indented text belongs to: an item of a list, an admonition, a tab, options, a definition."""


class PageError(AssertionError):
    """A page is not written as its test can read it, or says what is not so."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    where: str
    """The page and the line of the fence: 'docs/tutorial.md:12'."""
    line: int
    language: str
    title: str | None
    text: str
    before: str = ""
    """Python that the block needs and a reader does not, from a comment above it."""
    not_run: str | None = None
    """Why it cannot be run; None if it is run."""


def read(page: Path, root: Path) -> list[Block]:
    """Read a page's blocks in their order.

    :param root: the repository; includes are looked up in its folder `docs`
    :raises PageError: a block has no language, no end, or only an indent; an include is not there
    """
    return list(
        _Reader(page.read_text(), page.relative_to(root).as_posix(), root / "docs").blocks()
    )


class _Reader:
    """Goes through a page line by line."""

    def __init__(self, text: str, name: str, included: Path) -> None:
        self._lines = text.splitlines()
        self._name = name
        self._included = included
        self._at = 0

    def blocks(self) -> Iterator[Block]:
        before, reason = "", None
        owner = ""
        """The last line that stands at the margin."""
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if (match := _FENCE.match(line)) is not None:
                yield self._block(match, before, reason)
                before, reason = "", None
                continue
            if line.lstrip().startswith("<!--"):
                said = self._comment()
                if said.startswith("before:"):
                    before = textwrap.dedent(said.removeprefix("before:")).strip() + "\n"
                elif said.startswith("not run:"):
                    reason = " ".join(said.removeprefix("not run:").split())
                continue
            if line.strip():
                if line.startswith("    ") and not _MAY_INDENT.match(owner):
                    raise self._error("an indented block: fence it, and name its language")
                before, reason = "", None
            if line.strip() and not line.startswith(" "):
                owner = line
            self._at += 1

    def _comment(self) -> str:
        first = self._at
        while "-->" not in self._lines[self._at]:
            self._at += 1
            if self._at == len(self._lines):
                self._at = first
                raise self._error("a comment without an end")
        self._at += 1
        whole = "\n".join(self._lines[first : self._at])
        return whole.partition("<!--")[2].partition("-->")[0].strip()

    def _block(self, match: re.Match[str], before: str, reason: str | None) -> Block:
        first = self._at
        fence, indent, info = match["fence"], match["indent"], match["info"].strip()
        language = _LANGUAGE.match(info)
        if language is None or not language["language"]:
            raise self._error("a block without a language")
        title = _TITLE.search(info)
        body: list[str] = []
        while True:
            self._at += 1
            if self._at == len(self._lines):
                self._at = first
                raise self._error("a block without an end")
            line = self._lines[self._at]
            if (
                line.strip()
                and not line.strip().strip(fence[0])
                and len(line.strip()) >= len(fence)
            ):
                break
            body += self._with_include(line.removeprefix(indent) if indent else line)
        self._at += 1
        return Block(
            where=f"{self._name}:{first + 1}",
            line=first + 1,
            language=language["language"],
            title=title["title"] if title else None,
            text="".join(f"{line}\n" for line in body),
            before=before,
            not_run=reason,
        )

    def _with_include(self, line: str) -> list[str]:
        match = _INCLUDE.match(line)
        if match is None:
            return [line]
        path = self._included / match["path"]
        if not path.is_file():
            raise self._error(f"includes {match['path']}, which is not there")
        lines = _section(path.read_text().splitlines(), match["section"])
        if not lines:
            raise self._error(f"includes nothing of {match['path']}")
        return [match["indent"] + each if each else each for each in lines]

    def _error(self, what: str) -> PageError:
        return PageError(f"{self._name}:{self._at + 1}: {what}")


def _section(lines: list[str], name: str | None) -> list[str]:
    """Return the lines of a section, or all, without the marks of sections."""
    found, inside = [], name is None
    for line in lines:
        mark = _SECTION.search(line)
        if mark is None:
            found += [line] if inside else []
        elif mark["name"] == name:
            inside = mark["end"] == "start"
    return textwrap.dedent("\n".join(found)).splitlines()
