"""The broker without sockets: its virtual hosts, users, clock, connections and alarms."""

from __future__ import annotations

import base64
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from importlib import metadata
from typing import Any, Protocol

from mqkit.embedded.engine.clock import Clock
from mqkit.embedded.engine.durable.journal import Forgetful, Journal
from mqkit.embedded.engine.memory import Memory
from mqkit.embedded.engine.users import Permissions, User, Users
from mqkit.embedded.engine.vhost import VirtualHost
from mqkit.embedded.errors import MAX_TEXT

logger = logging.getLogger(__name__)

PRODUCT = "mqkit embedded broker"

LOW_ON_MEMORY = "low on memory"
"""RabbitMQ's own words for it, in `connection.blocked`."""

DEFAULT_USERS = {"guest": "guest"}


def version() -> str:
    """Return the version of mqkit that this broker came with."""
    return metadata.version("mqkit")


class Client(Protocol):
    """What the engine uses of a client's connection; `session.connection.Connection` is one."""

    name: str
    vhost: VirtualHost | None
    """What it opened; None before."""
    heartbeat: int
    """Seconds, as agreed; 0 is none."""
    client_properties: dict[str, Any]

    @property
    def is_open(self) -> bool: ...

    @property
    def user(self) -> User: ...

    def force_close(self, reason: str) -> None:
        """Close the connection, and tell the client why."""
        ...

    def unblock(self) -> None:
        """Read on from a publisher that was blocked by an alarm."""
        ...

    def confirm(self) -> None:
        """Send the confirms that wait: what they confirm is durable."""
        ...


class Node:
    """One broker. It does no I/O but for its journal: connections bring and take the bytes.

    Whoever lets something happen (bytes of a client, a timer, a call) calls `settle` when that
    has ended.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        journal: Journal | None = None,
        users: Mapping[str, str] = DEFAULT_USERS,
        memory_limit: int | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Start with the virtual host '/'.

        :param memory_limit: bytes that messages may take until publishers are blocked; None is
            no limit
        :param random_bytes: gives so many bytes, for names and tags that nobody has or guesses
        """
        self._random_bytes = random_bytes
        self.clock = Clock() if clock is None else clock
        self.journal: Journal = Forgetful() if journal is None else journal
        self.users = Users(users)
        self.vhosts: dict[str, VirtualHost] = {}
        self.connections: dict[Client, None] = {}
        """In the order of their coming: the order of a set is not the same in each process."""
        self.memory = Memory(memory_limit, self._memory_alarm)
        self.unconfirmed: dict[Client, None] = {}
        """Connections that wait for their confirms."""
        self._deferred: deque[Callable[[], None]] = deque()
        self._blocked_by_hand: str | None = None
        self._first_users = tuple(users)
        self.add_vhost("/")

    def add_vhost(self, name: str) -> VirtualHost:
        """Add a virtual host, for the users that the broker began with; one that is there stays."""
        if name in self.vhosts:
            return self.vhosts[name]
        vhost = VirtualHost(
            name, self.clock, self.journal, self._deferred.append, self.memory, token=self.token
        )
        self.vhosts[name] = vhost
        for user in self._first_users:
            # One may have been deleted since.
            if user in self.users:
                self.users[user].permissions[name] = Permissions.of()
        self.journal.put_vhost(name)
        return vhost

    def token(self, size: int) -> str:
        """Make a text of so many random bytes."""
        return base64.urlsafe_b64encode(self._random_bytes(size)).rstrip(b"=").decode()

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all that is in it, and close its connections."""
        vhost = self.vhosts.pop(name, None)
        if vhost is None:
            return
        for connection in [c for c in self.connections if c.vhost is vhost]:
            connection.force_close(f"vhost '{name}' is deleted")
        for queue in list(vhost.queues.values()):
            vhost.delete_queue(queue, cancel=False)
        for user in self.users:
            user.permissions.pop(name, None)
        self.journal.drop_vhost(name)

    @property
    def alarm(self) -> str | None:
        """Why publishers are blocked; None if they are not."""
        return self._blocked_by_hand or (LOW_ON_MEMORY if self.memory.is_high else None)

    def block(self, reason: str) -> None:
        """Take no more messages from publishers, as RabbitMQ does when memory or disk run out."""
        # It goes out as a short string.
        self._blocked_by_hand = reason.encode()[:MAX_TEXT].decode(errors="ignore")

    def unblock(self) -> None:
        """Take messages again, unless they take too much memory."""
        self._blocked_by_hand = None
        self._end_alarm()

    def _memory_alarm(self, begins: bool) -> None:
        used, limit = self.memory.used, self.memory.limit
        if begins:
            logger.warning(
                "messages take %d bytes of memory, over the limit of %s: publishers are blocked "
                "until consumers have taken some of them",
                used,
                limit,
            )
        else:
            logger.warning("messages take %d bytes of memory: publishers go on", used)
            # Not from within what lets go of a message.
            self._deferred.append(self._end_alarm)

    def _end_alarm(self) -> None:
        if self.alarm is None:
            for connection in list(self.connections):
                connection.unblock()

    def settle(self) -> None:
        """Do what was put off, make everything durable, then send the confirms.

        :raises DataError: it could not be made durable; nothing is confirmed then
        """
        while self._deferred:
            self._deferred.popleft()()
        self.journal.commit()
        while self.unconfirmed:
            self.unconfirmed.popitem()[0].confirm()

    def run_due(self) -> None:
        """Run the timers that are due by now."""
        self.clock.run_due(after_each=self.settle)

    def advance(self, seconds: float | timedelta) -> None:
        """Move the clock forward at once, and run all that falls due on the way.

        :raises ValueError: `seconds` is negative, or no time
        """
        self.clock.advance(seconds, self.settle)
