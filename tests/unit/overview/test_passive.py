"""Asking for queues by AMQP, some of which are not there."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from mqkit.broker.connection import Connection
from mqkit.drivers.base import Closed, DriverChannel, QueueState
from mqkit.errors import ChannelClosedError
from mqkit.overview import passive
from mqkit.overview.passive import PassiveListing


class Channel:
    """Closes where a queue is not there."""

    def __init__(self, there: dict[str, int]) -> None:
        self._there = there
        self.why: Closed | None = None
        self.asked: list[str] = []

    @property
    def is_open(self) -> bool:
        """Whether it is open."""
        return self.why is None

    async def declare_queue(self, name: str, *, passive: bool) -> QueueState:
        """Answer, one after the other."""
        assert passive
        self.asked.append(name)
        await asyncio.sleep(0)
        if self.why is None and name not in self._there:
            self.why = Closed(404, "NOT_FOUND")
        if self.why is not None:
            raise self.why.error()
        return QueueState(name, self._there[name], 1)


class Channels:
    """A connection that counts its channels."""

    def __init__(self, there: dict[str, int]) -> None:
        self.there = there
        self.opened: list[Channel] = []

    async def channel(self) -> DriverChannel:
        """Open one."""
        self.opened.append(Channel(self.there))
        return cast(DriverChannel, self.opened[-1])


def listing(connection: Any) -> PassiveListing:
    """One on it."""
    return PassiveListing(cast(Connection, connection))


async def test_one_channel_does_for_hundreds_of_queues() -> None:
    """Look after look."""
    there = {f"q{number}": number for number in range(300)}
    channels = Channels(there)
    made = listing(channels)
    for _ in range(3):
        found = await made.look(list(there))
        assert {each.name: each.ready for each in found} == there
    assert len(channels.opened) == 1


async def test_a_queue_that_is_not_there_hides_no_other_and_is_asked_for_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each time costs a channel."""
    now = [100.0]
    monkeypatch.setattr(passive, "monotonic", lambda: now[0])
    channels = Channels({"a": 1, "c": 3})
    made = listing(channels)
    for _ in range(3):
        assert [each.name for each in await made.look(["a", "b", "c", "d"])] == ["a", "c"]
    opened = len(channels.opened)
    assert opened <= 4
    channels.there["b"] = 2
    now[0] += 61.0
    assert [each.name for each in await made.look(["a", "b", "c"])] == ["a", "b", "c"]
    assert len(channels.opened) <= opened + 1


async def test_a_lost_connection_is_an_error() -> None:
    """Not a system without queues."""

    class Lost(Channel):
        async def declare_queue(self, name: str, *, passive: bool) -> QueueState:
            self.why = Closed(0, "connection lost")
            raise self.why.error()

    class Losing(Channels):
        async def channel(self) -> DriverChannel:
            return cast(DriverChannel, Lost({}))

    with pytest.raises(ChannelClosedError):
        await listing(Losing({})).look(["a"])
