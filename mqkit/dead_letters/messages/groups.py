"""Puts dead letters into groups that failed alike, and counts them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from mqkit.dead_letters.messages.letters import Letter


@dataclass(slots=True)
class Group:
    """Dead letters that failed alike: of one reason, error type, place in the code and handler."""

    group: str
    """The fingerprint, by which a filter names it."""
    reason: str
    error_type: str | None
    place: str | None
    handler: str | None
    error_message: str | None
    """Of the one that failed last."""
    count: int = 0
    replayed: int = 0
    """How many of them were replayed before."""
    size: int = 0
    """Bytes of their bodies."""
    first: datetime | None = None
    """When the first of them failed last; None where none tells."""
    last: datetime | None = None
    """When the last of them did."""

    def add(self, letter: Letter) -> None:
        """Count one more."""
        self.count += 1
        self.replayed += letter.replays > 0
        self.size += letter.size
        when = letter.last_failure
        if when is None:
            return
        if self.first is None or when < self.first:
            self.first = when
        if self.last is None or when >= self.last:
            self.last = when
            self.error_message = letter.error_message


MAX_GROUPS = 1_000
"""Groups that are told apart; what comes in more of them is counted as 'other'."""

OTHER = "other"


class Groups:
    """Counts dead letters by their groups."""

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}

    def add(self, letter: Letter) -> None:
        """Count a dead letter in its group."""
        key = letter.group
        group = self._groups.get(key)
        if group is None and len(self._groups) >= MAX_GROUPS:
            group = self._groups.setdefault(OTHER, Group(OTHER, OTHER, None, None, None, None))
        if group is None:
            group = self._groups[key] = Group(
                key,
                letter.reason,
                letter.error_type,
                letter.place,
                letter.handler,
                letter.error_message,
            )
        group.add(letter)

    def largest_first(self) -> list[Group]:
        """Return the groups, those with the most messages first."""
        return sorted(self._groups.values(), key=lambda each: (-each.count, each.group))


def grouped(letters: Iterable[Letter]) -> list[Group]:
    """Put dead letters into groups, the largest first."""
    groups = Groups()
    for letter in letters:
        groups.add(letter)
    return groups.largest_first()
