"""Checks the fields of an exchange, queue or binding, each by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from mqkit.amqp.tables import table_problem
from mqkit.checks import checked
from mqkit.limits import table_size

MAX_ARGUMENTS = 4096
"""Bytes: with a name, what is declared must fit into a frame, which has 8 KiB in the beginning."""


def field_problems(item: Any) -> Iterator[str]:
    """List the fields that have a wrong type, and what is wrong with the arguments."""
    for each in fields(item):
        value = getattr(item, each.name)
        if each.type == "bool" and not isinstance(value, bool):
            yield f"{each.name} is True or False, not {checked.shown(value)}"
    yield from argument_problems(item.arguments)


def argument_problems(arguments: object) -> Iterator[str]:
    """List why an exchange, queue or binding cannot have these arguments (`x-...`)."""
    if not isinstance(arguments, Mapping):
        yield f"arguments is a dict, not {checked.shown(arguments)}"
    elif (size := table_size(arguments, MAX_ARGUMENTS)) is None or size > MAX_ARGUMENTS:
        yield f"its arguments are nested too deeply, or take over {MAX_ARGUMENTS} bytes"
    elif problem := table_problem(arguments, "argument"):
        yield problem
