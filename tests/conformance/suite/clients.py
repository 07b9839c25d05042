"""The clients that the cases are run with: add a line here to hold another one to the suite."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from mqkit.drivers.aio_pika.driver import AioPikaDriver
from mqkit.drivers.base import Driver
from mqkit.drivers.pika.driver import PikaDriver
from mqkit.errors import ConfigurationError
from mqkit.settings import BrokerUrl
from tests.conformance.suite.env import BytesEnv, DriverEnv, Env, Session
from tests.conformance.suite.suite import About
from tests.conformance.suite.wire import aiormq, pika
from tests.conformance.suite.wire.base import Wire


@dataclass(frozen=True, slots=True)
class Client:
    """A client, and which cases are about what it can show."""

    label: str
    about: About
    connect: Callable[[BrokerUrl], Awaitable[Wire]]
    """How `env.channel()` comes by its connection."""
    driver: Callable[[], Driver] | None = None

    def env(self, session: Session) -> Env:
        """Make the surroundings of one case."""
        if self.about == "driver":
            assert self.driver is not None
            return DriverEnv(session, self.driver())
        return BytesEnv(session) if self.about == "bytes" else Env(session)


CLIENTS: Mapping[str, Client] = {
    client.label: client
    for client in (
        Client("pika raw", "broker", pika.connect),
        Client("aio-pika raw", "broker", aiormq.connect),
        Client("pika", "driver", pika.connect, PikaDriver),
        Client("aio-pika", "driver", pika.connect, AioPikaDriver),
        Client("bytes", "bytes", pika.connect),
    )
}
"""By label."""


def client_of(label: str) -> Client:
    """Return the client with this label.

    :raises mqkit.errors.ConfigurationError: there is none
    """
    if label not in CLIENTS:
        raise ConfigurationError(f"no client {label!r}: one of {', '.join(CLIENTS)}")
    return CLIENTS[label]
