"""Looks at all exchanges and bindings of a virtual host, without the broker's own and mqkit's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mqkit.errors import ManagementError
from mqkit.management import ManagementApi
from mqkit.provisioning.wanted import Wanted

OWN = ("amq.", "mqkit.")
"""How names of the broker's exchanges begin, and of those that mqkit itself works with."""


@dataclass(frozen=True, slots=True)
class Route:
    """A binding: messages go from an exchange to a queue, or to another exchange."""

    exchange: str
    destination: str
    is_queue: bool
    routing_key: str


@dataclass(frozen=True, slots=True)
class Routes:
    """How messages go in a virtual host."""

    exchanges: Mapping[str, str]
    """The type of each exchange."""
    routes: tuple[Route, ...]


def declared_routes(wanted: Wanted) -> Routes:
    """Return the ways that services declare, where those of the broker cannot be seen."""
    return Routes(
        exchanges={each.name: each.type for each in wanted.topology.exchanges},
        routes=tuple(
            Route(each.source.exchange.name, each.queue, True, each.source.routing_key)
            for each in wanted.topology.bindings
        ),
    )


async def look_at_routes(api: ManagementApi) -> Routes:
    """Ask for them, in two requests.

    :raises ManagementError: the API cannot be asked, or answers something else
    """
    exchanges = await _listed(api, "exchanges", "name", "type")
    bindings = await _listed(
        api, "bindings", "source", "destination", "destination_type", "routing_key"
    )
    return Routes(
        exchanges={name: kind for name, kind in exchanges if _is_seen(name)},
        routes=tuple(
            Route(source, destination, kind == "queue", routing_key)
            for source, destination, kind, routing_key in bindings
            # Every queue is bound to the default exchange, which is no way of its own.
            if _is_seen(source)
        ),
    )


async def _listed(api: ManagementApi, kind: str, *fields: str) -> list[tuple[str, ...]]:
    """List all of a kind, each with the values of these fields, which are texts."""
    found = await api.ask(kind, query=f"?columns={','.join(fields)}")
    if not isinstance(found, list):
        raise ManagementError(f"{api.name}: there is no such virtual host, or it lists no {kind}")
    rows = (tuple(each.get(name) for name in fields) for each in found if isinstance(each, dict))
    return [tuple(map(str, row)) for row in rows if all(isinstance(value, str) for value in row)]


def _is_seen(exchange: str) -> bool:
    return bool(exchange) and not exchange.startswith(OWN)
