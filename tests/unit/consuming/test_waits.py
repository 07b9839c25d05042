"""Looking at what waits, without a broker."""

from __future__ import annotations

from collections.abc import Hashable

from mqkit import Delivery, Queue, Retry, Service
from mqkit.consuming.waits import Waits
from mqkit.registration.handler import Handler


class Here:
    """Holds what it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Delivery] = []
        self.running: list[Delivery] = []

    def held(self) -> tuple[list[Delivery], list[Delivery]]:
        return self.waiting, self.running

    def longest_line(self) -> tuple[Hashable, int]:
        return None, 0

    async def hold_less(self) -> None: ...


def handler() -> Handler:
    """One whose messages may be held for 100 s."""
    service = Service("s", retry=Retry.never())

    @service.handler(Queue("q", arguments={"x-consumer-timeout": 100_000}))
    async def handle(body: bytes) -> None: ...

    return service.handlers[0]


def test_what_has_been_here_for_long_is_slow_where_something_waits() -> None:
    """A long run alone is not, nor is what came since."""
    here = Here()
    waits = Waits(handler(), "q", here)
    here.running = [Delivery()]
    assert not waits.is_slow(0)
    assert not waits.is_slow(50)
    here.waiting = [Delivery()]
    assert waits.is_slow(51)
    here.running = []
    assert not waits.is_slow(52)
    assert not waits.is_slow(65)
    assert waits.is_slow(67)
    here.waiting = [Delivery()]
    assert not waits.is_slow(68)


def test_the_brokers_own_timeout_is_learnt_from_why_it_closed_a_channel() -> None:
    """Where it is less than the queue's."""
    here = Here()
    waits = Waits(handler(), "q", here)
    here.waiting = [Delivery()]
    assert not waits.is_slow(0)
    waits.closed("CONNECTION_FORCED - closed by an administrator")
    assert not waits.is_slow(10)
    waits.closed(
        "PRECONDITION_FAILED - delivery acknowledgement on channel 3 timed out. "
        "Timeout value used: 60000 ms. This timeout value can be configured"
    )
    assert waits.is_slow(10)
