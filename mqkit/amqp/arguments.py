"""The `x-` arguments of a declaration: which ones mqkit sets, and what others may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from mqkit.amqp.tables import table_problem
from mqkit.checks import checked
from mqkit.limits import table_size

MAX_ARGUMENTS = 4096
"""Bytes: with a name, what is declared must fit into a frame, which has 8 KiB in the beginning."""

SINGLE_ACTIVE = "x-single-active-consumer"
"""https://www.rabbitmq.com/docs/consumers#single-active-consumer"""

EXPIRES = "x-expires"
"""https://www.rabbitmq.com/docs/ttl#queue-ttl"""

OWN_ARGUMENTS = {
    "x-queue-type": "use type=",
    "x-delivery-limit": "use delivery_limit=",
    "x-dead-letter-exchange": "dead letters go to the queue's own dead letter queue",
    "x-dead-letter-routing-key": "dead letters go to the queue's own dead letter queue",
    "x-dead-letter-strategy": "it is at-least-once",
    "x-overflow": "it is reject-publish, which at-least-once dead-lettering needs",
}
"""Arguments of a queue that mqkit sets, and what to do in the place of giving them."""


def dead_letter_arguments(queue_type: str, dead_queue: str) -> dict[str, Any]:
    """Build the arguments by which a queue dead-letters to `dead_queue`.

    At-least-once dead-lettering, which quorum queues have, needs the dead letter exchange, the
    strategy and `reject-publish` together
    (https://www.rabbitmq.com/docs/quorum-queues#dead-lettering).
    """
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead_queue}
    if queue_type == "quorum":
        arguments |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    return arguments


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
