"""Publishes what the outbox holds, with confirms, and takes it out.

One round: claim some messages, publish them, take out what was confirmed. Within a key a message is
written only after the confirm of the one before it. A relay that dies in between leaves its
messages in the outbox, and they are published again under the same ids.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence

from mqkit.clock import Clock
from mqkit.errors import (
    BlockedError,
    ConnectionLostError,
    InvalidMessageError,
    MqkitError,
    PublisherClosedError,
    PublishTimeoutError,
    StoreError,
    StoreUnavailableError,
)
from mqkit.logging.error_reports import log_problem
from mqkit.logging.outages import OutageLog
from mqkit.logging.shown import shown
from mqkit.registration.transactions import SendWithin
from mqkit.store.log_throttle import LogThrottle
from mqkit.store.outbox import Entry, Outbox

logger = logging.getLogger(__name__)

BATCH = 2_000
"""Messages of one round, at most."""

FIRST_BATCH = 500
"""Messages of the first round, when nobody knows yet how large they are."""

BATCH_BYTES = 32 * 1024 * 1024
"""Bytes of the bodies of one round, about: it takes fewer messages where they are large."""

WINDOWS = 4
"""A round asks for one of so many parts of the shards, so that relays side by side share them."""

ROUNDS = 2
"""Rounds of a relay that go on at a time, on other shards each: while one reads from the database
or takes out, the other one publishes. Each has a connection to the database."""

AT_ONCE = 500
"""Messages of one round that wait for their confirm at a time, at most."""

ROUND_TIME = 5.0
"""Seconds after which a round begins no other message: what is left is the next one's."""

PUBLISH_TIMEOUT = 10.0
"""Seconds for one confirm. With `ROUND_TIME`, the longest that a round holds a transaction open."""

MUCH = 10
"""Messages of a sweep from which on there is much to publish."""

TOGETHER = 0.03
"""Seconds between the beginnings of two sweeps while there is much to publish, and no backlog. Its
statements cost a sweep as much for one message as for a hundred, and the handlers of this process,
whose commits wake it, go without what it takes."""

BACKOFF_MAX = 10.0
"""Seconds; no wait after a round that failed is longer."""

DEFAULT_SWEEP = 1.0
"""Seconds between two looks into the outbox where nobody says that there is something in it."""

PURGE_EVERY = 60.0
"""Seconds between two purges."""

_AWAY = (ConnectionLostError, PublishTimeoutError, BlockedError, PublisherClosedError)
"""Errors of the broker or the way to it; all others are of the message at hand."""

ODD_ATTEMPTS = 10
"""Attempts, some minutes of them, of a message that is not readable, or whose publish fails with an
error that is none of mqkit's; after them it is dead."""


