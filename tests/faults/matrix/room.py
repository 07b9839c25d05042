"""A virtual host and a user of a row's own, and the secrets that no log may have."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit, urlunsplit

from mqkit.testing.brokers.broker import Broker

BATCH = 8
"""Rooms that are made at once: a run of rabbitmqctl takes half a second, a room a tenth."""

_OPEN = (
    'ok = rabbit_auth_backend_internal:add_user(<<"{name}">>, <<"{password}">>, <<"matrix">>), '
    'ok = rabbit_vhost:add(<<"{name}">>, <<"matrix">>), '
    'rabbit_auth_backend_internal:set_permissions(<<"{name}">>, <<"{name}">>, '
    '<<".*">>, <<".*">>, <<".*">>, <<"matrix">>)'
)


def card_number(account: int) -> str:
    """Make a card number, with the check digit by which a log knows it from other digits."""
    digits = [int(digit) for digit in f"4{account:014d}"]
    # Luhn: of the digits before the check digit, every other one counts twice, from the last on.
    total = sum(sum(divmod(2 * digit, 10)) for digit in digits[::-2]) + sum(digits[-2::-2])
    return f"4{account:014d}{-total % 10}"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What is planted in bodies, headers and the URL, and searched for in every log."""

    card: str = field(default_factory=lambda: card_number(secrets.randbelow(10**14)))
    password: str = field(default_factory=lambda: f"pw{secrets.token_hex(12)}")
    token: str = field(default_factory=lambda: f"tok{secrets.token_hex(12)}")

    def found_in(self, text: str) -> list[str]:
        """Which of them the text has, by their names."""
        return [name for name in self.__slots__ if getattr(self, name) in text]


class Room:
    """A virtual host for one row on one broker, and a user whose password is planted."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.secrets = Secrets()
        self.name = f"room-{secrets.token_hex(4)}"
        parts = urlsplit(broker.url)
        host = parts.netloc.rpartition("@")[2]
        self.url = urlunsplit(
            parts._replace(
                netloc=f"{self.name}:{self.secrets.password}@{host}", path=f"/{self.name}"
            )
        )

    @property
    def words(self) -> str:
        """What makes it, in the broker's own language."""
        return _OPEN.format(name=self.name, password=self.secrets.password)

    def queues(self) -> list[str]:
        """The names of its queues.

        Their lengths are asked for by AMQP: rabbitmqctl tells those of quorum queues as they
        were at the last tick, up to 5 s ago.
        """
        listed = self._broker.evaluate(
            f'[element(4, amqqueue:get_name(Q)) || Q <- rabbit_amqqueue:list(<<"{self.name}">>)].'
        )
        return re.findall(r'<<"([^"]*)">>', listed)


class Rooms:
    """The rooms of one broker. None is used twice, and they go with the broker."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self._free: list[Room] = []

    def take(self) -> Room:
        """One that nobody had.

        :raises mqkit.testing.brokers.broker.BrokerControlError: the broker refused
        """
        if not self._free:
            made = [Room(self.broker) for _ in range(BATCH)]
            self.broker.evaluate(f"{', '.join(room.words for room in made)}.")
            self._free = made
        return self._free.pop()


def with_parameters(url: str, **parameters: object) -> str:
    """The URL with these parameters in the place of its own."""
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in parameters.items())
    return urlunsplit(urlsplit(url)._replace(query=query))
