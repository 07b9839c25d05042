"""Finds the broker's policies that break what mqkit promises.

RabbitMQ applies the lower of a policy's and a queue's own `message-ttl`, `expires`, `max-length`
and `delivery-limit` (https://www.rabbitmq.com/docs/policies#operator-policies), also to the queues
of the delay ladder. AMQP does not show policies: they are read from the management API.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from mqkit.broker.delays import PREFIX
from mqkit.errors import ManagementError
from mqkit.management import ManagementApi
from mqkit.management.answers import records
from mqkit.topology import Queue

logger = logging.getLogger(__name__)

POLICY = "effective_policy_definition"
"""All that policies and operator policies say of a queue, in the answers of the API."""

SOON = 5.0
"""Seconds until the API is asked again about queues of which it said nothing yet."""

AGAIN = 300.0
"""Seconds until it is asked again about all: policies are set and changed while a service runs."""


def problems(name: str, state: Mapping[str, Any], queue: Queue | None = None) -> Iterator[str]:
    """Say which promises the policies on a queue break; nothing where they break none.

    :param state: the queue as the management API shows it
    :param queue: the handler's or the partition, if it is one; else a dead letter queue or mqkit's
    """
    policy = state.get(POLICY)
    if not isinstance(policy, Mapping):
        return
    names = [f"{state[key]!r}" for key in ("policy", "operator_policy") if state.get(key)]
    what = f"queue {name}: policy {' and '.join(names)} sets"
    for key, broken in _BROKEN.items():
        if key in policy and (why := broken(name, policy, queue)):
            yield f"{what} {key} to {policy[key]}: {why}"


def _expires(_: str, __: Mapping[str, Any], ___: Queue | None) -> str:
    return "the queue is deleted, with what is in it, when it is not consumed for so many ms"


def _message_ttl(name: str, _: Mapping[str, Any], queue: Queue | None) -> str:
    if queue is not None:
        return "what waits for so many ms is dead-lettered unhandled"
    if name.startswith(PREFIX):
        return "no retry waits longer than so many ms at each level of its delay, and comes early"
    return "dead letters are dropped after so many ms"


def _max_length(_: str, policy: Mapping[str, Any], queue: Queue | None) -> str:
    if queue is not None and queue.type == "quorum" and queue.declare:
        return ""  # it rejects what is published past it, and says so to who publishes
    if str(policy.get("overflow", "")).startswith("reject-publish"):
        return ""
    return "the oldest messages are dropped, or dead-lettered unhandled, when there are more"


def _delivery_limit(_: str, policy: Mapping[str, Any], queue: Queue | None) -> str:
    limit = policy["delivery-limit"]
    if not isinstance(limit, int) or limit < 0:
        return ""
    if queue is None:
        return "" if limit >= ENOUGH else "what is looked at and given back so often is dropped"
    if queue.type != "quorum" or limit >= queue.delivery_limit:
        return ""
    return (
        f"that is less than the declared {queue.delivery_limit}, and harmless messages may be "
        "dead-lettered with one that kills its worker"
    )


ENOUGH = 1_000_000
"""A delivery limit that nobody reaches by hand."""

_BROKEN = {
    "expires": _expires,
    "message-ttl": _message_ttl,
    "max-length": _max_length,
    "max-length-bytes": _max_length,
    "delivery-limit": _delivery_limit,
}


class Management:
    """Reads from the management API which policies hold.

    :raises ConfigurationError: the URL is none of a management API
    """

    def __init__(self, url: str, vhost: str) -> None:
        """Ask nothing yet.

        :param url: `http[s]://user:password@host:15672`
        """
        self._api = ManagementApi(url, vhost)

    @property
    def name(self) -> str:
        """The URL without the password."""
        return self._api.name

    async def problems(self, queues: Iterable[Queue]) -> tuple[list[str], bool]:
        """Say which promises the policies on these queues, and on the delay ladder's, break.

        :param queues: as they are declared: those of handlers, partitions and dead letters
        :returns: the problems, and whether RabbitMQ told of all queues: of a new one it does after
            some seconds
        :raises ManagementError: the API cannot be asked
        """
        return await asyncio.to_thread(self._problems, tuple(queues))

    def _problems(self, queues: tuple[Queue, ...]) -> tuple[list[str], bool]:
        known = [(queue, self._get(queue.name)) for queue in queues]
        pattern = quote(f"^{PREFIX}", safe="")
        query = f"?page=1&page_size=100&use_regex=true&name={pattern}"
        items = self._get(query=query).get("items") or []
        ladder = records(self._api.name, items, name=str)
        found = [
            problem
            for queue, state in known
            for problem in problems(queue.name, state, None if queue.keeps_dead_letters else queue)
        ]
        for state in ladder:
            found += problems(state["name"], state)
        return found, all(POLICY in state for state in (*(s for _, s in known), *ladder))

    def _get(self, *path: str, query: str = "") -> Mapping[str, Any]:
        answer = self._api.get("queues", *path, query=query)
        return answer if isinstance(answer, Mapping) else {}


async def watch(management: Management, service: str, queues: Iterable[Queue]) -> None:
    """Log each promise that policies on a service's queues break, once, until cancelled."""
    queues, logged = tuple(queues), set[str]()
    while True:
        try:
            found, is_all = await management.problems(queues)
        except ManagementError as error:
            found, is_all = [f"the policies of the broker are not known: {error}"], True
        for problem in found:
            if problem not in logged:
                logger.warning("%s: %s", service, problem)
        logged.update(found)
        await asyncio.sleep(AGAIN if is_all else SOON)
