"""Looks after dead letters on the broker's own queues: lists, shows, replays, edits, archives them.

`DeadLetters` is where to begin. By AMQP alone: there is no database, and no management API.
"""

from mqkit.dead_letters.audit import AuditEntry
from mqkit.dead_letters.dead_letters import DeadLetters
from mqkit.dead_letters.editing import Edited
from mqkit.dead_letters.errors import (
    DeadLetterError,
    DeadLetterMoveError,
    DeadLetterNotFoundError,
    DeadLettersInUseError,
    NotADeadLetterQueueError,
)
from mqkit.dead_letters.messages.filters import EVERYTHING, Filter
from mqkit.dead_letters.messages.groups import Group
from mqkit.dead_letters.messages.letters import Letter
from mqkit.dead_letters.messages.surveys import Survey
from mqkit.dead_letters.moving import Moved
from mqkit.dead_letters.rehearsing import Inbox, Problem, Rehearsed
from mqkit.dead_letters.replaying import Pace, Replayed

__all__ = [
    "EVERYTHING",
    "AuditEntry",
    "DeadLetterError",
    "DeadLetterMoveError",
    "DeadLetterNotFoundError",
    "DeadLetters",
    "DeadLettersInUseError",
    "Edited",
    "Filter",
    "Group",
    "Inbox",
    "Letter",
    "Moved",
    "NotADeadLetterQueueError",
    "Pace",
    "Problem",
    "Rehearsed",
    "Replayed",
    "Survey",
]
