"""The dead letters of one queue: what a person on call does with them, from Python."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Self, TypeAlias, TypeVar

from mqkit import drivers
from mqkit.broker.connection import Connection
from mqkit.broker.delays import DelayLadder, bound_channel
from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.dead_letters import queues
from mqkit.dead_letters.audit import AuditEntry, checked_text, read_entry
from mqkit.dead_letters.desk import Desk
from mqkit.dead_letters.editing import Edited, Found
from mqkit.dead_letters.errors import NotADeadLetterQueueError
from mqkit.dead_letters.messages import copies, view
from mqkit.dead_letters.messages.filters import EVERYTHING, Filter
from mqkit.dead_letters.messages.groups import Group, Groups
from mqkit.dead_letters.messages.letters import Letter
from mqkit.dead_letters.messages.surveys import Survey, Surveying
from mqkit.dead_letters.moving import Moved, Moving, storing
from mqkit.dead_letters.queues import Names
from mqkit.dead_letters.rehearsing import Inbox, Rehearsal, Rehearsed, Validator
from mqkit.dead_letters.replaying import Pace, Replay, Replayed
from mqkit.dead_letters.sending import SingleWrites
from mqkit.drivers.base import Driver, Incoming
from mqkit.errors import InvalidMessageError
from mqkit.logging.masking import DEFAULT, Masker
from mqkit.logging.shown import shown
from mqkit.publishing.publisher import Publisher
from mqkit.registration.service import Service
from mqkit.settings import BrokerUrl

NAME = "mqkit.dead-letters"
"""What the connection is called in the broker's lists."""

CONNECT_TIMEOUT = 15.0
"""Seconds in which it must be connected."""

KEPT = 10_000
"""Dead letters that a survey lists."""

T = TypeVar("T")

