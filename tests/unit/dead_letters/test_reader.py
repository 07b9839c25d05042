"""A queue is read whole before anything is taken out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from mqkit.dead_letters import reader
from mqkit.dead_letters.errors import DeadLettersInUseError
from mqkit.dead_letters.reader import Reader
from mqkit.drivers.base import DriverChannel, Incoming, QueueState
from mqkit.errors import BrokerError


class Channel:
    """A channel of a broker that counts fewer messages than are on their way back to the queue."""

    def __init__(self, counted: int) -> None:
        self._counted = counted
        self.closed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.give: Callable[[Incoming], None] | None = None
        self.consumers = 0

    async def declare_queue(self, name: str, *, passive: bool) -> QueueState:
        assert passive
        return QueueState(name, self._counted, self.consumers)

    async def qos(self, prefetch: int) -> None:
        pass

    async def consume(self, queue: str, on_delivery: Callable[[Incoming], None], _: object) -> None:
        self.give = on_delivery
        self.consumers += 1

    def ack(self, tag: int) -> None:
        pass

    async def close(self) -> None:
        pass


async def test_a_reading_waits_for_what_an_earlier_one_gave_back() -> None:
    """The broker counts it a moment later; a replay in parts ended before its end by that."""
    channel, taken = Channel(counted=1), [0, 0]

    def take(_: Incoming, arrived: bool) -> None:
        taken[arrived] += 1

    async def open_reader() -> Reader:
        return await Reader(cast(DriverChannel, channel), "q", take, first=3).__aenter__()

    opening = asyncio.ensure_future(open_reader())
    for _ in range(2):
        await asyncio.sleep(0)
        while channel.give is None:
            await asyncio.sleep(0)
        channel.give(cast(Incoming, None))
    await asyncio.sleep(0.01)
    assert not opening.done()
    assert channel.give is not None
    channel.give(cast(Incoming, None))
    assert (await opening).first == 3
    channel.give(cast(Incoming, None))
    assert taken == [3, 1]


class LateChannel(Channel):
    """A channel of a broker that counts what came back only once a consumer is there."""

    def __init__(self, back: int, ready: int) -> None:
        super().__init__(counted=0)
        self._back, self._ready = back, ready

    async def declare_queue(self, name: str, *, passive: bool) -> QueueState:
        assert passive
        if self.give is None:
            return QueueState(name, 0, 0)
        back, self._back = self._back, 0
        for _ in range(back):
            self.give(cast(Incoming, None))
        asyncio.get_running_loop().call_soon(self._deliver_ready)
        return QueueState(name, self._ready, self.consumers)

    def _deliver_ready(self) -> None:
        ready, self._ready = self._ready, 0
        for _ in range(ready):
            assert self.give is not None
            self.give(cast(Incoming, None))


@pytest.mark.parametrize(("back", "ready"), [(0, 0), (3, 0), (0, 3), (2, 1)])
async def test_a_reading_counts_what_the_broker_counts_late(back: int, ready: int) -> None:
    """A listing right after another one said that there was nothing; what comes later arrives."""
    channel, taken = LateChannel(back, ready), [0, 0]

    def take(_: Incoming, arrived: bool) -> None:
        taken[arrived] += 1

    async with Reader(cast(DriverChannel, channel), "q", take) as opened:
        assert opened.first == back + ready
        assert channel.give is not None
        channel.give(cast(Incoming, None))
    assert taken == [back + ready, 1]


class BusyChannel(Channel):
    """A channel that answers a count before it sends what the queue handed to it meanwhile."""

    def __init__(self, handed: int, *, is_counted: bool = True) -> None:
        super().__init__(counted=0)
        self._handed, self._is_counted = handed, is_counted
        self._behind_count = False

    async def declare_queue(self, name: str, *, passive: bool) -> QueueState:
        assert passive
        self._behind_count = self.give is not None
        return QueueState(name, 0, self.consumers if self._is_counted else 0)

    async def qos(self, prefetch: int) -> None:
        handed, self._handed = (self._handed, 0) if self._behind_count else (0, self._handed)
        for _ in range(handed):
            assert self.give is not None
            self.give(cast(Incoming, None))


async def test_what_the_queue_handed_to_a_busy_channel_is_read_too() -> None:
    """All 200 were on their way when the broker counted none: a listing said there were none."""
    channel = BusyChannel(200)
    async with Reader(cast(DriverChannel, channel), "q", lambda *_: None) as opened:
        assert opened.first == 200


async def test_a_queue_that_cannot_be_counted_is_not_empty() -> None:
    """A count without the reading's own consumer is none; who lists is told, and not of nothing."""
    channel = BusyChannel(200, is_counted=False)
    with pytest.raises(BrokerError, match="cannot count queue q now"):
        await Reader(cast(DriverChannel, channel), "q", lambda *_: None).__aenter__()


async def test_a_reading_of_more_than_a_consumer_may_hold_takes_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is room for an arrival, too: the last consumer is never full."""
    monkeypatch.setattr(reader, "PREFETCH", 2)
    channel = LateChannel(back=2, ready=3)
    async with Reader(cast(DriverChannel, channel), "q", lambda *_: None) as opened:
        assert opened.first == 5
    assert channel.consumers == 3


async def test_what_does_not_come_back_is_with_somebody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is an error that says how many came."""
    monkeypatch.setattr(reader, "SILENCE", 0.05)
    channel = Channel(counted=0)
    opening = Reader(cast(DriverChannel, channel), "q", lambda *_: None, first=2)
    with pytest.raises(DeadLettersInUseError, match="of 2 messages that it has, 0 came"):
        await opening.__aenter__()


async def test_a_reading_ends_once_what_it_gave_back_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the next one would see none or a part of it; what was taken out does not come back."""
    monkeypatch.setattr(reader, "COUNT_AGAIN", 0)
    monkeypatch.setattr(reader, "APPLIED", 0)
    counts = iter([0, 1, 2, 3])
    asked = []

    async def count() -> int:
        asked.append(next(counts))
        return asked[-1]

    channel = LateChannel(back=3, ready=0)
    async with Reader(cast(DriverChannel, channel), "q", lambda *_: None, count=count) as opened:
        opened.take_out(1)
        assert asked == []
    assert asked == [0, 1, 2]


async def test_what_somebody_takes_meanwhile_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A handler that begins just then has it."""
    monkeypatch.setattr(reader, "COUNTED", 0.05)

    async def count() -> int:
        return 0

    channel = LateChannel(back=1, ready=0)
    async with Reader(cast(DriverChannel, channel), "q", lambda *_: None, count=count):
        pass
