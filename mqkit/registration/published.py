"""The exchanges that a service says it publishes to, and the refusal of others."""

from __future__ import annotations

from collections.abc import Iterable

from mqkit.checks import checked
from mqkit.errors import ConfigurationError
from mqkit.topology import Exchange, Sent, Topology, difference


def checked_publishes(
    exchanges: Iterable[Exchange | Sent], what: str
) -> tuple[Topology, tuple[Sent, ...]]:
    """Check `Service(publishes=...)`; return what is to be declared for it, and what it says.

    :raises ConfigurationError: there is something else in it than exchanges, or one in two ways
    """
    if isinstance(exchanges, Exchange | Sent) or not isinstance(exchanges, Iterable):
        raise ConfigurationError(
            f"{what}: publishes takes a list of Exchange, not {checked.shown(exchanges)}"
        )
    given = tuple(exchanges)
    sent = tuple(each for each in given if isinstance(each, Sent))
    found = tuple(each.source.exchange if isinstance(each, Sent) else each for each in given)
    for each in found:
        if not isinstance(each, Exchange):
            raise ConfigurationError(
                f"{what}: publishes takes Exchange(...), not {checked.shown(each)}"
            )
    try:
        return Topology().merge(Topology(exchanges=found)), sent
    except ConfigurationError as error:
        raise ConfigurationError(f"{what}: publishes: {error}") from error


class PublishCheck:
    """Refuses a publish to an `Exchange` that its service does not name."""

    def __init__(self, service: str, exchanges: Iterable[Exchange]) -> None:
        """Take those of `publishes` and of the bindings."""
        self._service = service
        self._exchanges = {each.name: each for each in exchanges}

    def __call__(self, exchange: Exchange) -> None:
        """Return if it may be published to.

        :raises ConfigurationError: the service does not name it, or declares it otherwise
        """
        declared = self._exchanges.get(exchange.name)
        if declared is exchange:
            return
        if declared is None:
            raise ConfigurationError(
                f"service {self._service!r} publishes to exchange {exchange.name!r}, which is "
                "neither in its publishes= nor bound by a handler: add it to "
                f"Service({self._service!r}, publishes=[...])"
            )
        if declared != exchange:
            raise ConfigurationError(
                f"service {self._service!r} publishes to exchange {exchange.name!r}, and declares "
                f"it in another way: {difference(declared, exchange)}; use one Exchange for both"
            )
