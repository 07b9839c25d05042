"""Checks what a management API answers: whether it has the fields that are read, of their kinds.

Behind the URL may stand anything that speaks HTTP, or a later RabbitMQ. What an answer has besides
is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mqkit.errors import ManagementError

_KINDS = {str: "a text", bool: "true or false"}


def record(where: str, found: Any, **fields: type[str | bool]) -> Mapping[str, Any]:
    """Return an object of an answer whose fields are of these kinds.

    :param where: the API's name, for the error
    :raises ManagementError: it is none
    """
    if not isinstance(found, Mapping):
        raise _unknown(where, f"an answer is no object with {' and '.join(fields) or 'fields'}")
    for name, kind in fields.items():
        if not isinstance(found.get(name), kind):
            raise _unknown(where, f"in an answer {name} is not {_KINDS[kind]}")
    return found


def records(where: str, found: Any, **fields: type[str | bool]) -> list[Mapping[str, Any]]:
    """Return a list of such objects.

    :raises ManagementError: as `record`
    """
    if not isinstance(found, list):
        raise _unknown(where, "an answer that should be a list is none")
    return [record(where, each, **fields) for each in found]


def mapping(found: Any) -> Mapping[str, Any]:
    """Return arguments, which are an empty list in some answers where there are none."""
    return found if isinstance(found, Mapping) else {}


def whole(found: Any) -> int:
    """Return a number of an answer; 0 where it has none, as for a queue that is new."""
    return found if isinstance(found, int) else 0


def _unknown(where: str, what: str) -> ManagementError:
    return ManagementError(
        f"{where}: this is no management API of RabbitMQ, or one that is not known here: {what}"
    )
