"""Lets more messages of a handler be under way while its runs share a store's commits."""

from __future__ import annotations

from mqkit.consuming.workers import WorkerPool
from mqkit.hooks.tracing import Dispatch
from mqkit.message import Delivery
from mqkit.outcome import Outcome
from mqkit.registration.handler import Handler
from mqkit.registration.transactions import TransactionalStore

EACH = 8
"""Messages after which the limit is looked at again."""


class Sharing:
    """Lets as many messages be under way as their next commits can take, up to the prefetch.

    They wait for their turns in the store: no more of them run than the handler's `concurrency`
    says. Where its runs are slow, each has a commit of its own, and none waits there.
    """

    def __init__(self, handler: Handler, store: TransactionalStore, dispatch: Dispatch) -> None:
        """Let no more be under way than may run.

        :param dispatch: runs the handler for a delivery
        """
        self._handler = handler
        self._store = store
        self._dispatch = dispatch
        self._limit = handler.concurrency
        self._workers: WorkerPool[Delivery] | None = None
        self._ended = 0

    def attach(self, workers: WorkerPool[Delivery]) -> None:
        """Set the limit of these workers from now on."""
        self._workers = workers

    async def dispatch(self, delivery: Delivery) -> Outcome:
        """Run the handler for a delivery, and return its outcome."""
        outcome = await self._dispatch(delivery)
        self._ended += 1
        if self._ended % EACH == 0:
            self._set_limit()
        return outcome

    def _set_limit(self) -> None:
        handler = self._handler
        partitions = handler.queue.partitions or 1
        wanted = self._store.under_way(handler.name) // partitions
        limit = max(handler.concurrency, min(wanted, handler.prefetch))
        if limit != self._limit and self._workers is not None:
            self._limit = limit
            self._workers.set_limit(limit)
