"""The dead letters of one queue: what a person on call does with them, from Python."""

from __future__ import annotations

from dataclasses import asdict
from typing import Self

from mqkit import drivers
from mqkit.broker.connection import Connection
from mqkit.broker.delays import DelayLadder, bound_channel
from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.dead_letters import copies, queues
from mqkit.dead_letters.audit import checked_text
from mqkit.dead_letters.desk import Desk
from mqkit.dead_letters.errors import NotADeadLetterQueueError
from mqkit.dead_letters.filters import EVERYTHING, Filter
from mqkit.dead_letters.groups import Group, Groups
from mqkit.dead_letters.queues import Names
from mqkit.dead_letters.replaying import Pace, Replay, Replayed
from mqkit.drivers.base import Driver
from mqkit.logging.masking import DEFAULT, Masker
from mqkit.logging.shown import shown
from mqkit.publishing.publisher import Publisher
from mqkit.settings import BrokerUrl

NAME = "mqkit.dead-letters"
"""What the connection is called in the broker's lists."""

CONNECT_TIMEOUT = 15.0
"""Seconds in which it must be connected."""


class DeadLetters:
    """The dead letters of one queue.

        async with DeadLetters(url, "ledger.post", who="ann") as letters:
            for group in await letters.groups():
                print(group.count, group.error_type, group.place)
            await letters.replay(Filter(groups={"5f0c9a1e"}), why="the gateway is back")

    One of them at a time reads a dead letter queue: another one waits some seconds for it.

    :param queue: a handler's queue, or its dead letter queue
    :param who: who does it, for the audit
    :param driver: 'pika' or 'aio-pika'
    :param masker: masks secrets in what is shown and in the audit
    :raises BrokerUrlError: the URL is malformed
    :raises ConfigurationError: another argument cannot be what it is
    """

    def __init__(
        self,
        url: str | BrokerUrl,
        queue: str,
        *,
        who: str,
        driver: Driver | str | None = None,
        masker: Masker = DEFAULT,
        connect_timeout: Seconds = CONNECT_TIMEOUT,
    ) -> None:
        broker = url if isinstance(url, BrokerUrl) else BrokerUrl.parse(url)
        self.names = Names.of(queue)
        self._seconds = checked.seconds(connect_timeout, "DeadLetters(connect_timeout=...)", over=0)
        chosen = drivers.given(driver, "DeadLetters(driver=...)")
        connection = Connection(broker, name=NAME, driver=chosen)
        self._desk = Desk(
            connection,
            Publisher.on(connection),
            self.names,
            checked_text(who, "DeadLetters(who=...)"),
            masker,
        )

    async def __aenter__(self) -> Self:
        """Connect.

        :raises ConnectError: there is no connection within `connect_timeout` seconds
        """
        try:
            await self._desk.connection.open(self._seconds)
        except BaseException:
            await self._desk.connection.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._desk.publisher.close(timeout=0)
        await self._desk.connection.close()

    async def groups(self, chosen: Filter = EVERYTHING) -> list[Group]:
        """Count the dead letters by how they failed, the largest group first.

        :raises NotADeadLetterQueueError: there is none, or it is no dead letter queue of mqkit's
        :raises DeadLettersInUseError: a handler consumes it, or somebody else reads it
        """
        groups = Groups()
        async with self._desk.locked(), await self._desk.reader() as reader:
            async for _, letter in self._desk.letters(reader, chosen):
                groups.add(letter)
        return groups.largest_first()

    async def replay(
        self, chosen: Filter = EVERYTHING, *, why: str, pace: Pace | None = None
    ) -> Replayed:
        """Publish dead letters to the queue that they came from, in their order, and remove them.

        Each is confirmed before it is removed, and only then the next one is published. What
        arrives in the dead letter queue meanwhile is no part of it. It stops where a share of them
        comes back (`Pace`).

        :param why: for the audit
        :raises NotADeadLetterQueueError: as `groups`; or the queue that they came from is gone
        :raises DeadLettersInUseError: as `groups`
        :raises DeadLetterMoveError: one of them cannot be published; those before it were
        :raises PublishError: the broker did not take one; those before it were replayed
        """
        pace = pace or Pace()
        details = {"filter": chosen.as_fields(), "pace": asdict(pace)}
        async with self._desk.locked(), self._desk.audited("replay", why, details) as audit:
            exchange, routing_key = await self._way_back()
            replay = Replay(
                queue=self.names.queue,
                chosen=chosen,
                pace=pace,
                audit=audit,
                copy=lambda letter: copies.replayed(letter, exchange, routing_key, audit.run),
                send=self._desk.publisher.send,
            )
            audit.result = lambda: asdict(replay.result)
            over = False
            while not over:
                async with await self._desk.reader() as reader:
                    over = await replay.go_on(reader)
            return replay.result

    async def _way_back(self) -> tuple[str, str]:
        """Return the exchange and routing key that bring a message to its queue again.

        It is out of the delay ladder, since a consumer believes mqkit's headers there alone.

        :raises NotADeadLetterQueueError: the queue is gone
        """
        connection, queue = self._desk.connection, self.names.queue
        if await queues.find(connection, queue) is None:
            raise NotADeadLetterQueueError(
                f"queue {shown(queue)}, from which these dead letters came, is not on the broker: "
                "start its service first"
            )
        # What the ladder has nowhere to bring to is kept as undeliverable, and confirmed.
        await (await bound_channel(connection.channel, [queue])).close()
        return await DelayLadder(connection).route(0.0, queue)
