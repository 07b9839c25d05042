"""Brings a broker to what services declare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mqkit.broker.connection import Connection
from mqkit.broker.declare import declare
from mqkit.errors import ManagementError
from mqkit.management import ManagementApi
from mqkit.provisioning.compare import compare
from mqkit.provisioning.live import Live
from mqkit.provisioning.look import look_by_amqp, look_by_management
from mqkit.provisioning.plan import Change, Kind, Plan
from mqkit.provisioning.wanted import Wanted
from mqkit.topology import Topology

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
        api: ManagementApi | None = None,
        tell: Tell = lambda _: None,
    ) -> None:
        """Look at nothing yet.

        :param connection: is open
        :param broker: the host, port and virtual host, for people and stored plans
        :param api: the management API of the same broker; without it less is seen
        """
        self._connection = connection
        self._wanted = wanted
        self._broker = broker
        self._api = api
        self._tell = tell

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

    async def plan(self) -> Plan:
        """Say what differs.

        :raises ManagementError: as `look`
        :raises ChannelClosedError: as `look`
        """
        return self._plan(await self.look())

    def _plan(self, live: Live) -> Plan:
        return Plan(
            services=self._wanted.services,
            broker=self._broker,
            changes=compare(self._wanted, live),
            unseen=live.unseen,
        )

    async def apply(self, plan: Plan, *, prune: bool = False) -> tuple[Change, ...]:
        """Carry a plan out, as far as it is safe; return what is left.

        :param prune: take away what is declared no more: bindings, and partitions that are empty
        :raises TopologyError: the broker refused something
        :raises ManagementError: as `look`
        :raises ChannelClosedError: the connection was lost meanwhile
        """
        await self._check_same_broker(await self.look())
        await self._create(plan)
        return (await self.plan()).changes

    async def _create(self, plan: Plan) -> None:
        """Declare what is missing, and leave alone what is there otherwise."""
        otherwise = {
            (each.what, each.name)
            for each in plan.changes
            if each.kind in (Kind.CHANGE, Kind.DRIFT)
        }
        topology = self._wanted.topology
        kept = Topology(
            tuple(e for e in topology.exchanges if ("exchange", e.name) not in otherwise),
            tuple(q for q in topology.queues if ("queue", q.name) not in otherwise),
        )
        names = {each.name for each in kept.queues}
        bindings = tuple(each for each in topology.bindings if each.queue in names)
        await declare(self._connection.channel, replace(kept, bindings=bindings))
        for each in plan.changes:
            if each.kind is Kind.CREATE:
                self._tell(f"created {each.what} {each.name}")

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
