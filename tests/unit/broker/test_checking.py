"""What is declared by a service that declares nothing."""

from __future__ import annotations

from typing import Any, cast

from mqkit.broker.checking import checking
from mqkit.drivers.base import DriverChannel, QueueState


class Recorder:
    """A channel that notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, bool]] = []
        self.publish = self.ack = lambda *_: None

    async def declare_exchange(self, name: str, type: str, *, passive: bool = False) -> None:  # noqa: A002
        self.calls.append(("exchange", name, passive))

    async def declare_queue(self, name: str, *, passive: bool = False, **_: Any) -> QueueState:
        self.calls.append(("queue", name, passive))
        return QueueState(name, 0, 0)

    async def bind_queue(self, queue: str, *_: Any) -> None:
        self.calls.append(("binding", queue, False))

    async def qos(self, prefetch: int) -> None:
        self.calls.append(("qos", str(prefetch), False))


def made() -> tuple[DriverChannel, Recorder]:
    """A channel that only looks, and what is under it."""
    recorder = Recorder()
    return checking(cast(DriverChannel, recorder), set()), recorder


async def test_declarations_look_and_bindings_do_nothing() -> None:
    """All else is handed on."""
    channel, recorder = made()
    await channel.declare_exchange("x", "topic", arguments={"alternate-exchange": "y"})
    await channel.declare_queue("q", arguments={"x-queue-type": "quorum"})
    await channel.bind_queue("q", "x", "k")
    await channel.bind_exchange("x", "y", "k")
    await channel.qos(5)
    assert recorder.calls == [("exchange", "x", True), ("queue", "q", True), ("qos", "5", False)]


async def test_queues_that_nobody_else_can_declare_are() -> None:
    """And are bound, on whichever channel of the connection."""
    own: set[str] = set()
    recorder = Recorder()
    for name, options in (
        ("a", {"exclusive": True}),
        ("b", {"auto_delete": True}),
        ("c", {"arguments": {"x-expires": 1000}}),
    ):
        channel = checking(cast(DriverChannel, recorder), own)
        await channel.declare_queue(name, **options)
        await checking(cast(DriverChannel, recorder), own).bind_queue(name, "x", "k")
    assert recorder.calls == [
        call for name in "abc" for call in (("queue", name, False), ("binding", name, False))
    ]
