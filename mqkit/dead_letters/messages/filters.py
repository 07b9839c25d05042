"""Says which dead letters are meant: by group, id, handler, time and header. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mqkit.checks import checked
from mqkit.dead_letters.messages.letters import Letter
from mqkit.errors import OptionError
from mqkit.message import HeaderValue

_GROUP = re.compile("[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant: those that meet all that is said; without any of it, all.

    :raises OptionError: a value cannot be one
    """

    groups: frozenset[str] = frozenset()
    """Fingerprints, as the groups are listed with."""
    ids: frozenset[str] = frozenset()
    """Message ids, or refs (`Letter.ref`)."""
    handler: str | None = None
    since: datetime | None = None
    """Failed last at this time or later; what has no time does not match."""
    until: datetime | None = None
    """Failed last before this time; what has no time does not match."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers by their names, and their values as text."""

    def __post_init__(self) -> None:
        for name in ("groups", "ids"):
            given = getattr(self, name)
            if isinstance(given, str) or not all(isinstance(each, str) and each for each in given):
                raise OptionError(f"Filter({name}=...) is a set of texts, none of them empty")
            object.__setattr__(self, name, frozenset(given))
        for group in self.groups:
            if not _GROUP.fullmatch(group):
                raise OptionError(
                    f"a group is named by eight hexadecimal digits, not {checked.shown(group)}"
                )
        self._check_times()
        if self.handler is not None:
            checked.name(self.handler, "Filter(handler=...)")
        if not isinstance(self.headers, Mapping) or not all(
            isinstance(name, str) and isinstance(value, str) for name, value in self.headers.items()
        ):
            raise OptionError("Filter(headers=...) is a dict of texts")

    def _check_times(self) -> None:
        for name in ("since", "until"):
            given = getattr(self, name)
            if given is None:
                continue
            if not isinstance(given, datetime) or given.tzinfo is None:
                raise OptionError(f"Filter({name}=...) is a datetime with a time zone")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise OptionError("Filter: since is not before until, so that nothing can match")

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing, so that every dead letter matches."""
        return self == Filter()

    def matches(self, letter: Letter) -> bool:
        """Whether a dead letter is meant."""
        if self.ids and letter.ref not in self.ids and letter.message_id not in self.ids:
            return False
        if self.handler is not None and letter.handler != self.handler:
            return False
        when = letter.last_failure
        if self.since is not None and (when is None or when < self.since):
            return False
        if self.until is not None and (when is None or when >= self.until):
            return False
        there = letter.properties.headers
        if any(
            name not in there or not _is_text(there[name], value)
            for name, value in self.headers.items()
        ):
            return False
        return not self.groups or letter.group in self.groups

    def as_fields(self) -> dict[str, object]:
        """Return what it says, for an audit entry."""
        fields: dict[str, object] = {}
        if self.groups:
            fields["groups"] = sorted(self.groups)
        if self.ids:
            fields["ids"] = sorted(self.ids)[:MAX_IDS]
        if self.handler is not None:
            fields["handler"] = self.handler
        fields |= {
            name: moment.isoformat()
            for name, moment in (("since", self.since), ("until", self.until))
            if moment is not None
        }
        if self.headers:
            fields["headers"] = dict(self.headers)
        return fields


MAX_IDS = 100
"""Ids of a filter that its audit entry has."""

EVERYTHING = Filter()


def _is_text(value: HeaderValue, text: str) -> bool:
    """Whether a header's value is written like this."""
    match value:
        case bool():
            return str(value).lower() == text.lower()
        case bytes():
            return value == text.encode("utf-8", "surrogateescape")
        case datetime():
            return value.isoformat() == text
        case _:
            return str(value) == text
