"""Runs handlers once for each message: alone, in groups or in batches; judges what fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

from mqkit.errors import MessageIdError, StatementError, StoreError, StoreUnavailableError
from mqkit.message import Delivery
from mqkit.store import inbox
from mqkit.store.open_store import OpenStore
from mqkit.store.running.group_size import GroupSize
from mqkit.store.running.groups import Groups
from mqkit.store.running.once import Once, RunMany
from mqkit.store.running.transient import Key
from mqkit.store.transaction import Transaction


class Runs:
    """Runs handlers once for each message, with a store that is open; judges what fails."""

    def __init__(self, once: Once, *, max_group: int) -> None:
        """Run nothing yet.

        :param max_group: messages that share a transaction at most
        """
        self._once = once
        self._max_group = max_group
        self._groups: dict[tuple[OpenStore, str, str], Groups] = {}

    async def once(
        self,
        opened: OpenStore,
        handler: str,
        delivery: Delivery,
        run: Callable[[Transaction], Awaitable[Any]],
    ) -> Any:
        """Run a handler for a message: `Store.run_once`."""
        inbox.check_id(handler, delivery.message_id)
        key = _key(handler, delivery)
        try:
            result = await self._once.one(opened, handler, delivery, run)
        except (StoreUnavailableError, StatementError) as error:
            judged = await opened.judge(key, error)
            if judged is error:
                raise
            # Not from the error: a pause looks for it among the causes.
            raise judged from error.__cause__
        opened.transient.ended(key)
        return result

    def once_in_group(
        self,
        opened: OpenStore,
        handler: str,
        delivery: Delivery,
        run: Callable[[Transaction], Awaitable[Any]],
        *,
        at_once: int,
    ) -> Coroutine[Any, Any, Any]:
        """Run a handler for a message, maybe with others in one transaction: `Store.run_once`."""
        inbox.check_id(handler, delivery.message_id)
        key = (opened, handler, delivery.queue)
        groups = self._groups.get(key)
        if groups is None:
            size = GroupSize(at_once=min(at_once, opened.database.at_once), most=self._max_group)
            groups = self._groups[key] = Groups(opened, handler, self._once, size)
        return groups.run(delivery, run)

    def under_way(self, opened: OpenStore, handler: str) -> int:
        """Return how many messages of a handler are of use at a time; 0 where none came yet."""
        of_handler = (g for (o, h, _), g in self._groups.items() if o is opened and h == handler)
        return sum(each.size.under_way for each in of_handler)

    def forget(self, opened: OpenStore) -> None:
        """Forget the groups of a store that is closed."""
        for key, groups in self._groups.items():
            if key[0] is opened:
                groups.close()
        self._groups = {key: each for key, each in self._groups.items() if key[0] is not opened}

    async def batch_once(
        self, opened: OpenStore, handler: str, deliveries: Sequence[Delivery], run: RunMany
    ) -> list[Any]:
        """Run a handler for messages of different ids: `Store.run_batch_once`."""
        results: dict[Delivery, Any] = {}
        for each in deliveries:
            try:
                inbox.check_id(handler, each.message_id)
            except MessageIdError as error:
                results[each] = error
        left = [each for each in deliveries if each not in results]
        try:
            if left:
                await self._once.many(opened, handler, left, run, results)
                await _judge_results(opened, handler, results)
        except (StoreUnavailableError, StatementError) as error:
            failed = [each for each in left if each not in results]
            results.update(await _judged(opened, handler, failed, error))
        except Exception as error:
            if not results:
                raise
            # What was handled before stays handled, whatever becomes of the others.
            results = dict.fromkeys(deliveries, error) | results
        for each in left:
            if not isinstance(results[each], StoreUnavailableError):
                opened.transient.ended(_key(handler, each))
        try:
            return [results[each] for each in deliveries]
        finally:
            results.clear()  # with an error's traceback, which has this frame, it would be a cycle


async def _judge_results(opened: OpenStore, handler: str, results: dict[Delivery, Any]) -> None:
    """Judge what a handler has caught and returned, where it blames the database."""
    for each, result in list(results.items()):
        if (error := opened.database.failure(result)) is not None:
            results.update(await _judged(opened, handler, [each], error))


async def _judged(
    opened: OpenStore,
    handler: str,
    deliveries: Sequence[Delivery],
    error: StoreUnavailableError | StatementError,
) -> Iterator[tuple[Delivery, StoreError]]:
    judged = await opened.judge_many([_key(handler, each) for each in deliveries], error)
    for each in judged:
        if each is not error:
            # Not from the error: a pause looks for it among the causes.
            each.__cause__ = error.__cause__
    return zip(deliveries, judged, strict=True)


def _key(handler: str, delivery: Delivery) -> Key:
    return handler, delivery.queue, delivery.message_id or ""
