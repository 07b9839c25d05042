"""The protocol of a store, as a running service calls it.

The hot path knows this protocol only. `mqkit.store.Store` is what implements it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from mqkit.errors import HandlerError
from mqkit.message import Delivery, Message
from mqkit.middleware import Observer
from mqkit.registration.handler import Handler
from mqkit.registration.injection import SYNCHRONOUS, TRANSACTIONAL, Plan, Provider
from mqkit.topology import Exchange


class SendWithin(Protocol):
    """Publishes a message and returns once it is confirmed: `Publisher.send`.

    `declare` is its exchange, to be declared where the broker does not have it.
    """

    def __call__(
        self, message: Message, *, timeout: float | None = None, declare: Exchange | None = None
    ) -> Awaitable[None]: ...


class HandlerPolicy(Protocol):
    """The parts of a handler that tell a store how long to keep its inbox."""

    @property
    def name(self) -> str: ...

    @property
    def longest_retry(self) -> float:
        """The most seconds that all retries of one message may take."""
        ...


class TransactionalStore(Observer, Protocol):
    """Runs a message's handler once, in a transaction, and keeps what became of the message.

    It is an observer that notes what became of each; the notes are written soon after.
    """

    def check(self, handlers: tuple[HandlerPolicy, ...]) -> None:
        """Refuse handlers whose messages could come back after their inbox rows are gone.

        :raises ConfigurationError: one of them retries for longer than the inbox remembers
        """
        ...

    async def open(self) -> None:
        """Connect, and make the tables where they are missing or of an earlier version.

        :raises ConfigurationError: it is open on another event loop
        :raises StoreError: the database cannot be reached or used
        """
        ...

    def start(self, send: SendWithin) -> asyncio.Task[None] | None:
        """Start the relay beside the handlers; its task ends by `stop`, or with an error."""
        ...

    async def stop(self) -> None:
        """Stop the relay: what is being published is confirmed and marked first."""
        ...

    async def close(self) -> None:
        """Write what is left to write, and disconnect."""
        ...

    async def ping(self) -> None:
        """Return if the database answers.

        :raises StoreUnavailableError: it does not
        """
        ...

    async def run_once(
        self,
        handler: str,
        delivery: Delivery,
        run: Callable[[Any], Awaitable[Any]],
        *,
        at_once: int | None = None,
    ) -> Any:
        """Run a handler in a transaction that writes its inbox row; skip it if there is one.

        Returns what the handler returned, now or the first time. The transaction is committed
        when this returns, and what the handler did is rolled back when it raises. With `at_once`,
        the most runs at a time, other messages of the handler may share the transaction.

        :raises StoreUnavailableError: the database failed, not the handler
        :raises StatementError: the transaction failed though the database is well
        :raises MessageIdError: the store cannot keep its id, or knows it with another body
        """
        ...

    def under_way(self, handler: str) -> int:
        """Return how many messages of a handler are of use at a time, as far as is known."""
        ...

    async def run_batch_once(
        self,
        handler: str,
        deliveries: Sequence[Delivery],
        run: Callable[[Any, Sequence[Delivery]], Awaitable[Sequence[Any]]],
    ) -> list[Any]:
        """Run a handler for many messages in one transaction that writes their inbox rows.

        `run` is given those that were not handled before, if there are any, and returns a result
        for each; one that is an exception leaves its message without a row. Returns a result for
        each delivery, in their order, of which an exception is that message's failure. What `run`
        raises rolls all of it back; it is raised, or returned for those that it was run for.

        :param deliveries: of different ids
        """
        ...


class ThreadRun(Protocol):
    """One run of a `def` handler, with its transaction."""

    def carry_out(self, call: Callable[[Sequence[Delivery]], Any]) -> Any:
        """Run the handler in the calling thread, from the begin of its transaction to the commit.

        `call` is given the messages that were not handled before, if there are any. Returns what
        it returned; for one message, that was handled before, what it returned then.
        """
        ...

    def give_up(self) -> bool:
        """Have the transaction rolled back; False: its commit has begun, and is to be waited for.

        Called where nobody waits for the thread any more.
        """
        ...


RunInThread = Callable[[Any, Any], Awaitable[Any]]
"""Is given a transaction and its `ThreadRun`; has a thread carry it out, and returns the result."""


class ThreadStore(Protocol):
    """What a store does besides for `def` handlers that take a transaction."""

    def prepare_threads(self) -> None:
        """Make ready for them, when the service starts.

        :raises ConfigurationError: what they need is not installed
        """
        ...

    async def run_once_in_thread(self, handler: str, delivery: Delivery, run: RunInThread) -> Any:
        """Run a handler as `TransactionalStore.run_once` does, in a thread."""
        ...

    async def run_batch_once_in_thread(
        self, handler: str, deliveries: Sequence[Delivery], run: RunInThread
    ) -> list[Any]:
        """Run a handler as `TransactionalStore.run_batch_once` does, in a thread."""
        ...


def needs_transaction(plan: Plan, providers: Mapping[Any, Provider]) -> bool:
    """Tell whether an argument of the handler is a store's transaction, or is made from one."""
    return any(_transactions(plan, providers))


