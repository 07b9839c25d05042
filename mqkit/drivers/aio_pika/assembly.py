"""Puts together what comes by one channel: messages of their frames, answers to their calls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiormq.abc import FrameType

from mqkit.amqp import content_header
from mqkit.drivers.base import Closed
from mqkit.message import Properties


class Inbox:
    """Stands where aiormq has a channel's queue of frames, and deals with each frame at once."""

    def __init__(self, on_frame: Callable[[FrameType], None]) -> None:
        self._on_frame = on_frame

    async def put(self, item: tuple[int, FrameType]) -> None:
        """Take a frame; called by the task that reads from the socket, in order."""
        self._on_frame(item[1])


class Assembly:
    """Puts a message together from the payloads of its method, its header and its body frames."""

    def __init__(self) -> None:
        self._method: bytes | None = None
        self._properties: Properties | None = None
        self._parts: list[bytes] = []
        self._missing = 0
        self.is_broken = False
        """Set where something could not be dealt with: nobody knows what comes next."""

    def add(self, payload: bytes) -> tuple[bytes, Properties, bytes] | None:
        """Take a payload; return method, properties and body of the message if that was its last.

        :raises Exception: one of `mqkit.amqp.field_tables.UNREADABLE`: this is no content header
        """
        if self.is_broken:
            return None
        if self._method is None:
            self._method = payload
            return None
        if self._properties is None:
            self._missing, self._properties = content_header.decode(payload, 0, len(payload))
        else:
            self._parts.append(payload)
            self._missing -= len(payload)
        if self._missing > 0:
            return None
        parts = self._parts
        message = self._method, self._properties, parts[0] if len(parts) == 1 else b"".join(parts)
        self._method, self._properties, self._parts = None, None, []
        return message


@dataclass(slots=True)
class _Call:
    data: bytes
    answers: tuple[type, ...]
    future: asyncio.Future[Any]
    sent: bool = False


class Calls:
    """Sends the synchronous methods of a channel, each when the one before has its answer.

    A caller may go away before the answer comes; it is taken all the same, and the channel
    goes on.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._waiting: deque[_Call] = deque()
        self._refused: list[_Call] = []

    def send(self, data: bytes, answers: tuple[type, ...]) -> asyncio.Future[Any]:
        """Send a method when it is its turn; return a future of its answer."""
        call = _Call(data, answers, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._send_next()
        return call.future

    def answer(self, kind: type, result: Any) -> bool:
        """Give `result` to the call that a method answers; False if nobody waits for it any more.

        :raises ValueError: it answers nothing
        """
        first = self._waiting[0] if self._waiting else None
        if first is None or not first.sent or not issubclass(kind, first.answers):
            raise ValueError(f"{kind.__name__} answers nothing")
        self._waiting.popleft()
        wanted = not first.future.done()
        if wanted:
            first.future.set_result(result)
        self._send_next()
        return wanted

    def finish(self, calls: Iterable[tuple[bytes, tuple[type, ...]]], close: bytes) -> None:
        """Send these after the call under way, and `close` last; refuse what waits for its turn."""
        under_way = [call for call in self._waiting if call.sent]
        self._refused = [call for call in self._waiting if not call.sent]
        self._waiting = deque(under_way)
        for data, answers in calls:
            self.send(data, answers)
        self.send(close, ())

    def fail(self, why: Closed) -> None:
        """Fail all calls: nothing will be answered any more."""
        waiting, self._waiting = [*self._waiting, *self._refused], deque()
        for call in waiting:
            if not call.future.done():
                call.future.set_exception(why.error())
                call.future.exception()  # those of `finish` are awaited by nobody

    def _send_next(self) -> None:
        while self._waiting and not self._waiting[0].sent:
            if self._waiting[0].future.done():  # its caller went before it was its turn
                self._waiting.popleft()
                continue
            self._waiting[0].sent = True
            self._write(self._waiting[0].data)
