"""Tells from the text of a statement what else it does: ends its transaction, changes its session.

A transaction of the store is ended by mqkit alone: a COMMIT by hand would part what one message did
from its note in the inbox, and from what it publishes, and a ROLLBACK takes others' work with it.
What a statement leaves with the session would be met by the messages that come after.
"""

from __future__ import annotations

import functools
import re
from enum import Enum, auto


class Kind(Enum):
    """What a statement does besides reading and writing rows."""

    PLAIN = auto()
    """Nothing."""
    ENDS = auto()
    """It begins or ends a transaction."""
    LOCAL = auto()
    """It changes a setting until the end of the transaction, which may be several messages'."""
    SESSION = auto()
    """It leaves something with the session: a setting, a lock, a temporary table."""


_KEPT = 1_000
"""Texts whose kind is remembered: most statements of a program are a few that come again."""

_LONGEST_KEPT = 10_000
"""Characters; longer texts are made for one message, mostly, and not remembered."""

_SUSPECT = re.compile(
    r"\b(?:commit|end|rollback|abort|begin|start|prepare|set|reset|discard|deallocate|listen"
    r"|unlisten|load|declare|temp|temporary|pragma|attach|detach|set_config"
    r"|pg_(?:try_)?advisory_(?:un)?lock\w*)\b",
    re.IGNORECASE,
)
"""Without one of these a statement is plain; one that has them is looked at as a whole."""

_NO_CODE = re.compile(
    r"""--[^\n]*|/\*.*?\*/|\bE'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*\""""
    r"""|(\$\w*\$).*?\1""",
    re.IGNORECASE | re.DOTALL,
)
"""Comments, and what stands in quotes."""

_ENDS = re.compile(
    r"\s*(?:(?:commit|end|abort|begin|start\s+transaction|prepare\s+transaction)\b"
    r"|rollback\b(?!(?:\s+(?:work|transaction))?\s+to\b))",
    re.IGNORECASE,
)

_SESSION = re.compile(
    r"\s*(?:set\b|reset\b|discard\b|deallocate\b|listen\b|unlisten\b|load\b|prepare\b"
    r"|declare\b.*\bwith\s+hold\b|create\s+(?:(?:local|global)\s+)?temp(?:orary)?\b"
    r"|pragma\b[^;]*=|(?:at|de)tach\b)"
    r"|.*\b(?:set_config|pg_(?:try_)?advisory_lock(?:_shared)?)\s*\("
    r"|.*\binto\s+(?:(?:local|global)\s+)?temp(?:orary)?\b",
    re.IGNORECASE | re.DOTALL,
)

_LOCAL = re.compile(
    r"\s*set\s+(?:local|transaction)\b"
    r"|\s*select\s+set_config\s*\([^()]*,\s*true\s*\)(?!.*\b(?:set_config|pg_\w*lock)\b)",
    re.IGNORECASE | re.DOTALL,
)

_WITH_BODY = re.compile(r"\s*create\b.*\bbegin\b", re.IGNORECASE | re.DOTALL)
"""A trigger or a function, whose statements stand in it and are not run now."""

_OF_ROWS = re.compile(r"\s*(?:insert|update|delete|select|with)\b", re.IGNORECASE)

_CONSTRAINTS = re.compile(r"\s*set\s+constraints\b", re.IGNORECASE)
"""A SET that says only when the transaction's own rows are checked."""


def kind_of(statement: str) -> Kind:
    """Return what a statement does, or what does most of several in one text."""
    if len(statement) > _LONGEST_KEPT:
        return _look(statement)
    return _known(statement)


@functools.lru_cache(maxsize=_KEPT)
def _known(statement: str) -> Kind:
    return _look(statement)


def is_of_rows(statement: str) -> bool:
    """Tell whether a text is one statement that reads or writes rows and does nothing else.

    False says nothing: it may be one all the same.
    """
    return len(statement) <= _LONGEST_KEPT and _is_of_rows(statement)


@functools.lru_cache(maxsize=_KEPT)
def _is_of_rows(statement: str) -> bool:
    is_one = ";" not in statement and _OF_ROWS.match(statement) is not None
    return is_one and _known(statement) is Kind.PLAIN


def _look(statement: str) -> Kind:
    if _SUSPECT.search(statement) is None:
        return Kind.PLAIN
    code = _NO_CODE.sub(" ", statement)
    kinds = {_kind(each) for each in ([code] if _WITH_BODY.match(code) else code.split(";"))}
    if Kind.ENDS in kinds:
        return Kind.ENDS
    return next((kind for kind in (Kind.SESSION, Kind.LOCAL) if kind in kinds), Kind.PLAIN)


def _kind(code: str) -> Kind:
    if _ENDS.match(code):
        return Kind.ENDS
    if _LOCAL.match(code):
        return Kind.LOCAL
    if _SESSION.match(code) and not _CONSTRAINTS.match(code):
        return Kind.SESSION
    return Kind.PLAIN
