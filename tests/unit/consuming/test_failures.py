"""What becomes of a message that could not be settled; the judge is tested with the dispatcher."""

from __future__ import annotations

from typing import cast

import pytest

from mqkit import Delivery, Queue, Retry, Service
from mqkit.consuming import failures
from mqkit.consuming.failures import FailureJudge, LastResort
from mqkit.consuming.settler import Settler
from mqkit.errors import StoreConflictError, UncountedError
from mqkit.outcome import DeadLetter, DeathReason, Outcome, RetryAfter
from mqkit.registration.handler import Handler


def handler() -> Handler:
    """One whose queue mqkit declares, with dead letters."""
    service = Service("s", retry=Retry.never())

    @service.handler(Queue("q"))
    async def handle(body: bytes) -> None: ...

    return service.handlers[0]


async def test_the_last_resort_leaves_it_to_the_broker_after_several_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each dead letter that fails is tried again after a wait; the last error counts."""
    monkeypatch.setattr(failures, "LAST_RESORT_WAITS", (0.0, 0.001))
    tried: list[Outcome] = []
    refused: list[tuple[BaseException, bool]] = []

    class Failing:
        async def settle(self, delivery: Delivery, outcome: Outcome) -> None:
            tried.append(outcome)
            raise KeyError(len(tried))

        def refuse(self, delivery: Delivery, error: BaseException, *, requeue: bool) -> None:
            refused.append((error, requeue))

    first = ValueError("why")
    await LastResort(handler(), cast("Settler", Failing())).settle(Delivery(), first)
    assert tried == [DeadLetter(DeathReason.UNSETTLED, first)] * 2
    ((error, requeue),) = refused
    assert (str(error), requeue) == ("2", False)


@pytest.mark.parametrize("wait", [None, 0.25])
def test_a_conflict_at_a_row_costs_no_attempt(wait: float | None) -> None:
    """Whatever the policy says: it is tried again after the error's own wait, or a drawn one."""
    error: UncountedError = StoreConflictError("another message was quicker")
    error.wait = wait
    judge = FailureJudge(handler(), has_transaction=True)
    outcome = judge.judge(Delivery(attempt=7), error, began=0.0)
    assert isinstance(outcome, RetryAfter)
    assert not outcome.counted
    assert failures.STORE_WAIT_MIN <= outcome.delay <= failures.STORE_WAIT_MAX or (
        outcome.delay == wait
    )


def test_without_a_transaction_such_an_error_is_the_handler_s_own() -> None:
    """It is of a store that the handler has opened itself, and its policy judges it."""
    judge = FailureJudge(handler(), has_transaction=False)
    outcome = judge.judge(Delivery(), StoreConflictError("somewhere else"), began=0.0)
    assert isinstance(outcome, DeadLetter)
