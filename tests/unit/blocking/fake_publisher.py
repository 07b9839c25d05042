"""Stands for the `Publisher` behind a blocking one: a test says what comes of each message."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mqkit.drivers.base import Incoming
from mqkit.errors import MqkitError
from mqkit.hooks.tracing import PublishSpan
from mqkit.message import Message
from mqkit.publishing.pipeline import PublishResult
from mqkit.topology import Exchange


async def confirmed(_: Message) -> None:
    """What comes of a message unless a test says something else."""


class FakePublisher:
    """Takes messages, and notes what it was given and where."""

    def __init__(self, *_: object, **__: object) -> None:
        self.taken: list[str | None] = []
        self.threads: set[str] = set()
        self.pipelines: list[FakePipeline] = []
        self.noted: list[Exchange | str] = []
        self.closed = 0
        self.fails_to_close = False
        self.reply: Incoming | None = None
        self.comes_of: Callable[[Message], Awaitable[None]] = confirmed

    async def send(self, message: Message, **_: object) -> None:
        self.taken.append(message.properties.message_id)
        self.threads.add(threading.current_thread().name)
        await self.comes_of(message)

    def note(self, exchange: Exchange | str) -> None:
        self.noted.append(exchange)

    async def ask(self, request: Message, _: float) -> Incoming:
        await self.send(request)
        assert self.reply is not None
        return self.reply

    def pipeline(self, _: float) -> FakePipeline:
        self.pipelines.append(FakePipeline())
        return self.pipelines[-1]

    async def close(self, **_: object) -> None:
        self.closed += 1
        if self.fails_to_close:
            raise ZeroDivisionError("a bug")


class FakePipeline:
    """Confirms each message at once, or when a test says so."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.cancelled = threading.Event()
        self.hold = False
        self._results: deque[PublishResult] = deque()
        self._changed = asyncio.Event()

    def begin_message(self, index: int, message: Message, span: PublishSpan | None = None) -> None:
        self.begun.append(index)
        if not self.hold:
            self.finish(index, message.properties.message_id)

    def finish(self, index: int, message_id: str | None, error: MqkitError | None = None) -> None:
        self._results.append(PublishResult(index, message_id, error))
        self._changed.set()

    async def next(self) -> PublishResult:
        while not self._results:
            self._changed.clear()
            await self._changed.wait()
        return self._results.popleft()

    def cancel(self) -> None:
        self.cancelled.set()


def install(monkeypatch: pytest.MonkeyPatch) -> FakePublisher:
    """Let blocking publishers be made with a fake one behind them, the same for all."""
    fake = FakePublisher()

    def make(*_: Any, **__: Any) -> FakePublisher:
        return fake

    monkeypatch.setattr("mqkit.blocking.publisher.Publisher", make)
    return fake
