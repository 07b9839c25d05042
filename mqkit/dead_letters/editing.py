"""Finds the one dead letter that is to be edited, and says what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from mqkit.dead_letters.errors import DeadLetterNotFoundError
from mqkit.dead_letters.letters import Letter
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


def the_one(found: list[tuple[int, Letter]], which: str, queue: str) -> tuple[int, Letter]:
    """Return the only message that was found.

    :raises DeadLetterNotFoundError: there is none, or several
    """
    if not found:
        raise DeadLetterNotFoundError(f"queue {shown(queue)} has no message {shown(which)}")
    if len(found) > 1:
        refs = ", ".join(letter.ref for _, letter in found[:5])
        raise DeadLetterNotFoundError(
            f"queue {shown(queue)} has {len(found)} messages {shown(which)}: name one by its ref, "
            f"of {refs}{', ...' if len(found) > 5 else ''}"  # noqa: PLR2004 - as are named
        )
    return found[0]
