"""A connection that is opened by the first who needs it, and then kept as any other."""

from __future__ import annotations

import asyncio

from mqkit.broker.connection import Connection
from mqkit.drivers.base import Driver, DriverChannel
from mqkit.errors import ConnectError
from mqkit.settings import BrokerUrl


class LazyConnection(Connection):
    """Connects when a channel is asked for, or at `open`; all who wait share the attempt.

    While the broker is away the attempt goes on. Where the broker refuses this user, or the virtual
    host, all who wait are told, and whoever comes next tries again.
    """

    def __init__(self, url: BrokerUrl, *, name: str, driver: Driver) -> None:
        super().__init__(url, name=name, driver=driver)
        self._attempt: asyncio.Task[None] | None = None

    async def open(self, deadline: float | None = None) -> None:
        """Return once it is open, within `deadline` seconds; None is without end.

        After the deadline the attempt goes on, until `close`, for whoever asks for a channel.

        :raises AuthenticationError: the credentials were refused
        :raises VirtualHostError: the virtual host was refused
        :raises ConnectError: the deadline passed, or it was closed
        """
        if deadline is None:
            return await self._open_once()
        try:
            async with asyncio.timeout(deadline):
                await self._open_once()
        except TimeoutError:
            why = f": {self.problem}" if self.problem else ""
            raise ConnectError(
                f"connection {self.name}: the broker was not reached within {deadline:g} s{why}"
            ) from None

    async def channel(self) -> DriverChannel:
        """Open a channel, after connecting if there is no connection yet.

        :raises AuthenticationError: as `open`
        :raises VirtualHostError: as `open`
        :raises ConnectError: this connection was closed
        :raises ChannelClosedError: the broker refused to open one
        """
        await self._open_once()
        return await super().channel()

    async def close(self) -> None:
        """Close the connection for good; those who wait for it get `ConnectError`."""
        self._closing = True
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.wait([self._attempt])
        await super().close()

    async def _open_once(self) -> None:
        if self._keeper is not None:
            return
        if self._attempt is None or self._attempt.done():
            self._attempt = asyncio.create_task(self._connect_first(), name=f"mqkit {self.name}")
            self._attempt.add_done_callback(_look_at)
        await asyncio.shield(self._attempt)

    async def _connect_first(self) -> None:
        try:
            if not self._closing:
                return await super().open(None)
        except asyncio.CancelledError:
            if not self._closing:
                raise
        # For whoever waits: it is this that was cancelled, and not they.
        raise ConnectError(f"connection {self.name}: it was closed")


def _look_at(attempt: asyncio.Task[None]) -> None:
    """Read the error of a failed attempt, so that asyncio does not log it as never retrieved."""
    if not attempt.cancelled():
        attempt.exception()
