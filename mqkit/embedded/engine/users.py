"""Users: how they log in, and what they may do in which virtual host.

https://www.rabbitmq.com/docs/access-control
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pamqp import decode

from mqkit.embedded.errors import access_refused
from mqkit.embedded.wire.frames import MALFORMED

LOOPBACK_USER = "guest"
"""As with RabbitMQ, the user with the well-known password may come from this machine only."""

MECHANISMS = "PLAIN AMQPLAIN"

PLAIN_PARTS = 3

DEFAULT_EXCHANGE = "amq.default"
"""What the exchange with the empty name is called here."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """Regular expressions on names: what may be declared, published to and consumed from."""

    configure: re.Pattern[str]
    write: re.Pattern[str]
    read: re.Pattern[str]

    @classmethod
    def of(cls, configure: str = ".*", write: str = ".*", read: str = ".*") -> Permissions:
        """Make permissions of expressions; an empty one permits nothing.

        :raises re.error: one is no regular expression
        """
        return cls(*(re.compile(each or "(?!)") for each in (configure, write, read)))


@dataclass(slots=True)
class User:
    """A user who may log in."""

    name: str
    password: str = field(repr=False)
    permissions: dict[str, Permissions] = field(default_factory=dict)
    """By virtual host; none is no access."""

    def check(self, permission: str, kind: str, name: str, vhost: str) -> None:
        """Check that the user may use a queue or an exchange.

        :param permission: configure, write or read
        :param kind: exchange or queue
        :raises ReplyError: 403
        """
        if not self._may(permission, name, vhost):
            raise access_refused(
                f"{permission} access to {kind} '{name or DEFAULT_EXCHANGE}' in vhost '{vhost}' "
                f"refused for user '{self.name}'"
            )

    def check_any(self, kind: str, name: str, vhost: str) -> None:
        """Check that the user may use a queue or an exchange in some way, and so see that it is.

        :raises ReplyError: 403, in the words of a refusal to configure it
        """
        if not any(self._may(each, name, vhost) for each in ("write", "read")):
            self.check("configure", kind, name, vhost)

    def _may(self, permission: str, name: str, vhost: str) -> bool:
        if vhost not in self.permissions:
            return False
        allowed: re.Pattern[str] = getattr(self.permissions[vhost], permission)
        return allowed.search(name or DEFAULT_EXCHANGE) is not None


class Users:
    """The users who may log in."""

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._users = {name: User(name, password) for name, password in passwords.items()}

    def __getitem__(self, name: str) -> User:
        return self._users[name]

    def __contains__(self, name: str) -> bool:
        return name in self._users

    def __iter__(self) -> Iterator[User]:
        return iter(self._users.values())

    def add(self, name: str, password: str) -> User:
        """Add a user without permissions, or give one another password."""
        user = self._users.get(name)
        if user is None:
            user = self._users[name] = User(name, password)
        user.password = password
        return user

    def delete(self, name: str) -> None:
        """Delete a user; one that is not there is deleted already."""
        self._users.pop(name, None)

    def log_in(self, mechanism: str, response: bytes, *, from_loopback: bool) -> User | None:
        """Return the user that a client's proof is right for; None if it is wrong."""
        found = _credentials(mechanism, response)
        if found is None:
            return None
        name, password = found
        user = self._users.get(name)
        # Compared even for an unknown name, so that an answer's time does not tell them apart.
        same = hmac.compare_digest((user.password if user else "").encode(), password.encode())
        if user is None or not same or (name == LOOPBACK_USER and not from_loopback):
            return None
        return user


def _credentials(mechanism: str, response: bytes) -> tuple[str, str] | None:
    try:
        if mechanism == "PLAIN":
            parts = response.decode().split("\0")
            return (parts[1], parts[2]) if len(parts) == PLAIN_PARTS else None
        if mechanism == "AMQPLAIN":
            # A field table without its length (RabbitMQ's access control guide).
            _, table = decode.field_table(len(response).to_bytes(4) + response)
            name, password = table.get("LOGIN"), table.get("PASSWORD")
            if isinstance(name, str) and isinstance(password, str):
                return name, password
    except MALFORMED:
        # Nonsense is no proof of anything; the caller refuses the login.
        return None
    return None
