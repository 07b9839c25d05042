"""Looks at a broker: by its management API, or by AMQP alone, which shows less."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from mqkit.broker.declare import (
    ACCESS_REFUSED,
    NOT_FOUND,
    RESOURCE_LOCKED,
    declare_exchange,
    explain,
)
from mqkit.broker.delays import DELIVER
from mqkit.broker.moving import move_names
from mqkit.broker.policies import problems
from mqkit.drivers.base import DriverChannel, OpenChannel, QueueState
from mqkit.errors import ChannelClosedError, ManagementError
from mqkit.management import ManagementApi
from mqkit.management.answers import mapping, record, records, whole
from mqkit.provisioning.live import Live, LiveBinding, LiveExchange, LiveQueue
from mqkit.provisioning.moving.scaffold import Bound
from mqkit.provisioning.wanted import Wanted
from mqkit.topology import MAX_PARTITIONS, Exchange, Queue

PRECONDITION_FAILED = 406

LOCKED = "another connection holds it exclusively"
"""Said of an exclusive queue, of which other connections can see nothing else."""

_GOES = "auto_delete is true on the broker"

PAGE = 500
"""Queues in one answer; no handler has more partitions than two of these."""

UNSEEN = (
    "which bindings there are: AMQP does not show them (give --management)",
    "policies, and partitions that are declared no more",
    "more than the first difference of an exchange or a queue",
)


async def look_by_management(api: ManagementApi, wanted: Wanted) -> Live:
    """Look by the management API.

    :raises ManagementError: it cannot be asked, has no such virtual host, or its answers are none
        of a management API
    """
    return await asyncio.to_thread(_look, api, wanted)


def _look(api: ManagementApi, wanted: Wanted) -> Live:
    overview = record(api.name, api.get_path("overview"), rabbitmq_version=str)
    if api.get("vhosts") is None:
        raise ManagementError(
            f"{api.name}: there is no virtual host {api.vhost!r}, or its user may not see it"
        )
    topology = wanted.topology
    queues: dict[str, LiveQueue] = {}
    broken: list[str] = []
    for queue in topology.queues:
        for name in (queue.name, move_names(queue.name).held):
            if (found := api.get("queues", name)) is not None:
                queues[name] = _queue(api, found)
                if name == queue.name:
                    kept = None if queue.keeps_dead_letters else queue
                    broken += problems(name, found, kept)
    for queue in (each.queue for each in wanted.handlers):
        for found in _partitions(api, queue):
            queues.setdefault(found.name, found)
    exchanges = {
        each.name: _exchange(api, found)
        for each in topology.exchanges
        if (found := api.get("exchanges", each.name)) is not None
    }
    bindings = [
        found for each in topology.queues if each.name in queues for found in _bound(api, each.name)
    ]
    return Live(
        server=f"RabbitMQ {overview['rabbitmq_version']}",
        exchanges=exchanges,
        queues=queues,
        bindings=tuple(bindings),
        problems=tuple(broken),
    )


def _queue(api: ManagementApi, found: Any) -> LiveQueue:
    it = record(api.name, found, name=str, durable=bool, auto_delete=bool)
    kind = it.get("type")
    return LiveQueue(
        name=it["name"],
        durable=it["durable"],
        exclusive=bool(it.get("exclusive", False)),
        auto_delete=it["auto_delete"],
        arguments=mapping(it.get("arguments")),
        messages=whole(it.get("messages")),
        consumers=whole(it.get("consumers")),
        kind=kind if isinstance(kind, str) else "",
    )


def _exchange(api: ManagementApi, found: Any) -> LiveExchange:
    it = record(api.name, found, name=str, type=str, durable=bool, auto_delete=bool, internal=bool)
    return LiveExchange(
        name=it["name"],
        type=it["type"],
        durable=it["durable"],
        auto_delete=it["auto_delete"],
        internal=it["internal"],
        arguments=mapping(it.get("arguments")),
    )


def _partitions(api: ManagementApi, queue: Queue) -> Iterable[LiveQueue]:
    pattern = quote(rf"^{re.escape(queue.name)}\.[0-9]+$", safe="")
    for page in (1, 2):
        query = f"?page={page}&page_size={PAGE}&use_regex=true&name={pattern}"
        answer = record(api.name, api.get("queues", query=query))
        yield from (_queue(api, each) for each in records(api.name, answer.get("items")))
        if page >= whole(answer.get("page_count")):
            return


def _bound(api: ManagementApi, queue: str) -> Iterable[LiveBinding]:
    found = api.get("queues", queue, "bindings") or []
    for it in records(api.name, found, source=str, routing_key=str):
        # Every queue is bound to the default exchange, and services to the ladder's end.
        if it["source"] and it["source"] != DELIVER and not _is_moves(it["source"], queue):
            arguments = mapping(it.get("arguments"))
            yield LiveBinding(queue, it["source"], it["routing_key"], arguments)


async def detour_sources(api: ManagementApi, detour: str) -> tuple[Bound, ...]:
    """Return what the detour of a move that was begun is bound to.

    :raises ManagementError: the API cannot be asked
    """
    found = await api.ask("exchanges", detour, "bindings", query="/destination")
    return tuple(
        Bound(it["source"], it["routing_key"], mapping(it.get("arguments")))
        for it in records(api.name, found or [], source=str, routing_key=str)
    )


def _is_moves(exchange: str, queue: str) -> bool:
    return exchange == move_names(queue).detour


async def look_by_amqp(open_channel: OpenChannel, server: str, wanted: Wanted) -> Live:
    """Look by AMQP alone: what is there is declared as wanted, and a refusal tells the difference.

    :raises ChannelClosedError: the connection was lost meanwhile
    """
    asking = _Asking(open_channel)
    exchanges, queues = {}, {}
    for exchange in wanted.topology.exchanges:
        if (found := await asking.exchange(exchange)) is not None:
            exchanges[exchange.name] = found
    for queue in wanted.topology.queues:
        if (there := await asking.queue(queue)) is not None:
            queues[queue.name] = there
        held = move_names(queue.name).held
        if (there := await asking.named(held)) is not None:
            queues[held] = there
    for queue in (each.queue for each in wanted.handlers if each.queue.partition_queues()):
        # Beyond those that are declared, as long as there are some.
        for number in range(queue.partitions or 1, MAX_PARTITIONS):
            name = queue.partition(number)
            if (there := await asking.named(name)) is None:
                break
            queues[name] = there
    await asking.close()
    unseen = (*UNSEEN, *asking.unseen)
    return Live(server=server, exchanges=exchanges, queues=queues, unseen=unseen)


class _Asking:
    """Asks on one channel, and opens another one when the broker has closed it."""

    def __init__(self, open_channel: OpenChannel) -> None:
        self._open = open_channel
        self._channel: DriverChannel | None = None
        self.unseen: list[str] = []

    async def close(self) -> None:
        if self._channel is not None and self._channel.is_open:
            await self._channel.close()

    async def exchange(self, exchange: Exchange) -> LiveExchange | None:
        passive = replace(exchange, declare=False)
        try:
            await declare_exchange(await self._opened(), passive)
        except ChannelClosedError as error:
            if self._is_missing(f"exchange {exchange.name}", error):
                return None
            return LiveExchange(exchange.name, difference="")
        if not exchange.declare:
            return LiveExchange(exchange.name, difference="")
        try:
            await declare_exchange(await self._opened(), exchange)
        except ChannelClosedError as error:
            what = f"exchange {exchange.name}"
            return LiveExchange(exchange.name, difference=self._difference(what, error))
        return LiveExchange(exchange.name, difference="")

    async def named(self, name: str) -> LiveQueue | None:
        try:
            state = await (await self._opened()).declare_queue(name, passive=True)
        except ChannelClosedError as error:
            if error.code == RESOURCE_LOCKED:
                return LiveQueue(name, exclusive=True, difference=LOCKED)
            return None if self._is_missing(f"queue {name}", error) else _unknown(name)
        return _state(state, "")

    async def queue(self, queue: Queue) -> LiveQueue | None:
        state = await self.named(queue.name)
        if state is None or state.exclusive or not queue.declare:
            return state
        try:
            await declare_as(await self._opened(), queue)
        except ChannelClosedError as error:
            difference = self._difference(f"queue {queue.name}", error)
            if difference.startswith("durable is false"):
                difference += await self._hidden(queue.name)
            goes = _GOES in difference
            return replace(state, auto_delete=goes, difference=difference)
        return state

    async def _hidden(self, name: str) -> str:
        """Tell whether a transient queue goes with its consumers: the broker tells of one thing.

        Were it deleted meanwhile, none would be made: no quorum queue is transient.
        """
        channel = await self._opened()
        try:
            await channel.declare_queue(name, durable=False, arguments={"x-queue-type": "quorum"})
        except ChannelClosedError as error:
            difference = self._difference(f"queue {name}", error)
            return f"; {difference}" if _GOES in difference else ""
        return ""

    async def _opened(self) -> DriverChannel:
        if self._channel is None or not self._channel.is_open:
            self._channel = await self._open()
        return self._channel

    def _is_missing(self, what: str, error: ChannelClosedError) -> bool:
        if error.code == ACCESS_REFUSED:
            self.unseen.append(f"{what}: this user may not see it")
        elif error.code != NOT_FOUND:
            raise error
        return error.code == NOT_FOUND

    def _difference(self, what: str, error: ChannelClosedError) -> str:
        if error.code == PRECONDITION_FAILED:
            text = explain(what, error.code, error.text).removeprefix(f"{what}: ")
            return text.partition(";")[0]
        if error.code == ACCESS_REFUSED:
            self.unseen.append(f"{what}: whether it is as declared, which takes configure")
            return ""
        raise error


def _unknown(name: str) -> LiveQueue:
    return LiveQueue(name, difference="")


def _state(state: QueueState, difference: str) -> LiveQueue:
    return LiveQueue(
        state.name, messages=state.messages, consumers=state.consumers, difference=difference
    )


async def declare_as(channel: DriverChannel, queue: Queue) -> QueueState:
    """Declare a queue as it is wanted.

    :raises ChannelClosedError: the broker refused it, or the connection was lost
    """
    return await channel.declare_queue(
        queue.name,
        durable=queue.durable,
        exclusive=queue.exclusive,
        auto_delete=queue.auto_delete,
        arguments=queue.declared_arguments(),
    )
