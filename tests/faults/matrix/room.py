"""A virtual host and a user of a row's own, and the secrets that no log may have."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit, urlunsplit

from mqkit.testing.broker import Broker

_OPEN = (
    'ok = rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"{password}">>, <<"matrix">>), '
    'ok = rabbit_vhost:add(<<"{name}">>, <<"matrix">>), '
    'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{name}">>, '
    '<<".*">>, <<".*">>, <<".*">>, <<"matrix">>).'
)
_CLOSE = (
    'rabbit_vhost:delete(<<"{name}">>, <<"matrix">>), '
    'rabbit_auth_backend_internal:delete_user(<<"{user}">>, <<"matrix">>).'
)
"""Each in one run of rabbitmqctl rather than three: a run takes half a second."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What is planted in bodies, headers and the URL, and searched for in every log."""

    card: str = field(default_factory=lambda: f"4{secrets.randbelow(10**15):015d}")
    password: str = field(default_factory=lambda: f"pw{secrets.token_hex(12)}")
    token: str = field(default_factory=lambda: f"tok{secrets.token_hex(12)}")

    def found_in(self, text: str) -> list[str]:
        """Which of them the text has, by their names."""
        return [name for name in self.__slots__ if getattr(self, name) in text]


class Room:
    """A virtual host for one row on one broker; everything in it goes with it."""

    def __init__(self, broker: Broker, row: int, planted: Secrets) -> None:
        """Make it, and a user whose password is planted.

        :raises mqkit.testing.broker.BrokerControlError: the broker refused
        """
        self._broker = broker
        self.name = f"row{row}-{secrets.token_hex(4)}"
        self._values = {"name": self.name, "user": self.name, "password": planted.password}
        broker.ctl("eval", _OPEN.format(**self._values))
        parts = urlsplit(broker.url)
        host = parts.netloc.rpartition("@")[2]
        self.url = urlunsplit(
            parts._replace(netloc=f"{self.name}:{planted.password}@{host}", path=f"/{self.name}")
        )

    def queues(self) -> list[str]:
        """The names of its queues.

        Their lengths are asked for by AMQP: rabbitmqctl tells those of quorum queues as they
        were at the last tick, up to 5 s ago.
        """
        return self._broker.ctl(
            "list_queues", "-p", self.name, "--no-table-headers", "name"
        ).split()

    def close(self) -> None:
        """Delete it with all that is in it."""
        self._broker.ctl("eval", _CLOSE.format(**self._values))


def with_parameters(url: str, **parameters: object) -> str:
    """The URL with these parameters in the place of its own."""
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in parameters.items())
    return urlunsplit(urlsplit(url)._replace(query=query))