class Relay:
    """Publishes what is in the outbox until it is stopped; any number may work on one outbox.

    `purge` is called now and then: it deletes some of what is too old, and returns how many rows.
    `sweep` is in seconds.
    """

    def __init__(
        self,
        outbox: Outbox,
        send: SendWithin,
        *,
        clock: Clock,
        purge: Callable[[], Awaitable[int]],
        sweep: float = DEFAULT_SWEEP,
        batch: int = BATCH,
    ) -> None:
        self._outbox = outbox
        self._send = send
        self._clock = clock
        self._purge = purge
        self._sweep = sweep
        self._longest_batch = batch
        self._batch = min(batch, FIRST_BATCH)
        self._wake = asyncio.Event()
        self._stopping = False
        self._failures = 0
        self._throttle = LogThrottle()
        self._outage = OutageLog(clock=clock)
        self.published = 0
        """Messages published and taken out by this relay."""

    def wake(self) -> None:
        """Look into the outbox at once: something was committed to it."""
        self._wake.set()

    def stop(self) -> None:
        """Make `run` return after the current round, whose messages are confirmed and taken out."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Publish until stopped. Whatever fails is logged, and tried again after a while."""
        while not self._stopping:
            self._wake.clear()
            try:
                async with self._outbox.database.dialect.relaying() as mine:
                    if mine:
                        await self._run_alone()
                    else:
                        await self._pause(self._sweep)
            except Exception as error:  # noqa: BLE001 - it must go on, whatever it was
                await self._back_off(error)

    async def _run_alone(self) -> None:
        loop = asyncio.get_running_loop()
        purge_at = loop.time()
        while not self._stopping:
            self._wake.clear()
            began, before = loop.time(), self.published
            try:
                busy = await self._sweep_once()
                if loop.time() >= purge_at:
                    # A batch, and again at the next turn where there may be more: what is old can
                    # wait, and what is committed cannot.
                    more = await self._purge()
                    purge_at = loop.time() + (0 if more else PURGE_EVERY)
                    busy = busy or more > 0
            except (MqkitError, OSError) as error:
                purge_at = max(purge_at, loop.time() + self._sweep)
                await self._back_off(error)
                continue
            self._failures = 0
            self._outage.up("outbox", "publishing again")
            if not busy:
                await self._pause(self._sweep)
            elif MUCH <= self.published - before < FIRST_BATCH:
                await self._let_more_come(began)

    async def _let_more_come(self, began: float) -> None:
        """Wait until the next sweep may begin, where the last one did so at this time."""
        await asyncio.sleep(began + TOGETHER - asyncio.get_running_loop().time())

    async def _sweep_once(self) -> bool:
        """Publish from all shards once, and tell whether anything was published.

        :raises PublishError: as `round`
        :raises StoreUnavailableError: as `round`
        """
        shards = list(await self._outbox.waiting())
        random.shuffle(shards)
        # In some parts, so that relays side by side share them; few are no work to be shared.
        size = max(1, self._outbox.shards // WINDOWS)
        parts = [shards[start : start + size] for start in range(0, len(shards), size)]
        if len(parts) == 1:
            return await self.round(parts[0])
        results = await asyncio.gather(
            *(self._rounds(parts) for _ in range(ROUNDS)), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return any(results)

    async def _rounds(self, parts: list[list[int]]) -> bool:
        """Run a round for one part after the other; others take from the same parts."""
        busy = False
        while parts and not self._stopping:
            try:
                busy = await self.round(parts.pop()) or busy
            except BaseException:
                parts.clear()  # the others' next rounds would meet the same
                raise
        return busy

    async def round(self, shards: Sequence[int]) -> bool:
        """Claim messages, publish them, delete the confirmed ones; tell whether there were any.

        :raises PublishError: the broker is away; what was confirmed before is marked
        :raises StoreUnavailableError: the database is away; what was published is so again, later
        """
        away: BaseException | None = None
        # Some of each shard: its keys are few, and within a key nothing goes side by side.
        limit = max(1, self._batch // max(1, len(shards)))
        async with self._outbox.claim(shards, limit, self._clock()) as claim:
            if not claim.entries:
                return False
            self._adapt(claim.entries)
            published, failed = await self._publish(claim.entries)
            await claim.mark(published)
            refused = [(entry, error) for entry, error in failed if not isinstance(error, _AWAY)]
            dead = [(entry, error) for entry, error in refused if _is_dead(entry, error)]
            held = [(entry, error) for entry, error in refused if not _is_dead(entry, error)]
            await claim.set_aside(dead)
            await claim.hold(held, self._clock())
            away = next((error for _, error in failed if isinstance(error, _AWAY)), None)
        self.published += len(published)
        self._tell(held, dead)
        if away is not None:
            raise away
        return bool(published or dead)

    def _adapt(self, entries: Sequence[Entry]) -> None:
        """Let the next round take as many as fit, if they are as large as these."""
        size = sum(len(entry.row.body) for entry in entries) // len(entries)
        self._batch = max(1, min(self._longest_batch, BATCH_BYTES // max(size, 1)))

    def _tell(
        self,
        held: Sequence[tuple[Entry, BaseException]],
        dead: Sequence[tuple[Entry, BaseException]],
    ) -> None:
        for entry, error in dead:
            log_problem(
                logger,
                logging.ERROR,
                "outbox: message %s can never be published and is set aside; row %d of the outbox "
                "stays, with its error, and what comes after it goes on",
                shown(entry.message_id),
                entry.id,
                error=error,
            )
        for entry, error in held:
            # Not by the routing key or the text: they may be others for each message.
            if count := self._throttle.due((type(error), entry.row.exchange)):
                log_problem(
                    logger,
                    logging.ERROR,
                    "outbox: message %s was refused %d times and stays in the outbox%s",
                    shown(entry.message_id),
                    entry.attempts + 1,
                    f" ({count} such refusals since the last line of them)" if count > 1 else "",
                    error=error,
                )

    async def _publish(
        self, entries: Sequence[Entry]
    ) -> tuple[list[Entry], list[tuple[Entry, BaseException]]]:
        """Publish messages; return those that were confirmed, and those that failed.

        What is in neither is left for the next round.
        """
        chains = _chains(entries)
        published: list[Entry] = []
        failed: list[tuple[Entry, BaseException]] = []
        end = asyncio.get_running_loop().time() + ROUND_TIME
        # One for all: each takes the next one that nobody has.
        left = iter(chains)
        await asyncio.gather(
            *(
                self._publish_chains(left, end, published, failed)
                for _ in range(min(len(chains), AT_ONCE))
            )
        )
        return published, failed

    async def _publish_chains(
        self,
        chains: Iterator[Sequence[Entry]],
        end: float,
        published: list[Entry],
        failed: list[tuple[Entry, BaseException]],
    ) -> None:
        """Publish one chain after the other, and of each one message after the other's confirm."""
        now = asyncio.get_running_loop().time
        for chain in chains:
            for entry in chain:
                if self._stopping or now() >= end:
                    return
                try:
                    message, declare = entry.read()
                    await self._send(message, timeout=PUBLISH_TIMEOUT, declare=declare)
                except _AWAY as error:
                    failed.append((entry, error))
                    return  # other messages would wait for as long in vain
                except Exception as error:  # noqa: BLE001 - one message must not stop the others
                    failed.append((entry, error))
                    break
                published.append(entry)

    async def _back_off(self, error: BaseException) -> None:
        self._failures += 1
        wait = random.uniform(0, min(0.2 * 2.0 ** min(self._failures, 8), BACKOFF_MAX))
        news = None if isinstance(error, (*_AWAY, StoreUnavailableError)) else type(error)
        self._outage.down("outbox", "nothing is published", error, news=news)
        # Not woken by commits: they say nothing about the broker.
        await self._pause(wait, wakes=False)

    async def _pause(self, seconds: float, *, wakes: bool = True) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not self._stopping:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or (wakes and self._wake.is_set()):
                return
            try:
                async with asyncio.timeout(left if wakes else min(left, 0.2)):
                    await self._wake.wait()
            except TimeoutError:
                continue
            if not wakes and not self._stopping:
                await asyncio.sleep(min(left, 0.2))


def _chains(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    """Return the messages of each key, in order, and each that has none by itself.

    The longest come first: it takes one confirm after the other, and the round ends with its last.
    """
    of_key: dict[str, list[Entry]] = {}
    alone: list[Sequence[Entry]] = []
    for entry in entries:
        if entry.key is None:
            alone.append((entry,))
        elif (chain := of_key.get(entry.key)) is not None:
            chain.append(entry)
        else:
            of_key[entry.key] = [entry]
    return [*sorted(of_key.values(), key=len, reverse=True), *alone]


def _is_dead(entry: Entry, error: BaseException) -> bool:
    """Tell whether no later attempt can end otherwise."""
    if isinstance(error, InvalidMessageError):
        return True
    # A row that a later version can read, whose relay may come; or what a driver stumbled over, and
    # it may have been something else for once.
    is_odd = isinstance(error, StoreError) or not isinstance(error, (MqkitError, OSError))
    return is_odd and entry.attempts + 1 >= ODD_ATTEMPTS
