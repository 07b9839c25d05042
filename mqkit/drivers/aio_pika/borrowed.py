"""Runs mqkit on connections that the application opens with aio-pika: `Service(connection=...)`.

An open connection is borrowed: mqkit opens channels of its own on it, never closes it, and does not
open it again when it is lost. A function that opens one is called for each connection that mqkit
needs, and again to recover; what it returns is mqkit's to close.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiormq
from aio_pika.abc import AbstractConnection, AbstractRobustConnection

from mqkit.drivers import common
from mqkit.drivers.aio_pika.connection import AioPikaConnection, OwnedConnection
from mqkit.drivers.aio_pika.receiver import read_for
from mqkit.drivers.base import Closed, Driver
from mqkit.errors import (
    AuthenticationError,
    BorrowedConnectionError,
    ConfigurationError,
    ConnectError,
)
from mqkit.settings import BrokerUrl, Host
from mqkit.system.reasons import root_text

Opener = Callable[[], Awaitable[AbstractConnection]]

TAKES = (
    "Service(connection=...) takes an open aio-pika connection, or an async function without "
    "arguments that opens one"
)

NOT_ROBUST = (
    "Service(connection=...) takes a plain aio-pika connection (aio_pika.connect), not a robust "
    "one: that is opened again behind mqkit's back, which recovers what it needs by itself. Give "
    "it an async function that opens a plain one"
)

MAY_FAIL = (aiormq.exceptions.AMQPError, OSError)
"""What aio-pika raises where a connection cannot be opened."""


@dataclass(frozen=True, slots=True)
class ApplicationHost(Host):
    """Stands in the place of a broker's address, for connections that mqkit does not open."""

    name: str = "application"
    port: int = 0

    def __str__(self) -> str:
        return "the application's connection"


APPLICATION = BrokerUrl(hosts=(ApplicationHost(),))
"""Stands where a broker's URL does."""


def of_application(source: Any) -> Driver:
    """Make the driver that hands out the application's connections.

    :raises ConfigurationError: it is neither a plain aio-pika connection nor a function
    """
    if isinstance(source, AbstractRobustConnection):
        raise ConfigurationError(NOT_ROBUST)
    if isinstance(source, AbstractConnection):
        return BorrowedDriver(source)
    if not callable(source):
        raise ConfigurationError(f"{TAKES}, not {type(source).__name__}")
    try:
        inspect.signature(source).bind()
    except TypeError as error:
        raise ConfigurationError(f"{TAKES}; {source!r} has {error}") from error
    return OpeningDriver(source)


class BorrowedDriver(Driver):
    """Hands out one connection that the application has opened, as long as it is open."""

    name = "aio-pika"

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._why: str | None = None

    async def connect(
        self,
        url: BrokerUrl,  # noqa: ARG002 - the connection is open already
        host: Host,  # noqa: ARG002 - as `url`
        *,
        name: str,  # noqa: ARG002 - as `url`
        on_blocked: Callable[[str | None], None],
    ) -> AioPikaConnection:
        """Return the connection, to be used and not closed.

        :raises ConfigurationError: it belongs to another event loop
        :raises BorrowedConnectionError: it is closed
        """
        under = _under(self._connection)
        if under is None:
            because = f" ({self._why})" if self._why else ""
            raise BorrowedConnectionError(
                f"the aio-pika connection that the service was given is closed{because}; mqkit "
                "uses it and does not open it again. Where it is to be recovered, give "
                "Service(connection=...) an async function that opens one"
            )
        if under.loop is not asyncio.get_running_loop():
            raise ConfigurationError(
                "the aio-pika connection that the service was given belongs to another event "
                "loop; give Service(connection=...) an async function that opens one"
            )
        _quiet()
        read_for(under)
        used = AioPikaConnection(under, on_blocked)
        used.closed.add_done_callback(self._on_closed)
        await used.look_for_alarms()
        return used

    def _on_closed(self, closed: asyncio.Future[Closed]) -> None:
        self._why = self._why or closed.result().text


class OpeningDriver(Driver):
    """Has the application's function open a connection whenever one is needed."""

    name = "aio-pika"

    def __init__(self, opener: Opener) -> None:
        self._open = opener

    async def connect(
        self,
        url: BrokerUrl,  # noqa: ARG002 - the function knows where the broker is
        host: Host,  # noqa: ARG002 - as `url`
        *,
        name: str,  # noqa: ARG002 - as `url`
        on_blocked: Callable[[str | None], None],
    ) -> AioPikaConnection:
        """Call the function for a connection; it sets its own timeout.

        :raises ConfigurationError: the function returned no plain aio-pika connection
        :raises ConnectError: it could not open one
        """
        _quiet()
        try:
            connection = await self._open()
        except MAY_FAIL as error:
            raise _connect_error(error) from error
        if isinstance(connection, AbstractRobustConnection):
            await connection.close()
            raise ConfigurationError(NOT_ROBUST)
        if not isinstance(connection, AbstractConnection):
            raise ConfigurationError(f"{TAKES}; it returned {type(connection).__name__}")
        under = _under(connection)
        if under is None:
            raise ConnectError("the application's function returned a connection that is closed")
        read_for(under)
        used = OpenedConnection(connection, under, on_blocked)
        await used.look_for_alarms()
        return used


class OpenedConnection(OwnedConnection):
    """A connection that the application's function opened for mqkit, which closes it."""

    def __init__(
        self,
        connection: AbstractConnection,
        under: aiormq.abc.AbstractConnection,
        on_blocked: Callable[[str | None], None],
    ) -> None:
        super().__init__(under, on_blocked)
        self._connection = connection

    async def _close_library(self) -> None:
        await self._connection.close()

    def end(self, why: Closed) -> None:
        super().end(why)
        # Also where it was lost: aio-pika's object does not know that it is closed before.
        self._start_to_close()


def _under(connection: AbstractConnection) -> aiormq.abc.AbstractConnection | None:
    """Return the aiormq connection under an aio-pika connection, if it is open."""
    if connection.is_closed or connection.transport is None:
        return None
    under = connection.transport.connection
    return under if under.is_opened else None


def _quiet() -> None:
    # Its warnings are the application's to see; its debug log has bodies, headers and tokens.
    common.quiet("aio_pika", "aiormq", "pamqp", level=logging.INFO)


def _connect_error(error: Exception) -> ConnectError:
    failed = "the application's function opened no connection"
    if isinstance(error, aiormq.exceptions.ProbableAuthenticationError):
        return AuthenticationError(f"{failed}: {error}")
    if isinstance(error, aiormq.exceptions.InvalidFrameError):
        return ConnectError(
            f"{failed}: the broker refused it, and aiormq does not tell why (a virtual host "
            "that does not exist, for example)"
        )
    return ConnectError(f"{failed}: {root_text(error)}")
