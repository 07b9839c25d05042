"""Writes down who did what with dead letters, when and why, before it is done.

It is in a queue on the broker beside the dead letters: whoever may move these can write there,
wherever the command runs, and everybody reads the same account. A log or a file would be on the
machine of whoever ran it. The queue keeps the latest entries and is no archive.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mqkit.checks import checked
from mqkit.clock import Clock, stamp, utc_now
from mqkit.dead_letters.messages.letters import Letter
from mqkit.dead_letters.messages.view import masked
from mqkit.drivers.base import Incoming
from mqkit.errors import OptionError
from mqkit.logging.masking import DEFAULT, Masker
from mqkit.message import Message, Properties
from mqkit.publishing.publisher import Publisher

MAX_TEXT = 500
"""Characters of who and why."""

NAMED = 100
"""Messages that one entry names."""

BEGAN, MOVES, ENDED, FAILED = "began", "moves", "ended", "failed"
"""What an entry is of: the beginning, the messages that are moved next, the end, an error."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the account: who did what, when and why."""

    at: datetime | None
    who: str
    what: str
    """'replay', 'archive', 'restore', 'edit' or 'drop'."""
    why: str
    run: str
    """Names the run that it is an entry of."""
    stage: str
    """'began', 'moves', 'ended' or 'failed'; a run without an end was interrupted."""
    details: dict[str, Any] = field(default_factory=dict)
    """Its filter, the messages that are moved next, or what came of it."""


def checked_text(text: object, option: str) -> str:
    """Check who or why.

    :raises OptionError: it is no text, empty, or too long
    """
    if not isinstance(text, str) or not text.strip():
        raise OptionError(f"{option} is a text that says it, not {checked.shown(text)}")
    if len(text) > MAX_TEXT:
        raise OptionError(f"{option} has {MAX_TEXT} characters at most, not {len(text)}")
    return text.strip()


class Audit:
    """Writes the entries of one run."""

    def __init__(
        self,
        publisher: Publisher,
        queue: str,
        *,
        who: str,
        what: str,
        why: str,
        run: str,
        clock: Clock = utc_now,
        masker: Masker = DEFAULT,
    ) -> None:
        self._publisher = publisher
        self._queue = queue
        self._fixed = {"who": who, "what": what, "why": why, "run": run}
        self.run = run
        self.result: Callable[[], dict[str, object]] = dict
        """Says what came of it until now."""
        self._clock = clock
        self._masker = masker

    async def began(self, details: dict[str, object]) -> None:
        """Write that it begins; nothing is touched before that is confirmed."""
        await self._write(BEGAN, details)

    async def moves(self, letters: Sequence[Letter]) -> None:
        """Write which messages are moved next; none is before that is confirmed."""
        named = [{"id": each.message_id, "ref": each.ref, "group": each.group} for each in letters]
        await self._write(MOVES, {"messages": named})

    async def ended(self, details: dict[str, object]) -> None:
        """Write what came of it."""
        await self._write(ENDED, details)

    async def failed(self, details: dict[str, object]) -> None:
        """Write which error ended it."""
        await self._write(FAILED, details)

    async def _write(self, stage: str, details: dict[str, object]) -> None:
        entry = {"at": stamp(self._clock()), **self._fixed, "stage": stage, "details": details}
        body = json.dumps(masked(entry, self._masker)).encode()
        properties = Properties(content_type="application/json", timestamp=self._clock())
        await self._publisher.send(Message("", self._queue, body, properties))


def read_entry(incoming: Incoming) -> AuditEntry | None:
    """Read an entry; None where it is none: anybody may publish there."""
    try:
        entry = json.loads(incoming.body)
        texts = {name: entry[name] for name in ("who", "what", "why", "run", "stage")}
        details = entry["details"]
        moment = datetime.fromisoformat(entry["at"])
        at = None if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    if not isinstance(details, dict) or not all(isinstance(each, str) for each in texts.values()):
        return None
    return AuditEntry(at=at, details=details, **texts)
