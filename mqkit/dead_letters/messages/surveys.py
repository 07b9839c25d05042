"""Looks at dead letters one after the other: counts all by group, and lists the first. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mqkit.dead_letters.messages.groups import Group, Groups
from mqkit.dead_letters.messages.letters import Letter
from mqkit.message import Properties


@dataclass(frozen=True, slots=True)
class Survey:
    """What one look at a queue of dead letters found."""

    count: int
    groups: list[Group]
    """The largest first."""
    letters: list[Letter]
    """The first of them, in their order, without bodies, headers and tracebacks."""
    by_group: dict[str, list[Letter]]
    """The same, of each group."""


class Surveying:
    """Collects a survey."""

    def __init__(self, keep: int) -> None:
        """Have looked at nothing yet.

        :param keep: letters that are listed at most
        """
        self._keep = keep
        self._count = 0
        self._groups = Groups()
        self._letters: list[Letter] = []
        self._by_group: dict[str, list[Letter]] = {}

    def add(self, letter: Letter) -> None:
        """Look at one more."""
        self._count += 1
        self._groups.add(letter)
        if len(self._letters) < self._keep:
            few = Properties(message_id=letter.message_id)
            listed = replace(letter, properties=few, body=None, traceback=None, history=())
            self._letters.append(listed)
            self._by_group.setdefault(letter.group, []).append(listed)

    def result(self) -> Survey:
        """Return what was found."""
        return Survey(self._count, self._groups.largest_first(), self._letters, self._by_group)
