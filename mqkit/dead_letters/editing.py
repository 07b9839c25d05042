"""Finds the one dead letter that is to be edited, and says what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from mqkit.dead_letters.errors import DeadLetterNotFoundError
from mqkit.dead_letters.messages.letters import Letter, read
from mqkit.drivers.base import Incoming
from mqkit.logging.shown import shown


@dataclass(slots=True)
class Edited:
    """What came of an edit."""

    run: str
    """Names it in the audit."""
    message_id: str | None = None
    """The id of the copy, which is a dead letter itself until it is replayed."""
    edited_from: str | None = None
    """The id of the original, or its ref where it has none."""


class Found:
    """The messages of an id or ref, and the ids of all edited copies that are there."""

    def __init__(self, which: str, queue: str) -> None:
        """Have found nothing yet.

        :param queue: whose dead letters they are
        """
        self._which = which
        self._queue = queue
        self._found: list[tuple[int, Letter]] = []
        self.copies: set[str | None] = set()

    def take(self, incoming: Incoming, arrived: bool) -> None:
        """Look at a message as it comes."""
        if arrived:
            return
        letter = read(incoming, queue=self._queue, has_body=True)
        if self._which in (letter.message_id, letter.ref):
            self._found.append((incoming.tag, letter))
        if letter.edited_from is not None:
            self.copies.add(letter.message_id)

    def the_one(self, where: str) -> tuple[int, Letter]:
        """Return the only message that was found, with its tag.

        :param where: the queue that was looked through
        :raises DeadLetterNotFoundError: there is none, or several
        """
        found, which = self._found, shown(self._which)
        if not found:
            raise DeadLetterNotFoundError(f"queue {shown(where)} has no message {which}")
        if len(found) > 1:
            refs = ", ".join(letter.ref for _, letter in found[:MAX_REFS])
            raise DeadLetterNotFoundError(
                f"queue {shown(where)} has {len(found)} messages {which}: name one by its ref, of "
                f"{refs}{', ...' if len(found) > MAX_REFS else ''}"
            )
        return found[0]


MAX_REFS = 5
"""Refs of messages that share an id, in an error."""
