"""Looking at what waits, without a broker."""

from __future__ import annotations

from mqkit import Delivery, Queue, Retry, Service
from mqkit.consuming.pausing.waits import Waits
from mqkit.registration.handler import Handler


def handler() -> Handler:
    """One whose messages may be held for 100 s."""
    service = Service("s", retry=Retry.never())

    @service.handler(Queue("q", arguments={"x-consumer-timeout": 100_000}))
    async def handle(body: bytes) -> None: ...

    return service.handlers[0]


def test_what_has_been_here_for_long_is_slow_where_something_waits() -> None:
    """A long run alone is not, nor is what came since."""
    waits = Waits(handler(), "q")
    first, second, third = Delivery(), Delivery(), Delivery()
    assert not waits.is_slow([], [first], 0)
    assert not waits.is_slow([], [first], 50)
    assert waits.is_slow([second], [first], 51)
    assert not waits.is_slow([second], [], 52)
    assert not waits.is_slow([second], [], 65)
    assert waits.is_slow([second], [], 67)
    assert not waits.is_slow([third], [], 68)


def test_the_brokers_own_timeout_is_learnt_from_why_it_closed_a_channel() -> None:
    """Where it is less than the queue's."""
    waits, waiting = Waits(handler(), "q"), [Delivery()]
    assert not waits.is_slow(waiting, [], 0)
    waits.closed("CONNECTION_FORCED - closed by an administrator")
    assert not waits.is_slow(waiting, [], 10)
    waits.closed(
        "PRECONDITION_FAILED - delivery acknowledgement on channel 3 timed out. "
        "Timeout value used: 60000 ms. This timeout value can be configured"
    )
    assert waits.is_slow(waiting, [], 10)
