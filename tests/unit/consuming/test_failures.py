"""What becomes of a message that could not be settled; the judge is tested with the dispatcher."""

from __future__ import annotations

from typing import cast

import pytest

from mqkit import Delivery, Queue, Retry, Service
from mqkit.consuming import failures
from mqkit.consuming.failures import LastResort
from mqkit.consuming.settler import Settler
from mqkit.outcome import DeadLetter, DeathReason, Outcome
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
