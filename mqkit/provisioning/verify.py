"""Looks after the delay ladder of a broker: all levels, what they are bound to, what is stuck."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from mqkit.broker import delays, later
from mqkit.broker.declare import explain
from mqkit.broker.moving import STEM
from mqkit.broker.policies import problems
from mqkit.drivers.base import OpenChannel
from mqkit.errors import ChannelClosedError, ManagementError
from mqkit.management import ManagementApi
from mqkit.management.answers import mapping, records, whole
from mqkit.outcome import DELAY_LEVELS
from mqkit.provisioning.ladder import (
    Ladder,
    LadderBinding,
    LadderExchange,
    LadderQueue,
    known_levels,
    ladder_of,
    problems_of,
    stuck,
)
from mqkit.provisioning.moving.scaffold import find

AGAIN = 6.0
"""Seconds until messages that seem stuck are looked at again: what the API tells is 5 s old."""

PAGE = 500


@dataclass(frozen=True, slots=True)
class LadderReport:
    """How a ladder is."""

    levels: int
    later_levels: int
    """Of the ladder of what is published later."""
    messages: Mapping[str, int]
    """What waits in each queue that has something."""
    problems: tuple[str, ...]
    unseen: tuple[str, ...] = ()


async def verify_by_management(api: ManagementApi, levels: int = 0) -> LadderReport:
    """Compare the ladder on a broker with what it should be.

    :param levels: how many there must be at least
    :raises ManagementError: the API cannot be asked
    """
    queues = await _all(api, "queues", name=str)
    exchanges = await _all(api, "exchanges", name=str, type=str)
    names = {each["name"] for each in exchanges} | {each["name"] for each in queues}
    of_retries = max(known_levels(names, delays.level_name), levels)
    of_later = known_levels(names, later.level_name)
    wanted = await ladder_of(of_retries, of_later) if names or levels else Ladder((), (), ())
    there = Ladder(
        tuple(LadderExchange(e["name"], e["type"], mapping(e.get("arguments"))) for e in exchanges),
        tuple(LadderQueue(q["name"], mapping(q.get("arguments"))) for q in queues),
        tuple(await _bindings(api)),
    )
    messages = {each["name"]: whole(each.get("messages")) for each in queues}
    found = [*problems_of(wanted, there, messages)]
    for each in queues:
        found += problems(each["name"], each)
    found += await _stuck_between(api, queues)
    return LadderReport(of_retries, of_later, _some(messages), tuple(found))


async def _stuck_between(api: ManagementApi, queues: list[Mapping[str, Any]]) -> list[str]:
    """Say which levels cannot pass on what is due, now and some seconds later."""
    before = {each["name"] for each in queues if each.get("messages_dlx")}
    if not before:
        return []
    await asyncio.sleep(AGAIN)
    return [
        f"queue {each['name']}: {each['messages_dlx']} messages are due, and nothing takes them"
        for each in await _all(api, "queues", name=str)
        if each["name"] in before
        and each.get("messages_dlx")
        # Of landing queues their own problem tells.
        and not each["name"].startswith(f"{delays.PREFIX}.to.")
    ]


async def _all(
    api: ManagementApi, kind: str, **fields: type[str | bool]
) -> list[Mapping[str, Any]]:
    """List what there is of the ladder: it has a queue for each queue that delays lead to."""
    pattern = quote(f"^{re.escape(delays.PREFIX)}", safe="")
    found: list[Mapping[str, Any]] = []
    page, pages = 1, 1
    while page <= pages:
        query = f"?page={page}&page_size={PAGE}&use_regex=true&name={pattern}"
        answer = await api.ask(kind, query=query)
        items = answer.get("items") if isinstance(answer, Mapping) else None
        if not isinstance(items, list):
            raise ManagementError(
                f"{api.name}: it does not tell of {kind} of the virtual host {api.vhost!r}: is "
                "there such a virtual host, and is this the management API?"
            )
        found += records(api.name, items, **fields)
        page, pages = page + 1, whole(answer.get("page_count"))
    return [each for each in found if not each["name"].startswith(STEM)]


async def _bindings(api: ManagementApi) -> list[LadderBinding]:
    fields = dict.fromkeys(("source", "destination", "destination_type", "routing_key"), str)
    found = await api.ask("bindings", query=f"?columns={','.join(fields)},arguments")
    return [
        LadderBinding(
            each["source"],
            each["destination"],
            each["destination_type"],
            each["routing_key"],
            mapping(each.get("arguments")),
        )
        for each in records(api.name, found or [], **fields)
        if each["source"].startswith(f"{delays.PREFIX}.")
    ]


async def verify_by_amqp(open_channel: OpenChannel, levels: int = 0) -> LadderReport:
    """Look at the ladder by AMQP alone: whether all is there, and as it should be.

    :param levels: how many there must be at least
    :raises ChannelClosedError: the connection was lost meanwhile
    """
    counts: dict[str, int] = {}
    highest = 0
    for level in range(DELAY_LEVELS):
        state = await find(open_channel, delays.level_name(level))
        if state is not None:
            highest, counts[state.name] = level + 1, state.messages
    lost = await find(open_channel, delays.UNDELIVERABLE)
    if lost is not None:
        counts[lost.name] = lost.messages
    needed = max(highest, levels)
    found = []
    if needed or lost is not None:
        wanted = await ladder_of(needed)
        for queue in wanted.queues:
            if queue.name not in counts and await find(open_channel, queue.name) is None:
                found.append(f"queue {queue.name}: it is not there")
            elif problem := await _otherwise(open_channel, queue):
                found.append(problem)
    found += stuck(counts)
    return LadderReport(
        needed,
        0,
        _some(counts),
        tuple(found),
        ("what its exchanges are bound to, and the ladder of what is published later",),
    )


async def _otherwise(open_channel: OpenChannel, queue: LadderQueue) -> str:
    channel = await open_channel()
    try:
        await channel.declare_queue(queue.name, arguments=queue.arguments)
    except ChannelClosedError as error:
        if not error.code:
            raise
        return explain(f"queue {queue.name}", error.code, error.text)
    await channel.close()
    return ""


def _some(messages: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in messages.items() if count}