def needs_thread(plan: Plan, providers: Mapping[Any, Provider]) -> bool:
    """Tell whether that transaction is one of the handler's thread."""
    return any(_is_synchronous(kind) for kind in _transactions(plan, providers))


def check_transactional(
    handler: Handler,
    others: Iterable[Handler],
    store: TransactionalStore | None,
    service: str,
) -> None:
    """Refuse a handler that takes a transaction where it cannot have one.

    :raises HandlerError: its service has no store, or it is registered for another queue too
    """
    for other in others:
        if other.name == handler.name:
            raise HandlerError(
                f"handler {handler.name}: it is registered for queue {other.queue.name!r} "
                f"already; for {handler.queue.name!r} too, a message that is in both queues "
                "would be handled for one of them only: give each a function of its own"
            )
    if store is None:
        raise HandlerError(
            f"handler {handler.name}: it takes a store's transaction, and service "
            f"{service!r} has no store; say Service(..., store=Store(...))"
        )


def check_kind(handler: Handler, providers: Mapping[Any, Provider]) -> None:
    """Refuse the transaction that is not for this kind of function.

    :raises HandlerError: an `async def` takes the one for threads, or a `def` the other one
    """
    taken = set(handler.plan.injected.values())
    kinds = list(_transactions(handler.plan, providers))
    what = f"handler {handler.name}"
    if handler.is_async and any(_is_synchronous(kind) for kind in kinds):
        raise HandlerError(
            f"{what}: a SyncTransaction is for `def` handlers, and an `async def` handler takes a "
            "Transaction, whose methods it awaits: from mqkit.store import Transaction"
        )
    if handler.is_async:
        return
    if any(kind in taken and not _is_synchronous(kind) for kind in kinds):
        raise HandlerError(
            f"{what}: a Transaction is asynchronous, and a `def` handler takes a SyncTransaction: "
            "from mqkit.store import SyncTransaction; or make the handler `async def`"
        )
    if len({_is_synchronous(kind) for kind in kinds}) > 1:
        raise HandlerError(
            f"{what}: it takes a SyncTransaction, and something of its is made from a Transaction; "
            "the two would be committed one without the other: let that take a SyncTransaction too"
        )


def _is_synchronous(kind: Any) -> bool:
    return bool(getattr(kind, SYNCHRONOUS, False))


def _transactions(plan: Plan, providers: Mapping[Any, Provider]) -> Iterator[Any]:
    """Return the kinds of transactions that a handler takes, or that its arguments take."""
    for kind in plan.injected.values():
        yield from _of_kind(kind, providers)


def _of_kind(kind: Any, providers: Mapping[Any, Provider]) -> Iterator[Any]:
    if getattr(kind, TRANSACTIONAL, False):
        yield kind
        return
    if (provider := providers.get(kind)) is not None:
        for needed in provider.parameters.values():
            yield from _of_kind(needed, providers)
