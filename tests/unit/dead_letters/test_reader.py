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


class Channel:
    """A channel of a broker that counts fewer messages than are on their way back to the queue."""

    def __init__(self, counted: int) -> None:
        self._counted = counted
        self.closed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.give: Callable[[Incoming], None] | None = None

    async def declare_queue(self, name: str, *, passive: bool) -> QueueState:
        assert passive
        return QueueState(name, self._counted, 0)

    async def qos(self, prefetch: int) -> None:
        pass

    async def consume(self, queue: str, on_delivery: Callable[[Incoming], None], _: object) -> None:
        self.give = on_delivery

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


async def test_what_does_not_come_back_is_with_somebody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is an error that says how many came."""
    monkeypatch.setattr(reader, "SILENCE", 0.05)
    channel = Channel(counted=0)
    opening = Reader(cast(DriverChannel, channel), "q", lambda *_: None, first=2)
    with pytest.raises(DeadLettersInUseError, match="of 2 messages that it has, 0 came"):
        await opening.__aenter__()
