"""Lists the queues of a broker, and says what each of them is for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mqkit.broker.delays import PREFIX
from mqkit.broker.states import READERS
from mqkit.dead_letters.queues import Names
from mqkit.errors import ConfigurationError, ManagementError
from mqkit.management.answers import whole
from mqkit.management.api import ManagementApi
from mqkit.overview.values import QueueView, Role, ServiceView
from mqkit.topology import DEAD_SUFFIX

COLUMNS = (
    "name",
    "type",
    "messages_ready",
    "messages_unacknowledged",
    "consumers",
    "message_stats.publish_details.rate",
    "message_stats.ack_details.rate",
)
"""What is asked of the management API: with all it has of 500 queues, an answer is megabytes."""

_PARTITION = re.compile(r"\.[0-9]+$")


@dataclass(frozen=True, slots=True)
class Listed:
    """One queue, as the broker tells of it."""

    name: str
    ready: int
    consumers: int
    kind: str = ""
    unacked: int | None = None
    rate_in: float | None = None
    rate_out: float | None = None


async def listed_by_management(api: ManagementApi) -> list[Listed]:
    """List all queues of the virtual host, in one request.

    :raises ManagementError: it cannot be asked, or answers something else
    """
    told = await api.ask("queues", query=f"?columns={','.join(COLUMNS)}")
    if not isinstance(told, list):
        raise ManagementError(f"{api.name}: there is no such virtual host, or it lists no queues")
    return [_listed(each) for each in told if isinstance(each, dict) and "name" in each]


def _listed(told: Mapping[str, Any]) -> Listed:
    stats = told.get("message_stats")
    stats = stats if isinstance(stats, dict) else {}
    unacked = told.get("messages_unacknowledged")
    return Listed(
        name=str(told["name"]),
        ready=whole(told.get("messages_ready")),
        consumers=whole(told.get("consumers")),
        kind=str(told.get("type", "")),
        unacked=unacked if isinstance(unacked, int) else None,
        rate_in=_rate(stats, "publish_details"),
        rate_out=_rate(stats, "ack_details"),
    )


def _rate(stats: Mapping[str, Any], name: str) -> float | None:
    """Return a rate; 0 where the API has counted nothing of the kind for this queue."""
    details = stats.get(name)
    rate = details.get("rate") if isinstance(details, dict) else 0.0
    return float(rate) if isinstance(rate, int | float) else None


def names_of(services: Iterable[ServiceView]) -> list[str]:
    """Return the queues that services have, for who cannot list those of the broker.

    That is the handlers' queues, their partitions and their dead letters. Archives are left out:
    most are not there, and to ask for what is not there is an error in the broker's log.
    """
    found: dict[str, None] = {}
    for service in services:
        for handler in service.handlers:
            found |= dict.fromkeys((handler.queue, *handler.owners))
            if (names := _names(handler.queue)) is not None:
                found[names.dead] = None
    return list(found)


def views_of(listed: Iterable[Listed], services: Iterable[ServiceView]) -> tuple[QueueView, ...]:
    """Return the queues with what they are for, the ones with the largest backlog first.

    The queues of those that listen for states, as this view does, are left out.
    """
    found = [each for each in listed if not each.name.startswith(READERS)]
    roles = _Roles({each.name for each in found}, services)
    views = []
    for each in found:
        role, of = roles.of(each.name)
        views.append(
            QueueView(
                name=each.name,
                role=role,
                kind=each.kind,
                ready=each.ready,
                unacked=each.unacked,
                consumers=each.consumers,
                rate_in=each.rate_in,
                rate_out=each.rate_out,
                of=of,
            )
        )
    return tuple(sorted(views, key=_order))


def _order(view: QueueView) -> tuple[int, int, float, str]:
    return (-view.ready, -(view.unacked or 0), -(view.rate_in or 0.0), view.name)


class _Roles:
    """Says what a queue is for: by what handlers say, or else by its name and its neighbours."""

    def __init__(self, names: set[str], services: Iterable[ServiceView]) -> None:
        self._names = names
        handlers = [handler for service in services for handler in service.handlers]
        self._work = {handler.queue for handler in handlers}
        self._partitions = {
            name: handler.queue
            for handler in handlers
            for name in handler.owners
            if name != handler.queue
        }

    def of(self, name: str) -> tuple[Role, str]:
        """Return what a queue is for, and which other queue it belongs to."""
        if name.startswith(f"{PREFIX}."):
            return Role.DELAY, ""
        if name in self._partitions:
            return Role.PARTITION, self._partitions[name]
        for role, of in _belonging(name):
            if self._is_work(of):
                return role, of
        if self._is_work(name):
            return Role.WORK, ""
        stem = _PARTITION.sub("", name)
        if stem != name and self._is_work(stem):  # of a service that does not run
            return Role.PARTITION, stem
        return Role.OTHER, ""

    def _is_work(self, name: str) -> bool:
        """Tell whether a handler consumes it, or would: it has dead letters."""
        if name in self._work:
            return True
        names = _names(name)
        return names is not None and name in self._names and names.dead in self._names


def _belonging(name: str) -> Iterator[tuple[Role, str]]:
    """Return for what a queue is, if one of the other name is a handler's."""
    around = Names("")
    for suffix, role in (
        (around.dead, Role.DEAD),
        (around.archive, Role.ARCHIVE),
        (around.audit, Role.OTHER),
        (around.lock, Role.OTHER),
    ):
        if name.endswith(suffix):
            yield role, name.removesuffix(suffix)


def _names(queue: str) -> Names | None:
    """Return the names around a handler's queue; None where no handler can have it."""
    try:
        return Names.of(queue) if not queue.endswith(DEAD_SUFFIX) else Names(queue)
    except ConfigurationError:
        return None
