"""Many messages under way at once, and the result of each as it is known."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from mqkit.checks.checked import shown
from mqkit.errors import InvalidMessageError, MqkitError
from mqkit.message import Message, maker
from mqkit.publishing.confirms import Acked, Verdict
from mqkit.publishing.outgoing import Outgoing
from mqkit.publishing.sender import Late, Sender

OnConfirmed = Callable[[Message], None]
"""Told of each message once the broker has confirmed it.

It is called on the event loop and must return at once. What it raises is logged: the message is
published all the same.
"""


@dataclass(frozen=True, slots=True)
class PublishResult:
    """What became of one message of `publish_many`; `error` is None where it was confirmed."""

    index: int
    message_id: str | None
    error: MqkitError | None


_result = maker(PublishResult)


class _Written:
    """One message that was written, until the broker's verdict.

    It waits as a future does, but its verdict is judged when it comes and not in a later turn of
    the loop; a future, its callback and that turn took more than the rest of a publish.
    """

    __slots__ = ("_done", "_many", "began", "index", "message")

    def __init__(self, many: Many, index: int, message: Message, began: float) -> None:
        self._many = many
        self._done = False
        self.index = index
        self.message = message
        self.began = began

    def done(self) -> bool:
        return self._done

    def set_result(self, verdict: Verdict | Late) -> None:
        self._done = True
        self._many.judge(self, verdict)


class Many:
    """Messages under way, each without a task of its own unless it has to wait.

    While one waits, or is written again since its channel was lost, later ones are held, or they
    would be in the queue before it.
    """

    def __init__(self, sender: Sender, tell: OnConfirmed, seconds: float) -> None:
        self._sender = sender
        self._tell = tell
        self._seconds = seconds
        self._begun = self._ended = 0
        self._unjudged = 0
        """Written without a task, and the broker has not said yet what became of them."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: deque[tuple[int, Message, float]] = deque()
        self._any = asyncio.Event()
        self._broken: BaseException | None = None
        self.finished: deque[PublishResult] = deque()

    def __len__(self) -> int:
        """How many have begun, and were not given by `next`."""
        return self._begun - self._ended

    async def next(self) -> PublishResult:
        """The next one that is known.

        Raises what only a defect can: all that a publish may raise is in its result.
        """
        while not self.finished:
            if self._broken is not None:
                raise self._broken
            self._any.clear()
            await self._any.wait()
        self._ended += 1
        return self.finished.popleft()

    def begin(self, outgoing: object, to_message: Callable[[Outgoing], Message]) -> None:
        """Publish one more."""
        index = self._begun
        self._begun += 1
        if not isinstance(outgoing, Outgoing):
            problem = f"message {index}: publish_many takes Outgoing, not {shown(outgoing)}"
            self._finish(index, None, InvalidMessageError(problem))
            return
        message_id = outgoing.message_id
        try:
            message = to_message(outgoing)
            message_id = message.properties.message_id
            began = time.monotonic()
            if self._held or self._tasks or not self._write(index, message, began, self._seconds):
                self._held.append((index, message, began))
                self._release()
        except MqkitError as error:
            self._finish(index, message_id, error)

    def _write(self, index: int, message: Message, began: float, left: float) -> bool:
        """Write it now, unless something is to be waited for; `left` are the seconds it has."""
        if not self._sender.write(message, left, _Written(self, index, message, began)):
            return False
        self._unjudged += 1
        return True

    def _release(self) -> None:
        """Go on with what is held, once all that is before it is where it belongs."""
        while self._held and not self._tasks:
            index, message, began = self._held[0]
            # Rounded: all deadlines that are as many seconds away share a timer.
            left = round(began + self._seconds - time.monotonic(), 1)
            try:
                written = left > 0 and self._write(index, message, began, left)
            except MqkitError as error:
                self._held.popleft()
                self._finish(index, message.properties.message_id, error)
                continue
            if not written:
                if self._unjudged:
                    return
                self._go_on(index, message, self._sender.send(message, self._seconds, began))
            self._held.popleft()

    def cancel(self) -> None:
        """Wait for no more; what is written stays so."""
        self._held.clear()
        for task in self._tasks:
            task.cancel()

    def judge(self, written: _Written, verdict: Verdict | Late) -> None:
        """Be told what became of a message; what a defect raises, `next` raises."""
        self._unjudged -= 1
        try:
            self._sender.give_place()
            self._judge(written, verdict)
        except Exception as error:  # noqa: BLE001 - `next` raises it
            self._break(error)

    def _judge(self, written: _Written, verdict: Verdict | Late) -> None:
        message = written.message
        if isinstance(verdict, Acked):
            self._tell(message)
            self._finish(written.index, message.properties.message_id)
        else:
            fate = self._sender.go_on(message, verdict, self._seconds, written.began)
            self._go_on(written.index, message, fate)
        if self._held:
            self._release()

    def _go_on(self, index: int, message: Message, fate: Coroutine[Any, Any, None]) -> None:
        async def to_its_end() -> None:
            try:
                await fate
            except MqkitError as error:
                self._finish(index, message.properties.message_id, error)
            else:
                self._tell(message)
                self._finish(index, message.properties.message_id)

        task = asyncio.create_task(to_its_end())
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._break(error)
        self._release()

    def _break(self, error: BaseException) -> None:
        self._broken = error
        self._any.set()

    def _finish(self, index: int, message_id: str | None, error: MqkitError | None = None) -> None:
        self.finished.append(_result(index, message_id, error))
        if not self._any.is_set():
            self._any.set()
