"""Promises broken on purpose, each by replacing a part of mqkit in this process.

A fuzz that cannot fail shows nothing: each of these must turn it red.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mqkit import retry
from mqkit.consuming.consumer import Consumer
from mqkit.consuming.dispatcher import Dispatcher
from mqkit.consuming.failures import FailureJudge, LastResort
from mqkit.consuming.invoker import Invoker
from mqkit.consuming.republisher import Republisher
from mqkit.consuming.settler import Settler
from mqkit.consuming.together.batching import Batcher
from mqkit.consuming.workers import WorkQueue
from mqkit.errors import HandlerAbortedError
from mqkit.message import Delivery
from mqkit.outcome import Ack, DeadLetter, Outcome, RetryAfter

SOME = 20
"""One in so many is enough, where not all are broken."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A promise that is broken, and how."""

    what: str
    apply: Callable[[], None]


def _replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put in the place of an attribute, which must be there, what is made of it."""
    setattr(owner, name, make(getattr(owner, name)))


def _last_resort(end: Callable[[Settler, Delivery], None]) -> None:
    async def settle(self: LastResort, delivery: Delivery, error: BaseException) -> None:
        end(self._settler, delivery)

    _replace(LastResort, "settle", lambda _: settle)


def _requeue(settler: Settler, delivery: Delivery) -> None:
    settler.requeue(delivery)


def _last_resort_requeues() -> None:
    _last_resort(_requeue)


def _last_resort_acks() -> None:
    _last_resort(lambda settler, delivery: settler._ack(delivery, Ack()))


def _last_resort_forgets() -> None:
    _last_resort(lambda *_: None)


def _last_resort_has_no_end() -> None:
    _replace(Settler, "refuse", lambda _: lambda self, delivery, *_, **__: self.requeue(delivery))


def _base_exceptions_rise() -> None:
    def make(decide: Any) -> Any:
        def mutant(self: Any, delivery: Delivery, error: BaseException, began: float) -> Outcome:
            if isinstance(error, HandlerAbortedError):
                raise error.__cause__ or GeneratorExit
            found: Outcome = decide(self, delivery, error, began)
            return found

        return mutant

    _replace(FailureJudge, "judge", make)


def _unwritable_text() -> None:
    """As a dead letter was, whose error had no text, or one that is no UTF-8."""

    def make(copy: Any) -> Any:
        async def mutant(self: Any, delivery: Delivery, outcome: Outcome) -> Any:
            if isinstance(outcome, DeadLetter):
                str(outcome.error).encode()
            return await copy(self, delivery, outcome)

        return mutant

    _replace(Republisher, "_copy", make)
    _last_resort_requeues()


def _acked_without_a_run() -> None:
    count = itertools.count()

    def make(dispatch: Any) -> Any:
        async def mutant(self: Any, delivery: Delivery) -> Outcome:
            if next(count) % SOME == 0:
                return Ack()
            found: Outcome = await dispatch(self, delivery)
            return found

        return mutant

    _replace(Dispatcher, "dispatch", make)


def _two_dead_letters() -> None:
    def make(publish: Any) -> Any:
        async def mutant(self: Any, delivery: Delivery, outcome: Outcome, then: Any) -> None:
            if isinstance(outcome, DeadLetter):
                await self._send(await self._copy(delivery, outcome))
            await publish(self, delivery, outcome, then)

        return mutant

    _replace(Republisher, "_publish_copy", make)


def _ack_before_confirm() -> None:
    def make(publish: Any) -> Any:
        async def mutant(self: Any, delivery: Delivery, outcome: Outcome, then: Any) -> None:
            then(delivery, outcome)
            await publish(self, delivery, outcome, then)

        return mutant

    _replace(Republisher, "_publish_copy", make)


def _retries_are_lost() -> None:
    def make(settle: Any) -> Any:
        async def mutant(self: Any, delivery: Delivery, outcome: Outcome) -> None:
            await settle(self, delivery, Ack() if isinstance(outcome, RetryAfter) else outcome)

        return mutant

    _replace(Settler, "settle", make)


def _attempts_are_not_counted() -> None:
    def make(settle: Any) -> Any:
        async def mutant(self: Any, delivery: Delivery, outcome: Outcome) -> None:
            if isinstance(outcome, RetryAfter):
                outcome = replace(outcome, counted=False)
            await settle(self, delivery, outcome)

        return mutant

    _replace(Settler, "settle", make)


def _batches_forget_one() -> None:
    def make(handle: Any) -> Any:
        async def mutant(self: Any, items: list[Any]) -> None:
            await handle(self, items[:-1] if len(items) > 1 else items)

        return mutant

    _replace(Batcher, "_handle", make)


def _slots_leak() -> None:
    count = itertools.count(1)

    def make(done: Any) -> Any:
        def mutant(self: Any, key: Any) -> None:
            done(self, key)
            if next(count) % 2 == 0:
                self._free -= 1

        return mutant

    _replace(WorkQueue, "done", make)


def _groups_are_not_looked_into() -> None:
    _replace(retry, "instruction", lambda _: lambda error: error)


def _unrun_results_are_acked() -> None:
    _replace(Invoker, "check_result", lambda _: lambda self, result: None)


_spinning: set[asyncio.Task[None]] = set()


def _consumers_poll() -> None:
    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    def make(run: Any) -> Any:
        async def mutant(self: Any) -> None:
            task = asyncio.create_task(spin())
            _spinning.add(task)
            try:
                await run(self)
            finally:
                task.cancel()

        return mutant

    _replace(Consumer, "run", make)


def _a_task_is_left() -> None:
    def make(stop: Any) -> Any:
        async def mutant(self: Any) -> None:
            _spinning.add(asyncio.create_task(asyncio.sleep(3600)))
            await stop(self)

        return mutant

    _replace(Consumer, "stop", make)


MUTANTS = {
    "last-resort-requeues": Mutant("the last resort requeues at once", _last_resort_requeues),
    "last-resort-acks": Mutant("the last resort acks", _last_resort_acks),
    "last-resort-forgets": Mutant("the last resort settles nothing", _last_resort_forgets),
    "last-resort-without-end": Mutant(
        "the last resort requeues in the end", _last_resort_has_no_end
    ),
    "base-exceptions-rise": Mutant("a BaseException is not caught", _base_exceptions_rise),
    "unwritable-text": Mutant("a dead letter without text is requeued", _unwritable_text),
    "acked-without-a-run": Mutant("some messages are acked and not run", _acked_without_a_run),
    "two-dead-letters": Mutant("a dead letter is published twice", _two_dead_letters),
    "ack-before-confirm": Mutant("acked before the copy is confirmed", _ack_before_confirm),
    "retries-are-lost": Mutant("acked in the place of a retry", _retries_are_lost),
    "attempts-not-counted": Mutant("an attempt is not counted", _attempts_are_not_counted),
    "batches-forget-one": Mutant("one of a batch is never resolved", _batches_forget_one),
    "slots-leak": Mutant("a slot of the work queue leaks", _slots_leak),
    "groups-not-looked-into": Mutant("a Reject in a group is retried", _groups_are_not_looked_into),
    "unrun-results": Mutant("a result that has yet to run is acked", _unrun_results_are_acked),
    "consumers-poll": Mutant("a consumer turns while idle", _consumers_poll),
    "a-task-is-left": Mutant("a task is left behind", _a_task_is_left),
}
