"""Brings a broker to what services declare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from mqkit.broker.connection import Connection
from mqkit.broker.declare import RESOURCE_LOCKED, declare
from mqkit.broker.delays import PREFIX, UNDELIVERABLE, bound_channel, level_name
from mqkit.broker.moving import LOCK, move_names
from mqkit.broker.states import STATES, declare_states, has_states
from mqkit.drivers.base import DriverChannel
from mqkit.errors import ChannelClosedError, ManagementError, TopologyError
from mqkit.management import ManagementApi
from mqkit.provisioning.compare import compare, unused_bindings, unused_partitions
from mqkit.provisioning.ladder import declare_ladder, levels_for
from mqkit.provisioning.live import Live
from mqkit.provisioning.look import detour_sources, look_by_amqp, look_by_management
from mqkit.provisioning.moves import moves_of
from mqkit.provisioning.moving.move import Move, Moved
from mqkit.provisioning.moving.scaffold import Bound, find
from mqkit.provisioning.moving.tools import Messages, Tools
from mqkit.provisioning.plan import Change, Kind, Plan
from mqkit.provisioning.versions import Version, refused_by
from mqkit.provisioning.wanted import Wanted
from mqkit.topology import Topology

WAIT = 600.0

Tell = Callable[[str], None]
"""Says to a person what is being done."""


class Provisioner:
    """Plans and applies what services declare, on one virtual host."""

    def __init__(
        self,
        connection: Connection,
        wanted: Wanted,
        *,
        broker: str,
        messages: Messages,
        api: ManagementApi | None = None,
        tell: Tell = lambda _: None,
        wait: float = WAIT,
        ladder: bool = False,
    ) -> None:
        """Look at nothing yet.

        :param connection: is open
        :param broker: the host, port and virtual host, for people and stored plans
        :param messages: makes those that are moved
        :param api: the management API of the same broker; without it less is seen
        :param wait: seconds to wait for services to let go of a queue that is moved
        :param ladder: look after the delay ladder as well, with the levels that retries may need
        """
        self._connection = connection
        self._wanted = wanted
        self._broker = broker
        self._api = api
        self._tell = tell
        self._messages = messages
        self._wait = wait
        self._levels = levels_for(wanted.handlers) if ladder else None

    async def look(self) -> Live:
        """Look at what the broker has.

        :raises ManagementError: the management API cannot be asked, or is another broker's
        :raises ChannelClosedError: the connection was lost meanwhile
        """
        if self._api is None:
            return await look_by_amqp(
                self._connection.channel, self._connection.server, self._wanted
            )
        return await look_by_management(self._api, self._wanted)

    async def plan(self, target: Version | None = None) -> Plan:
        """Say what differs.

        :param target: a version of RabbitMQ; what it refuses is said as well
        :raises ManagementError: as `look`
        :raises ChannelClosedError: as `look`
        """
        live = await self.look()
        changes = [*compare(self._wanted, live), *await self._missing_of_ladder()]
        if target is not None:
            changes += refused_by(target, self._wanted, await self._policies())
        return Plan(
            services=self._wanted.services,
            broker=self._broker,
            changes=tuple(changes),
            unseen=live.unseen,
        )

    async def _missing_of_ladder(self) -> list[Change]:
        """Say that the ladder is to be declared, in one line for all of its parts.

        And the exchange at which `mqkit run` says how its processes are, which `apply` declares
        with it.
        """
        if self._levels is None:
            return []
        missing = []
        # The highest level is declared last, and needs all others.
        last = level_name(self._levels - 1) if self._levels else UNDELIVERABLE
        if await find(self._connection.channel, last) is None:
            missing.append(Change(Kind.CREATE, "ladder", PREFIX, f"{self._levels} levels"))
        if not await has_states(self._connection.channel):
            missing.append(Change(Kind.CREATE, "exchange", STATES, "fanout"))
        return missing

    async def _policies(self) -> dict[str, dict[str, object]]:
        found = [] if self._api is None else await self._api.ask("policies")
        return {
            each["name"]: each["definition"]
            for each in (found if isinstance(found, list) else [])
            if isinstance(each, dict)
            and isinstance(each.get("name"), str)
            and isinstance(each.get("definition"), dict)
        }

    async def apply(self, plan: Plan, *, prune: bool = False) -> tuple[Change, ...]:
        """Carry a plan out, as far as it is safe; return what is left.

        :param prune: take away what is declared no more: bindings, and partitions that are empty
        :raises TopologyError: the broker refused something
        :raises ManagementError: as `look`
        :raises ChannelClosedError: the connection was lost meanwhile
        """
        live = await self.look()
        await self._check_same_broker(live)
        await self._create(plan)
        moves = moves_of(self._wanted, live, plan, await self._detours(plan))
        if moves:
            await self._move(moves)
        if prune:
            await self._prune(await self.look())
        return (await self.plan()).changes

    async def _detours(self, plan: Plan) -> dict[str, tuple[Bound, ...]]:
        """Return what the detours of moves that were begun are bound to, by their queues."""
        found = {}
        for each in plan.changes:
            if self._api is not None and each.kind is Kind.CHANGE:
                detour = move_names(each.name).detour
                found[each.name] = await detour_sources(self._api, detour)
        return found

    async def _move(self, moves: Sequence[Moved]) -> None:
        """Move one queue after the other; nobody else moves any of this virtual host meanwhile."""
        lock = await self._lock()
        channel = await bound_channel(self._connection.channel, ())
        await channel.close()
        tools = Tools(
            open_channel=self._connection.channel,
            api=self._api,
            messages=self._messages,
            tell=self._tell,
            wait=self._wait,
        )
        for each in moves:
            await Move(each, tools).run()
        await lock.delete_queue(LOCK)
        await lock.close()

    async def _lock(self) -> DriverChannel:
        channel = await self._connection.channel()
        try:
            await channel.declare_queue(LOCK, durable=False, exclusive=True)
        except ChannelClosedError as error:
            if error.code != RESOURCE_LOCKED:
                raise
            raise TopologyError(
                "another `mqkit topology apply` moves queues of this virtual host: wait for its end"
            ) from error
        return channel

    async def _prune(self, live: Live) -> None:
        """Take away bindings and partitions that are declared no more; the latter if empty."""
        channel = await self._connection.channel()
        for binding in unused_bindings(self._wanted, live):
            await channel.unbind_queue(
                binding.queue, binding.exchange, binding.routing_key, binding.arguments
            )
            self._tell(f"unbound queue {binding.queue} from exchange {binding.exchange}")
        for queue in unused_partitions(self._wanted, live):
            if queue.messages or queue.consumers:
                self._tell(f"left queue {queue.name}: there is something in it, or a consumer")
                continue
            await channel.delete_queue(queue.name)
            self._tell(f"deleted queue {queue.name}")
        await channel.close()

    async def _create(self, plan: Plan) -> None:
        """Declare what is missing, and leave alone what is there otherwise."""
        otherwise = {
            (each.what, each.name)
            for each in plan.changes
            if each.kind in (Kind.CHANGE, Kind.DRIFT)
        }
        topology = self._wanted.topology
        # Those are declared by the move: were they there before, nobody would see that it is due.
        otherwise |= {
            ("queue", part.name)
            for each in self._wanted.handlers
            if ("partitions", each.queue.name) in otherwise
            for part in each.queue.partition_queues()
        }
        kept = Topology(
            tuple(e for e in topology.exchanges if ("exchange", e.name) not in otherwise),
            tuple(q for q in topology.queues if ("queue", q.name) not in otherwise),
        )
        names = {each.name for each in kept.queues}
        bindings = tuple(each for each in topology.bindings if each.queue in names)
        await declare(self._connection.channel, replace(kept, bindings=bindings))
        if self._levels is not None:
            await self._declare_ladder(self._levels)
        for each in plan.changes:
            is_left = (each.what, each.name) in otherwise or (
                each.what == "binding" and each.name not in names
            )
            if each.kind is Kind.CREATE and not is_left:
                self._tell(f"created {each.what} {each.name}")

    async def _declare_ladder(self, levels: int) -> None:
        """Declare the ladder, and bind queues to its end, as services do that may."""
        channel = await self._connection.channel()
        await declare_ladder(channel, levels)
        await declare_states(channel)  # for --no-declare, as the ladder is
        await channel.close()
        there = {q.name for q in self._wanted.topology.queues if not q.keeps_dead_letters}
        consumed = [
            queue.name
            for each in self._wanted.handlers
            for queue in each.queue.with_partitions()
            if queue.name in there
        ]
        channel = await bound_channel(self._connection.channel, consumed)
        await channel.close()

    async def _check_same_broker(self, live: Live) -> None:
        """Check that AMQP and the management API speak of one broker.

        :raises ManagementError: they do not
        """
        if self._api is None:
            return
        seen = await look_by_amqp(self._connection.channel, "", self._wanted)
        for name in (each.name for each in self._wanted.topology.queues):
            if (name in seen.queues) != (name in live.queues):
                has, lacks = ("AMQP", self._api.name)
                if name in live.queues:
                    has, lacks = lacks, has
                raise ManagementError(
                    f"queue {name} is there by {has}, and not by {lacks}: is the management API "
                    "that of another broker?"
                )
