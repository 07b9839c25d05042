"""Makes sure that an exchange is there before the first message to it is written.

Publishing to a missing exchange closes the channel, under all else that is in flight on it. So each
is asked for once, on a channel of its own: one that the application gives as an `Exchange` is
declared, so that it does not matter which service starts first, and one that it gives by name is
only looked for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from mqkit.broker.declare import declare_exchange, explain
from mqkit.drivers.base import DriverChannel
from mqkit.errors import ChannelClosedError, ExchangeMismatchError, PublishError
from mqkit.message import Message
from mqkit.publishing.single_flight import SingleFlight
from mqkit.publishing.verdicts import (
    HARMLESS_CODES,
    NOT_FOUND,
    PRECONDITION_FAILED,
    exchange_not_found,
    publish_error,
)
from mqkit.topology import Exchange

ExtraChannel = Callable[[], AbstractAsyncContextManager[DriverChannel]]
"""Opens a channel for one question."""

ExchangeCheck = Callable[[Exchange], None]
"""Refuses an exchange that may not be published to, with a `ConfigurationError`."""


class Exchanges:
    """Knows the exchanges that a publisher may write to, and how the application declares them."""

    def __init__(self, check: ExchangeCheck | None = None) -> None:
        """Know none yet.

        :param check: is asked about each `Exchange` that is published to
        """
        self.known: set[str] = set()
        """The exchanges that the broker has, as far as this connection was told."""
        self.given: dict[str, Exchange] = {}
        """The exchanges that were given as such, by name: for a look before `note`."""
        self._judged: set[str] = set()
        """Exchanges that this user may neither declare nor ask for."""
        self._check = check
        self._asking: SingleFlight[None] = SingleFlight()

    def note(self, exchange: Exchange) -> None:
        """Note how the application declares an exchange; it is declared so before the next message.

        :raises ConfigurationError: it may not be published to
        """
        if self._check is not None:
            self._check(exchange)
        before = self.given.get(exchange.name)
        self.given[exchange.name] = exchange
        if before != exchange and exchange.declare:
            self.known.discard(exchange.name)

    def forget(self, name: str | None = None) -> None:
        """Ask for an exchange again before the next message to it, or for all of them."""
        if name is None:
            self.known.clear()
        else:
            self.known.discard(name)

    def declares(self, name: str) -> bool:
        """Tell whether an exchange is declared here, where the broker does not have it."""
        exchange = self.given.get(name)
        return exchange is not None and exchange.declare and name not in self._judged

    async def find(self, message: Message, extra_channel: ExtraChannel) -> PublishError | None:
        """Declare or find the exchange of a message; return the error if it cannot be written to.

        Where the connection was lost meanwhile, it is neither known nor an error.
        """
        name = message.exchange
        self._judged.discard(name)
        exchange = self.given[name] if self.declares(name) else None
        try:
            await self._asking.do(
                (name, exchange is not None), lambda: self._find(name, exchange, extra_channel)
            )
        except _UndeclarableError as error:
            return exchange_not_found(message, error.text)
        except ChannelClosedError as error:
            if error.code == NOT_FOUND:
                return exchange_not_found(message)
            if error.code == PRECONDITION_FAILED:
                # Not given any more: to its name it can be published.
                self.given.pop(name, None)
                problem = (
                    f"{explain(f'exchange {name!r}', error.code, error.text)}; to publish to it as "
                    "it is, give its name"
                )
                return publish_error(ExchangeMismatchError, message, problem)
            if error.code not in HARMLESS_CODES:
                # Not allowed to ask: let the publish itself be judged.
                self._judged.add(name)
                self.known.add(name)
        return None

    async def _find(
        self, name: str, exchange: Exchange | None, extra_channel: ExtraChannel
    ) -> None:
        if exchange is None:
            await _look_for(name, extra_channel)
        else:
            await declare_missing(exchange, extra_channel)
        self.known.add(name)


class _UndeclarableError(ChannelClosedError):
    """An exchange is not there, and this user may not declare it; `text` says why not."""


async def declare_missing(exchange: Exchange, extra_channel: ExtraChannel) -> None:
    """Declare an exchange; where the broker does not let this user, it is enough that it is there.

    :raises ChannelClosedError: the broker refused it, and does not have it; or has another one of
        the name (406); or the connection was lost
    """
    try:
        async with extra_channel() as channel:
            await declare_exchange(channel, exchange)
    except ChannelClosedError as refused:
        if refused.code in HARMLESS_CODES or refused.code == PRECONDITION_FAILED:
            raise
        try:
            await _look_for(exchange.name, extra_channel)
        except ChannelClosedError as missing:
            if missing.code == NOT_FOUND:
                raise _UndeclarableError(refused.code, refused.text) from refused
            raise


async def _look_for(name: str, extra_channel: ExtraChannel) -> None:
    async with extra_channel() as channel:
        await channel.declare_exchange(name, "direct", passive=True)