Live: TypeAlias = Callable[[T], object]
"""Is given a result that changes while the run goes on."""


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
            SingleWrites(connection),
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

    async def groups(self, chosen: Filter = EVERYTHING, *, archived: bool = False) -> list[Group]:
        """Count the dead letters by how they failed, the largest group first.

        :param archived: those in the archive
        :raises NotADeadLetterQueueError: there is none, or it is no dead letter queue of mqkit's
        :raises DeadLettersInUseError: a handler consumes it, or somebody else reads it
        """
        groups = Groups()

        def look(letter: Letter) -> None:
            if chosen.matches(letter):
                groups.add(letter)

        await self._look(look, archived=archived)
        return groups.largest_first()

    async def letters(
        self,
        chosen: Filter = EVERYTHING,
        *,
        limit: int | None = None,
        has_body: bool = False,
        archived: bool = False,
    ) -> list[Letter]:
        """Return dead letters in the order in which they came, each as it is.

        Show them by `summary` or `detail`, which mask secrets.

        :param limit: how many at most
        :param has_body: whether each has its body; else memory need not hold them
        :raises NotADeadLetterQueueError: as `groups`
        :raises DeadLettersInUseError: as `groups`
        """
        most = None if limit is None else checked.count(limit, "letters(limit=...)")
        found: list[Letter] = []

        def look(letter: Letter) -> None:
            if (most is None or len(found) < most) and chosen.matches(letter):
                found.append(letter)

        await self._look(look, archived=archived, has_body=has_body)
        return found

    async def survey(self, *, keep: int = KEPT, archived: bool = False) -> Survey:
        """Look at all dead letters once: count them by how they failed, and list the first of them.

        :param keep: how many are listed, without their bodies, headers and tracebacks
        :raises NotADeadLetterQueueError: as `groups`
        :raises DeadLettersInUseError: as `groups`
        """
        surveying = Surveying(checked.count(keep, "survey(keep=...)", least=0))
        await self._look(surveying.add, archived=archived)
        return surveying.result()

    def summary(self, letter: Letter) -> dict[str, Any]:
        """Return what a list says of a dead letter, as values for JSON, without secrets."""
        return view.summary(letter, self._desk.masker)

    def detail(self, letter: Letter) -> dict[str, Any]:
        """Return all that there is to a dead letter, as values for JSON, without secrets."""
        return view.detail(letter, self._desk.masker)

    async def rehearse(
        self,
        chosen: Filter = EVERYTHING,
        *,
        service: Service | None = None,
        inbox: Inbox | None = None,
    ) -> Rehearsed:
        """Say what a replay would meet, and change nothing.

        :param service: whose handler of the queue validates the bodies
        :param inbox: says which messages that handler has had its effect for: an open `Store`
        :raises ConfigurationError: the service has no handler of the queue
        :raises NotADeadLetterQueueError: as `groups`
        :raises DeadLettersInUseError: as `groups`
        """
        rehearsal = Rehearsal(self.names.queue, service, inbox)

        def look(letter: Letter) -> None:
            if chosen.matches(letter):
                rehearsal.add(letter)

        await self._look(look, has_body=True)
        await rehearsal.finish()
        return rehearsal.result

    async def replay(
        self,
        chosen: Filter = EVERYTHING,
        *,
        why: str,
        pace: Pace | None = None,
        live: Live[Replayed] | None = None,
    ) -> Replayed:
        """Publish dead letters to the queue that they came from, in their order, and remove them.

        Each is confirmed before it is removed, and only then the next one is published. What
        arrives in the dead letter queue meanwhile is no part of it. It stops where a share of them
        comes back (`Pace`).

        :param why: for the audit
        :param live: is given the result as it begins, and can see it change while it runs
        :raises NotADeadLetterQueueError: as `groups`; or the queue that they came from is gone
        :raises DeadLettersInUseError: as `groups`
        :raises DeadLetterMoveError: one of them cannot be published; those before it were
        :raises PublishError: the broker did not take one; those before it were replayed
        """
        pace = pace or Pace()
        details: dict[str, object] = {"filter": chosen.as_fields(), "pace": asdict(pace)}
        async with self._desk.working("replay", why, details) as audit:
            exchange, routing_key = await self._way_back()
            replay = Replay(
                queue=self.names.queue,
                chosen=chosen,
                pace=pace,
                audit=audit,
                reading=self._desk.reader,
                store=storing(
                    self._desk.writes.send,
                    lambda letter: copies.replayed(letter, exchange, routing_key, audit.run),
                ),
            )
            audit.result = lambda: asdict(replay.result)
            if live is not None:
                live(replay.result)
            await replay.run()
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

    async def archive(
        self, chosen: Filter = EVERYTHING, *, why: str, live: Live[Moved] | None = None
    ) -> Moved:
        """Move dead letters into the archive, from which `restore` brings them back.

        Each is confirmed there before it is removed here. Nothing expires in the archive.

        :param live: as `replay`
        :raises NotADeadLetterQueueError: as `groups`
        :raises DeadLettersInUseError: as `groups`
        :raises DeadLetterMoveError: one of them cannot be published; those before it were
        :raises PublishError: the broker did not take one; those before it were moved
        """
        return await self._move("archive", chosen, why, self.names.archive, live=live)

    async def restore(
        self, chosen: Filter = EVERYTHING, *, why: str, live: Live[Moved] | None = None
    ) -> Moved:
        """Move messages out of the archive, to the end of the dead letter queue.

        Raises as `archive`.
        """
        return await self._move("restore", chosen, why, self.names.dead, archived=True, live=live)

    async def drop(self, chosen: Filter, *, why: str, archived: bool = False) -> Moved:
        """Remove dead letters for good; the audit names them, and nothing has their bodies.

        :param chosen: there is no default: `EVERYTHING` is all of them
        :param archived: those in the archive
        :raises NotADeadLetterQueueError: as `groups`
        :raises DeadLettersInUseError: as `groups`
        """
        return await self._move("drop", chosen, why, None, archived=archived)

    async def _move(
        self,
        what: str,
        chosen: Filter,
        why: str,
        target: str | None,
        *,
        archived: bool = False,
        live: Live[Moved] | None = None,
    ) -> Moved:
        desk = self._desk
        store = None
        if target is not None:
            store = storing(desk.writes.send, lambda letter: copies.moved(letter, target))
        details: dict[str, object] = {"filter": chosen.as_fields(), "archived": archived}
        async with desk.working(what, why, details) as audit:
            if archived or target == self.names.archive:
                await queues.declare_archive(desk.connection, self.names)
            queue = self.names.archive if archived else self.names.dead
            moving = Moving(
                queue=self.names.queue,
                chosen=chosen,
                audit=audit,
                reading=functools.partial(desk.reader, queue=queue),
                store=store,
            )
            audit.result = lambda: asdict(moving.result)
            if live is not None:
                live(moving.result)
            await moving.run()
            return moving.result

    async def edit(
        self, which: str, body: bytes, *, why: str, service: Service | None = None
    ) -> Edited:
        """Put a copy with another body into the dead letter queue, and archive the original.

        The copy has an id of its own, says in `mqkit-edited-from` whose it is, and is replayed as
        any other dead letter. Called again after an interruption, it makes no second copy.

        :param which: a message's id, or its ref
        :param service: whose handler of the queue must take the body
        :raises DeadLetterNotFoundError: no message has this id, or several have it
        :raises InvalidMessageError: the handler does not take the body; nothing was done
        :raises ConfigurationError: the service has no handler of the queue
        """
        validator = None if service is None else Validator(service, self.names.queue)
        desk, names = self._desk, self.names
        async with desk.working("edit", why, {"ids": [which]}) as audit:
            await queues.declare_archive(desk.connection, names)
            found = Found(which, names.queue)
            async with await desk.reader(found.take) as reader:
                tag, original = found.the_one(names.dead)
                problem = None if validator is None else validator.problem(original, body)
                if problem is not None:
                    raise InvalidMessageError(f"the handler does not take the new body: {problem}")
                copy = copies.edited(original, names.dead, body)
                await audit.moves([original])
                if copy.properties.message_id not in found.copies:
                    await storing(desk.writes.send, lambda _: copy)(original)
                archived = storing(desk.writes.send, lambda it: copies.moved(it, names.archive))
                await archived(original)
                reader.take_out(tag)
            of = original.message_id or original.ref
            result = Edited(audit.run, copy.properties.message_id, of)
            audit.result = lambda: asdict(result)
            return result

    async def audit(self, limit: int = 100) -> list[AuditEntry]:
        """Return the latest entries of who did what, when and why; the oldest of them first.

        :raises DeadLettersInUseError: somebody else reads them
        """
        most = checked.count(limit, "audit(limit=...)")
        desk, name = self._desk, self.names.audit
        async with desk.locked():
            if await queues.find(desk.connection, name) is None:
                return []
            latest: deque[AuditEntry] = deque(maxlen=most)

            def take(incoming: Incoming, arrived: bool) -> None:
                if not arrived and (entry := read_entry(incoming)) is not None:
                    latest.append(entry)

            async with await desk.reader(take, queue=name):
                return list(latest)

    async def _look(
        self, look: Callable[[Letter], None], *, archived: bool = False, has_body: bool = False
    ) -> None:
        """Look at each dead letter, or at what is archived, and change nothing."""
        queue = self.names.archive if archived else self.names.dead
        if not archived or await queues.find(self._desk.connection, queue) is not None:
            await self._desk.look(look, queue=queue, has_body=has_body)
