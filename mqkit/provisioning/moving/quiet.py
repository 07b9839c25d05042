"""Tells when nobody has anything of some queues any more: not in them, and not in their hands."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from mqkit.drivers.base import OpenChannel
from mqkit.management import ManagementApi
from mqkit.provisioning.moving.scaffold import find

SETTLE = 6.0
"""Seconds between two looks at the management API which must both find nothing: it tells what was
so up to 5 s ago (`collect_statistics_interval` of RabbitMQ)."""

LOOKS = 3
"""Looks by AMQP that must find nothing, one after the other: of a quorum queue whose leader is slow
to answer RabbitMQ says that it is empty."""


class Quiet:
    """Looks, again and again, at whether queues are empty and nothing of them is unacknowledged.

    AMQP shows what is ready and how many consumers there are; only where there are none but one's
    own is nothing in anybody's hands. The management API shows what is unacknowledged.
    """

    def __init__(self, open_channel: OpenChannel, api: ManagementApi | None) -> None:
        self._open = open_channel
        self._api = api
        self._alone = 0
        self._since: float | None = None

    async def look(self, queues: Sequence[str], own: Sequence[str] = ()) -> str:
        """Return '' where they are quiet, or else what there is yet.

        :param own: those of which the caller has a consumer, who has nothing in hand
        """
        waits = await self._by_amqp(queues, own)
        if not waits:
            self._alone += 1
            return "" if self._alone >= LOOKS else "a second look"
        self._alone = 0
        if self._api is None:
            return f"{waits} (stop the service: without --management it is not seen what it holds)"
        return await self._by_api(self._api, queues)

    def disturb(self) -> None:
        """Begin to look anew: something came."""
        self._alone, self._since = 0, None

    async def _by_amqp(self, queues: Sequence[str], own: Sequence[str]) -> str:
        for name in queues:
            state = await find(self._open, name)
            if state is None:
                continue
            if state.messages:
                return f"{state.messages} messages in {name}"
            if others := state.consumers - list(own).count(name):
                noun = "consumer" if others == 1 else "consumers"
                return f"{others} {noun} of {name}"
        return ""

    async def _by_api(self, api: ManagementApi, queues: Sequence[str]) -> str:
        now = asyncio.get_running_loop().time()
        for name in queues:
            found: Any = await api.ask("queues", name)
            if found is None:
                continue
            messages = found.get("messages") if isinstance(found, Mapping) else None
            if not isinstance(messages, int):  # of a new queue it tells after some seconds
                self._since = None
                return f"the management API to tell of {name}"
            if messages:
                self._since = None
                return f"{messages} messages in {name}, or with its consumers"
        if self._since is None:
            self._since = now
        return "" if now - self._since >= SETTLE else "a second look"
