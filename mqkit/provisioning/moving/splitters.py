"""Finds the services that still run with another number of partitions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from mqkit.management import ManagementApi
from mqkit.management.answers import records
from mqkit.topology import Queue


async def old_splitters(api: ManagementApi | None, queue: Queue) -> str:
    """Say which connections split the messages of a queue over other partitions than its own.

    Where there is no management API the caller has seen that nobody else consumes.

    :raises ManagementError: the API cannot be asked
    """
    if api is None:
        return ""
    consumed: dict[str, set[str]] = defaultdict(set)
    for each in records(api.name, await api.ask("consumers") or []):
        connection, name = _place(each)
        consumed[connection].add(name)
    wanted = {each.name for each in queue.partition_queues()}
    stem = f"{queue.name}."
    old = [
        connection
        for connection, names in consumed.items()
        if queue.name in names
        and (parts := {n for n in names if n.startswith(stem) and n[len(stem) :].isdigit()})
        and parts != wanted
    ]
    if not old:
        return ""
    noun = "process" if len(old) == 1 else "processes"
    return (
        f"{len(old)} {noun} with another number of partitions: start the service anew with "
        f"{len(wanted) or 1}"
    )


def _place(consumer: Mapping[str, Any]) -> tuple[str, str]:
    channel, queue = consumer.get("channel_details"), consumer.get("queue")
    connection = channel.get("connection_name") if isinstance(channel, Mapping) else ""
    name = queue.get("name") if isinstance(queue, Mapping) else ""
    return str(connection), str(name)
