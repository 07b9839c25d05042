"""The queues around a dead letter queue: their names, their declarations, and the lock on them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from mqkit.broker.connection import Connection
from mqkit.broker.declare import ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, explain
from mqkit.broker.moving import held_queues
from mqkit.checks.names import check_name
from mqkit.dead_letters.errors import DeadLettersInUseError, NotADeadLetterQueueError
from mqkit.drivers.base import DriverChannel, QueueState
from mqkit.errors import ChannelClosedError, TopologyError
from mqkit.logging.shown import shown
from mqkit.topology import (
    DEAD_SUFFIX,
    MAX_QUEUE_NAME,
    UNLIMITED_DELIVERIES,
    Queue,
    dead_letter_queue,
)

MAX_AUDIT = 10_000
"""Entries that the audit queue keeps; the oldest go first."""

LOCK_WAIT = 10.0
"""Seconds that somebody else's reading is waited for."""

LOCK_AGAIN = 0.2
"""Seconds between two attempts to get the lock."""

PRECONDITION_FAILED = 406


@dataclass(frozen=True, slots=True)
class Names:
    """The names of the queues around one dead letter queue."""

    queue: str
    """Where its dead letters came from, and are replayed to."""

    @classmethod
    def of(cls, queue: str) -> Names:
        """Make the names for a handler's queue, or for its dead letter queue.

        :raises ConfigurationError: no queue has this name
        """
        check_name("a queue", queue, MAX_QUEUE_NAME + len(DEAD_SUFFIX))
        name = queue.removesuffix(DEAD_SUFFIX)
        check_name("a queue", name, MAX_QUEUE_NAME)
        return cls(name)

    @property
    def dead(self) -> str:
        """The dead letter queue itself."""
        return f"{self.queue}{DEAD_SUFFIX}"

    @property
    def archive(self) -> str:
        """Keeps what was archived; nothing expires there."""
        return f"{self.dead}.archive"

    @property
    def audit(self) -> str:
        """Keeps who did what, when and why."""
        return f"{self.dead}.audit"

    @property
    def lock(self) -> str:
        """Is there while somebody reads or moves dead letters."""
        return f"{self.dead}.lock"


async def lock(connection: Connection, names: Names, wait: float = LOCK_WAIT) -> DriverChannel:
    """Keep all others of mqkit away from the dead letters, until the returned channel closes.

    It is an exclusive queue, which the broker deletes with its consumer or with the connection,
    however that ends. Quorum queues know no exclusive consumer: RabbitMQ 4.0 and 4.3 let a second
    one in.

    :param wait: seconds that whoever has it is waited for
    :raises DeadLettersInUseError: somebody else has it
    """
    end = time.monotonic() + wait
    while True:
        channel = await connection.channel()
        try:
            await channel.declare_queue(names.lock, durable=False, exclusive=True, auto_delete=True)
            await channel.consume(names.lock, _ignore, _ignore_cancel)
        except ChannelClosedError as error:
            if error.code == ACCESS_REFUSED:
                raise TopologyError(
                    explain(f"queue {names.lock}", error.code, error.text)
                ) from error
            if error.code != RESOURCE_LOCKED:
                raise
            if time.monotonic() >= end:
                raise DeadLettersInUseError(
                    f"somebody else reads or moves the dead letters of {shown(names.queue)} now: "
                    f"queue {shown(names.lock)} is another connection's; try again when it is done"
                ) from error
            await asyncio.sleep(LOCK_AGAIN)
        else:
            return channel


def _ignore(_: object) -> None:
    """Take nothing: nobody publishes to a lock."""


def _ignore_cancel() -> None:
    """Do nothing: whoever deletes a lock knows why."""


async def check(connection: Connection, names: Names) -> None:
    """Check that the queue is a dead letter queue of mqkit's, which nobody consumes.

    Whatever is read from a quorum queue and given back counts towards its delivery limit, on
    RabbitMQ 4.0 and 4.3 alike. So it must be declared as mqkit declares it, practically without
    one: of a queue with the broker's own limit of 20, the 21st reading would drop all messages.

    :raises NotADeadLetterQueueError: it is not there, or is another kind of queue
    :raises DeadLettersInUseError: somebody consumes it
    """
    state = await find(connection, names.dead)
    if state is None:
        raise NotADeadLetterQueueError(
            f"there is no queue {shown(names.dead)} on the broker: name a handler's queue, or its "
            f"dead letter queue, which ends in {DEAD_SUFFIX}"
        )
    difference = ""
    for kind in ("quorum", "classic"):
        problem = await _declared_otherwise(
            connection, dead_letter_queue(Queue(names.queue, type=kind))
        )
        if problem is None:
            break
        difference = difference or problem
    else:
        raise NotADeadLetterQueueError(
            f"{difference}; it is no dead letter queue that mqkit has declared, and what is read "
            "from it may be lost"
        )
    if state.consumers:
        raise DeadLettersInUseError(
            f"queue {shown(names.dead)} has {state.consumers} consumer(s), which take what is in "
            "it: stop the handler of these dead letters first"
        )


async def _declared_otherwise(connection: Connection, queue: Queue) -> str | None:
    """Say how a queue that is there is declared in another way; None where it is not."""
    channel = await connection.channel()
    try:
        await channel.declare_queue(queue.name, arguments=queue.declared_arguments())
    except ChannelClosedError as error:
        if error.code == ACCESS_REFUSED:
            return None  # who may not configure it cannot ask
        if error.code != PRECONDITION_FAILED:
            raise
        return explain(f"queue {shown(queue.name)}", error.code, error.text)
    await channel.close()
    return None


async def find(connection: Connection, name: str) -> QueueState | None:
    """Return the state of a queue, or None where it is not there."""
    channel = await connection.channel()
    try:
        state = await channel.declare_queue(name, passive=True)
    except ChannelClosedError as error:
        if error.code != NOT_FOUND:
            raise
        return None
    await channel.close()
    return state


async def check_is_not_moved(connection: Connection, names: Names) -> None:
    """Check that the queues are not being declared anew, while what is in them is held aside.

    :raises DeadLettersInUseError: `mqkit topology apply` does so now
    """
    moved = await held_queues(connection.channel, (names.queue, names.dead))
    if moved:
        raise DeadLettersInUseError(
            f"`mqkit topology apply` moves {', '.join(map(shown, sorted(moved)))} now: replay when "
            "it is done"
        )


async def declare_archive(connection: Connection, names: Names) -> None:
    """Declare the archive: a durable quorum queue in which nothing expires.

    :raises TopologyError: the broker refused it
    """
    await _declare(connection, names.archive, {"x-delivery-limit": UNLIMITED_DELIVERIES})


async def declare_audit(connection: Connection, names: Names) -> None:
    """Declare the audit queue, which keeps the latest entries.

    :raises TopologyError: the broker refused it
    """
    limits = {"x-delivery-limit": UNLIMITED_DELIVERIES, "x-max-length": MAX_AUDIT}
    await _declare(connection, names.audit, limits)


async def _declare(connection: Connection, name: str, limits: dict[str, int]) -> None:
    channel = await connection.channel()
    try:
        await channel.declare_queue(name, arguments={"x-queue-type": "quorum", **limits})
    except ChannelClosedError as error:
        if error.code not in (ACCESS_REFUSED, PRECONDITION_FAILED, RESOURCE_LOCKED):
            raise
        raise TopologyError(explain(f"queue {name}", error.code, error.text)) from error
    await channel.close()
