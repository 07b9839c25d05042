"""How partitions are spread over processes."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit import Queue, Retry, Service
from mqkit.consuming.handover.priorities import PRIORITIES, priority_arguments
from mqkit.registration.handler import Handler


def handler_of(queue: Queue, **options: Any) -> Handler:
    service = Service("s", retry=Retry.never())

    @service.handler(queue, **options)
    async def handle(body: dict[str, str]) -> None: ...

    return service.handlers[0]


def test_partitions_are_spread_by_priorities() -> None:
    """Each consumer of several partitions draws one, so that no process has them all."""
    handler = handler_of(Queue("q", partitions=8), order_by="account")
    drawn = [priority_arguments(handler, "q.3") for _ in range(20)]
    assert all(each is not None and 0 <= each["x-priority"] < PRIORITIES for each in drawn)
    assert len({each["x-priority"] for each in drawn if each}) > 1


@pytest.mark.parametrize(
    ("queue", "options"),
    [
        (Queue("q"), {}),
        (Queue("q", partitions=1), {"order_by": "account"}),
        (Queue("q", partitions=8), {"order_by": "account"}),
    ],
)
def test_what_one_process_consumes_in_any_case_has_no_priority(queue: Queue, options: Any) -> None:
    """There is nothing to spread, and RabbitMQ 4.3.6 may lose the active consumer by moving it."""
    assert priority_arguments(handler_of(queue, **options), "q") is None
