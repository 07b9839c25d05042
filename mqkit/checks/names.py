"""Checks of the names of queues, exchanges and services."""

from __future__ import annotations

import unicodedata

from mqkit.checks.checked import MAX_SHORT
from mqkit.errors import ConfigurationError


def check_name(kind: str, name: str, limit: int = MAX_SHORT) -> None:
    """Check that `kind`, such as 'a queue', can have a name, of `limit` bytes at most.

    :raises ConfigurationError: it cannot
    """
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{kind} needs a name; got {name!r}")
    check_characters(f"{kind} {name[:40]!r}", name)
    if len(name.encode()) > limit:
        raise ConfigurationError(f"{kind} {name[:40]!r}...: the name is over {limit} bytes long")


def check_characters(what: str, name: str) -> None:
    """Check that a name is one line of text.

    RabbitMQ takes CR and LF out of the names of queues and exchanges that are declared, and of no
    others (`rabbit_channel:strip_cr_lf`): that queue is there, and nothing that names it finds it.

    :raises ConfigurationError: it has a control character, or half of one (a surrogate)
    """
    for character in name:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise ConfigurationError(
                f"{what}: the name has the character {character!r}; it is one line of text"
            )
